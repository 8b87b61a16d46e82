"""A run as a function: one program for a sweep, fresh masks everywhere, each example once."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import dropout_jax as dj
from dropout_jax import train
from dropout_jax.train import metrics

UNITS = 128  # two masks of so many units at rate 0.5 are equal by chance with probability 2^-128
KEY = jax.random.key(0)


def xor(n=64, features=8):
    """A task that a small MLP learns."""
    x = jax.random.normal(jax.random.key(99), (n, features))
    return x, ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(jnp.int32)


def mlp(rngs, hyper):
    return dj.layers.MLP((8, 32, 2), rates=(0.0, hyper["rate"]), rngs=rngs)


def constrained_sgd(hyper):
    return optax.chain(optax.sgd(hyper["learning_rate"]), dj.max_norm(hyper["c"]))


HYPER = {"rate": 0.5, "learning_rate": 0.1, "c": 2.0}


def arrays(hyper):
    return jax.tree.map(jnp.float32, hyper)


def assert_same(a, b):
    """Bitwise, typed keys included."""
    chex.assert_trees_all_equal(raw(a), raw(b))


def raw(tree):
    def data(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return jax.tree.map(data, tree)


def at(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


class Recorder(nnx.Module):
    """Writes down which examples each training call sees, and the masks of its two sites.

    Each example's input is its index. The output is w m / keep, summed over units: with dyadic
    numbers all arithmetic is exact, so that two orders of summation give the same bits.
    """

    def __init__(self, rngs, calls, batch_size):
        self.weight = nnx.Param(jnp.ones(UNITS))
        self.sites = nnx.List([dj.layers.Dropout(0.5, rngs=rngs) for _ in range(2)])
        self.call = nnx.Variable(jnp.zeros((), jnp.int32))
        self.examples = nnx.Variable(jnp.zeros((calls, batch_size), jnp.int32))
        self.masks = nnx.Variable(jnp.zeros((calls, 2, batch_size, UNITS), bool))

    def __call__(self, x):
        ones = jnp.ones((len(x), UNITS))
        first, second = (site(ones) for site in self.sites)
        if not self.sites[0].deterministic:
            i = self.call[...]
            self.examples[...] = self.examples[...].at[i].set(x.astype(jnp.int32))
            self.masks[...] = self.masks[...].at[i].set(jnp.stack([first, second]) > 0)
            self.call[...] = i + 1
        return jnp.sum((first + second) * self.weight[...][None], axis=-1)


def mean_output(model, x, y):
    return jnp.mean(model(x) * y)


def recorded(epochs=3, batch_size=4, n=18, key=KEY, **options):
    """The state and the recorder's notes after a run over n examples named by their index."""
    calls = epochs * (n // batch_size)
    run = train.make_train(
        lambda rngs, hyper: Recorder(rngs, calls, batch_size),
        lambda hyper: optax.sgd(0.125),
        epochs=epochs,
        batch_size=batch_size,
        loss=mean_output,
        metrics={"output": mean_output},
        **options,
    )
    data = {"train": (jnp.arange(float(n)), jnp.arange(n) % 3 - 1.0)}
    return run if key is None else jax.jit(run)(key, {}, data), data


# --- one program


@pytest.mark.slow
def test_a_sweep_over_seeds_and_hyperparameters_is_one_trace():
    builds = []
    run = train.make_train(
        lambda rngs, hyper: builds.append(1) or mlp(rngs, hyper),
        constrained_sgd,
        epochs=2,
        batch_size=16,
    )
    sweep = jax.jit(jax.vmap(chex.assert_max_traces(run, 1), (0, 0, None)))
    hyper = {"rate": jnp.array([0.0, 0.5, 0.5, 0.5]),
             "learning_rate": jnp.array([0.1, 0.1, 0.2, 0.2]),
             "c": jnp.array([2.0, 2.0, 2.0, 0.5])}  # fmt: skip
    key = jnp.stack([KEY] * 4)
    result = sweep(key, hyper, {"train": xor()})
    assert result.losses.shape == (4, 2, 4) and result.metrics["train_error"].shape == (4, 2)
    for i in range(3):  # each hyperparameter matters
        assert np.any(result.losses[i] != result.losses[i + 1])
    built = len(builds)
    other = jax.tree.map(lambda values: values / 2, hyper)
    sweep(jax.random.split(jax.random.key(1), 4), other, {"train": xor()})
    assert len(builds) == built


@pytest.mark.slow
def test_max_norm_holds_at_every_c_of_a_sweep():
    run = train.make_train(mlp, constrained_sgd, epochs=2, batch_size=16)
    c = jnp.array([0.25, 1.0, jnp.inf])
    hyper = {"rate": jnp.full(3, 0.5), "learning_rate": jnp.full(3, 0.5), "c": c}
    result = jax.jit(jax.vmap(run, (None, 0, None)))(KEY, hyper, {"train": xor()})
    longest = jnp.linalg.norm(result.state.params["linears"][0]["kernel"][...], axis=1).max(-1)
    # The rounding of an eight-term norm and of w + (end - w), as in test_constraints.
    np.testing.assert_allclose(longest[:2], c[:2], rtol=24 * 2.0**-23)
    assert longest[2] > longest[1]


@pytest.mark.slow
def test_the_same_key_gives_the_same_bits_and_another_key_another_run():
    run = jax.jit(train.make_train(mlp, constrained_sgd, epochs=2, batch_size=16))
    keys = KEY, KEY, jax.random.key(1)
    first, again, other = (run(key, arrays(HYPER), {"train": xor()}) for key in keys)
    assert_same(first, again)
    assert np.all(first.losses != other.losses)


@pytest.mark.slow
def test_a_vmapped_run_draws_what_the_single_run_draws():
    run, data = recorded(key=None)
    keys = jax.random.split(KEY, 3)
    together = jax.jit(jax.vmap(run, (0, None, None)))(keys, {}, data)
    single = jax.jit(run)
    for i, key in enumerate(keys):
        assert_same(at(together, i), single(key, {}, data))


@pytest.mark.slow
def test_a_vmapped_run_computes_what_the_single_run_computes():
    """To half of float32's digits: a batched product sums in another order than a single one."""
    run = train.make_train(mlp, constrained_sgd, epochs=2, batch_size=16)
    keys = jax.random.split(KEY, 2)
    together = jax.jit(jax.vmap(run, (0, None, None)))(keys, arrays(HYPER), {"train": xor()})
    half, single = float(jnp.finfo(jnp.float32).eps) ** 0.5, jax.jit(run)
    for i, key in enumerate(keys):
        alone = single(key, arrays(HYPER), {"train": xor()})
        np.testing.assert_allclose(together.losses[i], alone.losses, rtol=half)
        chex.assert_trees_all_close(at(together.state.params, i), alone.state.params, atol=half)


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrap, hyper, as_data",
    [
        (jax.jit, HYPER, np.asarray),
        (lambda run: run, HYPER, np.asarray),
        (lambda run: run, arrays(HYPER), jnp.asarray),
    ],
    ids=["jit numbers numpy", "plain numbers numpy", "plain arrays jax"],
)
def test_hyperparameters_and_data_may_be_of_any_kind(wrap, hyper, as_data):
    run = train.make_train(mlp, constrained_sgd, epochs=1, batch_size=16)
    expected = jax.jit(run)(KEY, arrays(HYPER), {"train": xor()})
    result = wrap(run)(KEY, hyper, {"train": tuple(map(as_data, xor()))})
    half = float(jnp.finfo(jnp.float32).eps) ** 0.5  # without jit, XLA fuses other operations
    np.testing.assert_allclose(result.losses, expected.losses, rtol=half)


@pytest.mark.slow
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_any_key_implementation(impl):
    result, _ = recorded(key=jax.random.key(0, impl=impl))
    assert jax.random.key_impl(result.state.key) == impl
    assert result.state.step == 12


# --- what an epoch is


def test_an_epoch_visits_each_example_once_at_most_in_an_order_of_its_own():
    result, _ = recorded(epochs=3, batch_size=4, n=18)
    epochs = np.asarray(result.state.rest["examples"][...]).reshape(3, 16)
    for epoch in epochs:
        assert len(set(epoch)) == 16 and set(epoch) <= set(range(18))
    # Two orders of 16 of 18 agree with probability 2! / 18! = 3e-16, a sorted one likewise.
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert all(tuple(epoch) != tuple(sorted(epoch)) for epoch in epochs)


def test_each_input_comes_with_its_own_target():
    def pairs(model, x, y):
        return jnp.mean(model(x)) * 0 + jnp.sum(jnp.abs(x % 3 - 1 - y))

    run, data = recorded(key=None)
    run = train.make_train(
        lambda rngs, hyper: Recorder(rngs, 12, 4), lambda hyper: optax.sgd(0.1),
        epochs=3, batch_size=4, loss=pairs, metrics={},
    )  # fmt: skip
    np.testing.assert_array_equal(jax.jit(run)(KEY, {}, data).losses, np.zeros((3, 4)))


def test_orders_differ_between_seeds():
    run, data = recorded(key=None)
    result = jax.jit(jax.vmap(run, (0, None, None)))(jax.random.split(KEY, 4), {}, data)
    orders = np.asarray(result.state.rest["examples"][...]).reshape(4, -1)
    assert len({tuple(order) for order in orders}) == 4


def test_masks_differ_at_every_step_site_example_and_seed():
    run, data = recorded(key=None)
    result = jax.jit(jax.vmap(run, (0, None, None)))(jax.random.split(KEY, 3), {}, data)
    masks = np.asarray(result.state.rest["masks"][...]).reshape(-1, UNITS)
    assert len(masks) == 3 * 12 * 2 * 4
    assert len({mask.tobytes() for mask in masks}) == len(masks)


def test_one_update_is_the_optimizers():
    """Against the same model and examples by hand; exact, because all numbers are dyadic."""
    result, data = recorded(epochs=1)
    _, y = data["train"]
    weight = np.ones(UNITS)
    notes = result.state.rest
    for examples, masks, loss in zip(
        notes["examples"][...], notes["masks"][...], result.losses[0], strict=True
    ):
        noise = 2.0 * np.asarray(masks).sum(0)
        target = np.asarray(y)[np.asarray(examples)]
        assert loss == np.mean(noise @ weight * target)
        weight = weight - 0.125 * (noise * target[:, None]).mean(0)
    np.testing.assert_array_equal(result.state.params["weight"][...], weight)


@pytest.mark.slow
def test_nothing_depends_on_how_often_the_model_was_called_while_it_was_built():
    def used(rngs, hyper):
        model = mlp(rngs, hyper)
        model(jnp.ones((1, 8)))
        return model

    results = [
        jax.jit(train.make_train(build, constrained_sgd, epochs=1, batch_size=16))(
            KEY, arrays(HYPER), {"train": xor()}
        )
        for build in (mlp, used)
    ]
    np.testing.assert_array_equal(results[0].losses, results[1].losses)


# --- evaluation


@pytest.mark.slow
def test_evaluation_is_free_of_noise_and_leaves_no_trace():
    results = [recorded(epochs=4, evaluate_every=every)[0] for every in (1, 4)]
    assert_same(results[0].state, results[1].state)
    assert_same(results[0].losses, results[1].losses)
    np.testing.assert_array_equal(
        results[0].metrics["train_output"][-1:], results[1].metrics["train_output"]
    )
    assert results[0].metrics["train_output"].shape == (4,)


@pytest.mark.slow
def test_metrics_are_those_of_the_model_in_evaluation_mode():
    loop = train.make_loop(mlp, constrained_sgd, batch_size=16)
    data = {"train": xor(), "test": xor(40)}
    state = jax.jit(loop.init)(KEY, arrays(HYPER), data)
    state, _ = jax.jit(loop.epoch)(state, data)
    first, again = (jax.jit(loop.evaluate)(state, data) for _ in range(2))
    assert_same(first, again)
    graphdef = nnx.graphdef(mlp(nnx.Rngs(0), arrays(HYPER)))
    model = nnx.merge(graphdef, state.params, state.rest)
    for split, (x, y) in data.items():
        logits = model(x, deterministic=True)
        chance = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1)
        assert first[f"{split}_error"] == np.mean(np.argmax(logits, -1) != y)
        np.testing.assert_allclose(first[f"{split}_loss"], -chance.mean(), rtol=len(x) * 2.0**-23)
    assert set(first) == {"train_loss", "train_error", "test_loss", "test_error"}


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 15, 16, 17, 24, 31])
def test_the_mean_in_chunks_is_the_mean(n, monkeypatch):
    monkeypatch.setattr(metrics, "CHUNK", 8)
    x, y = jnp.arange(n), 2 * jnp.arange(n)
    sizes = []

    def measure(x, y):
        sizes.append(len(x))
        return {"sum": jnp.mean(x + y), "pair": jnp.stack([jnp.mean(x), jnp.mean(y)])}

    means = metrics.mean_in_chunks(measure, x, y)
    exact = (n - 1) / 2
    # Chunk means are exact here (halves); the weights and the division round, a few times each.
    np.testing.assert_allclose(means["sum"], 3 * exact, rtol=n * 2.0**-23)
    np.testing.assert_allclose(means["pair"], [exact, 2 * exact], rtol=n * 2.0**-23)
    assert max(sizes) <= 8


def test_the_rows_of_a_chunk_stay_together(monkeypatch):
    monkeypatch.setattr(metrics, "CHUNK", 4)
    x = jnp.arange(10)
    mismatch = metrics.mean_in_chunks(lambda x, y: jnp.mean(jnp.abs(3 * x - y)), x, 3 * x)
    assert mismatch == 0


# --- learning, and mistakes


@pytest.mark.slow
def test_a_network_with_dropout_learns_the_digits():
    digits = dj.data.load_digits()
    run = train.make_train(
        lambda rngs, hyper: dj.layers.MLP((64, 128, 10), rates=(0.2, 0.5), rngs=rngs),
        lambda hyper: optax.adam(1e-3),
        epochs=6,
        batch_size=32,
        evaluate_every=2,
    )
    data = {"train": (digits.train_x, digits.train_y), "test": (digits.test_x, digits.test_y)}
    result = jax.jit(run)(KEY, {}, data)
    by_epoch = result.losses.mean(1)
    assert np.all(np.diff(by_epoch) < 0)
    assert result.losses.shape == (6, 1437 // 32) and result.state.step == 6 * (1437 // 32)
    # Nine in ten errors is what guessing makes; a network that learned is far below half of that.
    assert result.metrics["test_error"].shape == (3,) and result.metrics["test_error"][-1] < 0.45


@pytest.mark.parametrize(
    "change, message",
    [
        ({"data": {"val": xor()}}, r"data has splits \['val'\]; one must be 'train'"),
        ({"data": {"train": (xor()[0], xor()[1][:-1])}}, "train has 64 inputs and 63 targets"),
        ({"data": {"train": xor(), "val": (xor()[0], xor()[1][1:])}}, "val has 64 inputs and 63"),
        (
            {"data": {"train": xor(), "val": (xor()[0][:0], xor()[1][:0])}},
            "the split .val. is empty",
        ),
        ({"batch_size": 65}, "batch_size is 65 and there are 64 training examples"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"epochs": 3, "evaluate_every": 2}, "epochs = 3 and evaluate_every = 2; .* a multiple"),
        ({"epochs": 1, "evaluate_every": 0}, "evaluate_every = 0; write whole numbers, 1 or"),
        ({"epochs": 0}, "epochs = 0"),
    ],
)
def test_mistakes_get_a_clear_error(change, message):
    options = {"epochs": 2, "batch_size": 16, "data": {"train": xor()}} | change
    data = options.pop("data")
    with pytest.raises(ValueError, match=message):
        train.make_train(mlp, constrained_sgd, **options)(KEY, arrays(HYPER), data)


def test_mistakes_of_newcomers_get_a_clear_error():
    with pytest.raises(TypeError, match="no function of hyper; write one .* lambda hyper: optax"):
        train.make_train(mlp, optax.adam(1e-3), epochs=1, batch_size=16)
    run = train.make_train(mlp, constrained_sgd, epochs=1, batch_size=16)
    with pytest.raises(TypeError, match="data is tuple; write .*train.*: .x, y."):
        run(KEY, arrays(HYPER), xor())


def test_a_loss_by_name_brings_its_metric():
    x, y = xor()
    data = {"train": (x, y.astype(jnp.float32))}

    def regressor(rngs, hyper):
        return nnx.Linear(8, 1, rngs=rngs)

    def trained(**options):
        run = train.make_train(
            regressor, lambda _: optax.sgd(0.1), epochs=2, batch_size=16, **options
        )
        return run(KEY, {}, data)

    by_name = trained(loss="mse")
    mse = dj.losses.mse
    by_function = trained(loss=mse, metrics={"loss": mse})
    assert list(by_name.metrics) == ["train_loss"]
    assert (by_name.metrics["train_loss"] == by_function.metrics["train_loss"]).all()


def test_what_is_no_key_gets_a_clear_error():
    run = train.make_train(mlp, constrained_sgd, epochs=1, batch_size=16)
    with pytest.raises(TypeError, match=r"write jax\.random\.key\(0\)"):
        run(0, arrays(HYPER), {"train": xor()})
