"""Training whole models: `dj.fit` beside Keras on JAX and beside a plain loop of jitted steps.

Seconds an epoch, to the end of the first epoch, which compiles, and of the call that follows.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import dropout_jax as dj
from dropout_jax.layers import Dropout
from experiments.benchmark.libraries import Library
from experiments.benchmark.suites import Plan, Row
from experiments.harness import timing
from experiments.harness.cli import text_table
from experiments.records.libraries import KERAS, OURS, PLAIN_LOOP

CLASSES, VOCABULARY, RATE = 10, 100, 0.2
COLUMNS = ("model", "library", "epoch_s", "epoch_iqr_s", "first_call_s", "second_call_s")


class Workload(NamedTuple):
    """A model in both libraries, and random data of its kind."""

    batch: int
    shape: tuple[int, ...]
    model: Callable[[nnx.Rngs], nnx.Module]
    keras: Callable[[Any], list]

    def data(self, examples: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        y = rng.integers(0, CLASSES, examples, dtype=np.int32)
        if len(self.shape) == 1 and self.model is Transformer:
            return rng.integers(0, VOCABULARY, (examples, *self.shape), dtype=np.int32), y
        return rng.normal(size=(examples, *self.shape)).astype(np.float32), y


class Convnet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.convs = nnx.List([nnx.Conv(i, o, (3, 3), rngs=rngs) for i, o in ((1, 16), (16, 32))])
        self.drop = Dropout(RATE, rngs=rngs)
        self.head = nnx.Linear(7 * 7 * 32, CLASSES, rngs=rngs)

    def __call__(self, x):
        for conv in self.convs:
            x = nnx.max_pool(nnx.relu(conv(x)), (2, 2), (2, 2))
        return self.head(self.drop(x.reshape(len(x), -1)))


def keras_convnet(k: Any) -> list:
    blocks = [[k.layers.Conv2D(n, 3, padding="same", activation="relu"), k.layers.MaxPooling2D()]
              for n in (16, 32)]  # fmt: skip
    return [*sum(blocks, []), k.layers.Flatten(), k.layers.Dropout(RATE), k.layers.Dense(CLASSES)]


class Block(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs):
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)
        self.drops = nnx.List([Dropout(RATE, rngs=rngs) for _ in range(2)])
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x):
        x = x + self.drops[0](self.attention(self.norms[0](x)))
        return x + self.drops[1](self.down(nnx.relu(self.up(self.norms[1](x)))))


class Transformer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, width: int = 64):
        self.embed = nnx.Embed(VOCABULARY, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs) for _ in range(2)])
        self.head = nnx.Linear(width, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


def keras_transformer(k: Any, width: int = 64) -> Callable:
    def outputs(x):
        layers = k.layers
        x = layers.Embedding(VOCABULARY, width)(x)
        for _ in range(2):
            h = layers.LayerNormalization()(x)
            x = x + layers.Dropout(RATE)(layers.MultiHeadAttention(4, width // 4)(h, h))
            h = layers.Dense(4 * width, activation="relu")(layers.LayerNormalization()(x))
            x = x + layers.Dropout(RATE)(layers.Dense(width)(h))
        return layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(x))

    return outputs


class Recurrent(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(16, 64, rngs=rngs))
        self.drop, self.head = Dropout(RATE, rngs=rngs), nnx.Linear(64, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.head(self.drop(self.rnn(x)[:, -1]))


def textbook(rngs: nnx.Rngs) -> nnx.Module:
    return dj.layers.MLP((784, 128, 64, CLASSES), rates=(0.0, 0.5, 0.5), rngs=rngs)


def keras_textbook(k: Any) -> list:
    hidden = [[k.layers.Dense(n, activation="relu"), k.layers.Dropout(0.5)] for n in (128, 64)]
    return [*sum(hidden, []), k.layers.Dense(CLASSES)]


def keras_rnn(k: Any) -> list:
    return [k.layers.LSTM(64), k.layers.Dropout(RATE), k.layers.Dense(CLASSES)]


WORKLOADS = {
    "MLP": Workload(32, (784,), textbook, keras_textbook),
    "convnet": Workload(64, (28, 28, 1), Convnet, keras_convnet),
    "transformer": Workload(32, (32,), Transformer, keras_transformer),
    "RNN": Workload(32, (32, 16), Recurrent, keras_rnn),
}


def fit(libraries: dict[str, Library], plan: Plan) -> Iterator[Row]:
    """Each model: one call for an epoch, one more, then epochs of all libraries in turn."""
    for name, workload in WORKLOADS.items():
        examples = plan.examples * (4 if name == "MLP" else 1)
        data = workload.data(examples)
        sides = {PLAIN_LOOP: plain_loop, OURS: ours}
        if KERAS in libraries:
            sides[KERAS] = keras
        programs, first, second = {}, {}, {}
        for library, make in sides.items():
            start = time.perf_counter()
            programs[library], again = make(workload, *data)
            programs[library](1)
            first[library] = time.perf_counter() - start
            start = time.perf_counter()
            again(1)
            second[library] = time.perf_counter() - start
        samples = timing.measure(
            {library: timing.Program(program) for library, program in programs.items()},
            rounds=plan.epoch_rounds,
            seconds=10 * plan.seconds,
            references=tuple(programs),
        )
        for library, taken in samples.items():
            epoch, iqr = timing.median_and_iqr(taken)
            yield {
                "suite": "fit",
                "model": name,
                "examples": examples,
                "batch": workload.batch,
                "mode": "chained",
                "library": library,
                "version": libraries[library].version if library in libraries else None,
                "epoch_s": epoch,
                "epoch_iqr_s": iqr,
                "first_call_s": first[library],
                "second_call_s": second[library],
                "ratio_to_plain_loop": timing.median_and_iqr(taken / samples[PLAIN_LOOP])[0],
                "repeats": len(taken),
            }


def table(rows: Sequence[Row]) -> str:
    """One aligned line a row."""
    cells = [[f"{row[c]:.3f}" if isinstance(row[c], float) else str(row[c]) for c in COLUMNS]
             for row in rows]  # fmt: skip
    return text_table(COLUMNS, cells)


def ours(workload: Workload, x: np.ndarray, y: np.ndarray) -> tuple[Callable, Callable]:
    """`fit`, and `fit` of a new model of the same structure."""
    models = [workload.model(nnx.Rngs(seed)) for seed in range(2)]

    def train(model, epochs):
        key = jax.random.key(0)
        options = {"epochs": epochs, "batch_size": workload.batch, "progress": False}
        dj.fit(model, optax.adam(1e-3), x, y, key=key, **options)

    return tuple(functools.partial(train, model) for model in models)


def plain_loop(workload: Workload, x: np.ndarray, y: np.ndarray) -> tuple[Callable, Callable]:
    """What Flax's guides show: a step under `nnx.jit`, called from a Python loop."""
    model = workload.model(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    model.train()
    x, y, rng = jnp.asarray(x), jnp.asarray(y), np.random.default_rng(0)

    @nnx.jit
    def step(model, optimizer, x, y):
        loss, grads = nnx.value_and_grad(dj.losses.cross_entropy)(model, x, y)
        optimizer.update(model, grads)
        return loss

    def train(epochs):
        for _ in range(epochs):
            order = rng.permutation(len(x))
            for i in range(0, len(x) - workload.batch + 1, workload.batch):
                rows = order[i : i + workload.batch]
                loss = step(model, optimizer, x[rows], y[rows])
        jax.block_until_ready((loss, nnx.state(model, nnx.Param)))

    return train, train


def keras(workload: Workload, x: np.ndarray, y: np.ndarray) -> tuple[Callable, Callable]:
    """compile and fit, and fit again: a new model compiles anew."""
    import keras as k

    model = keras_model(k, workload, x.dtype.name)
    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(k.optimizers.Adam(1e-3), loss)

    def train(epochs):
        model.fit(x, y, epochs=epochs, batch_size=workload.batch, verbose=0)

    return train, train


def keras_model(k: Any, workload: Workload, dtype: str) -> Any:
    """The workload's model in Keras."""
    inputs = k.Input(workload.shape, dtype=dtype)
    layers = workload.keras(k)
    if callable(layers):
        return k.Model(inputs, layers(inputs))
    return k.Model(inputs, functools.reduce(lambda h, layer: layer(h), layers, inputs))
