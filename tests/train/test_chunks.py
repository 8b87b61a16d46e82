"""Evaluation in chunks: the same metrics below, at and above the size of a chunk, for every model.

What would make this wrong: a model made outside of the loop over chunks, whose variables the loop
may not write; a mean over chunks of unequal size that counts them equally.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import dropout_jax as dj
from dropout_jax import train
from dropout_jax.train import metrics

KEY = jax.random.key(0)
CHUNK = 6
SIZES = [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1]


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "CHUNK", CHUNK)
        jax.clear_caches()  # of programs with chunks of the usual size
        yield


class Recurrent(nnx.Module):
    """An RNN, whose carry has a stream of random numbers that moves in each call."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.rnn = nnx.RNN(nnx.LSTMCell(2, 4, rngs=rngs), rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(self.rnn(x.reshape(len(x), 2, 2))[:, -1])


class Writing(nnx.Module):
    """A linear layer that `write` is called on, with each input."""

    def __init__(self, write):
        self.linear, self.write = nnx.Linear(4, 3, rngs=nnx.Rngs(0)), write
        self.count, self.rngs = nnx.Variable(jnp.zeros(())), nnx.Rngs(noise=1)

    def __call__(self, x):
        self.write(self, x)
        return self.linear(x)


def counts(model, x):
    model.count[...] = model.count[...] + len(x)


def samples(model, x):
    model.rngs.noise()


def sows(model, x):
    model.sow(nnx.Intermediate, "seen", x)


MODELS = {
    "plain": lambda: nnx.Linear(4, 3, rngs=nnx.Rngs(0)),
    "RNN": Recurrent,
    "counter": lambda: Writing(counts),
    "sampling": lambda: Writing(samples),
    "sow": lambda: Writing(sows),
}


def task(n):
    x = jax.random.normal(jax.random.key(1), (n, 4))
    return x, jnp.arange(n) % 3


def expected(model, x, y):
    logits = np.asarray(model(x), np.float64)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return {"loss": -logs[np.arange(len(y)), y].mean(), "error": (logits.argmax(-1) != y).mean()}


@pytest.mark.filterwarnings("ignore:Using 'Module.sow")
@pytest.mark.parametrize(
    ("name", "n"),
    [("plain", n) for n in SIZES]
    + [(m, n) for m in list(MODELS)[1:] for n in (SIZES[0], SIZES[4])],
)
def test_evaluate_at_below_and_above_a_chunk(name, n):
    x, y = task(n)
    found = dj.evaluate(MODELS[name](), x, y)
    for metric, value in expected(MODELS[name](), x, np.asarray(y)).items():
        assert found[metric] == pytest.approx(value, rel=1e-5)


@pytest.mark.filterwarnings("ignore:Using 'Module.sow")
@pytest.mark.parametrize("name", ["RNN", "counter", "sampling", "sow"])
def test_fit_and_make_train_above_a_chunk(name):
    x, y = task(2 * CHUNK + 1)
    options = {"epochs": 1, "batch_size": 4}
    model = MODELS[name]()
    history = dj.fit(
        model, optax.sgd(0.1), x, y, key=KEY, validation_data=(x, y), progress=False, **options
    )
    found = dj.evaluate(model, x, y)
    assert float(history["val_loss"][-1]) == pytest.approx(found["loss"], rel=1e-5)
    run = train.make_train(lambda *_: MODELS[name](), lambda _: optax.sgd(0.1), **options)
    result = jax.jit(run)(KEY, {}, {"train": (x, y)})
    np.testing.assert_allclose(result.metrics["train_loss"], history["val_loss"], rtol=1e-5)


def test_data_of_numpy_inside_of_a_program():
    """A constant of the program, as where a run is written around its data."""
    x = np.arange(2.0 * CHUNK + 1, dtype=np.float32)
    found = jax.jit(lambda: metrics.mean_in_chunks(lambda x, y: jnp.mean(x * y), x, x))()
    np.testing.assert_allclose(found, np.mean(x**2), rtol=1e-6)
