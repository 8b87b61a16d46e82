"""Thinned training: the sub-network is exact, the rest of the network does not move."""

import operator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers.thresholds import assert_binomial

import dropout_jax as dj
from dropout_jax import train
from dropout_jax.train import runner
from dropout_jax.train.gather import put, take
from dropout_jax.train.lives import as_subnetwork
from dropout_jax.train.thin import Thin
from dropout_jax.train.units import draw, plan_of

SIZES = (12, 32, 48, 5)


def mlp(rates=(0.2, 0.5, 0.25), seed=0):
    return dj.layers.MLP(SIZES, rates=rates, rngs=nnx.Rngs(seed))


def split_params(model):
    return nnx.split(model, nnx.Param, ...)


class Named(nnx.Module):
    """A chain that is no MLP: named layers, two of them in a submodule."""

    def __init__(self, rngs):
        self.inner = nnx.Dict(fc1=nnx.Linear(12, 32, rngs=rngs), drop1=nnx.Dropout(0.5, rngs=rngs))
        self.fc2 = nnx.Linear(32, 16, use_bias=False, rngs=rngs)
        self.drop2 = dj.layers.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(16, 5, rngs=rngs)

    def __call__(self, x):
        x = self.inner["drop1"](nnx.relu(self.inner["fc1"](x)))
        return self.out(self.drop2(nnx.relu(self.fc2(x))))


NAMED = Thin(3, 4, layers=("inner/fc1", "fc2", "out"), dropouts=("inner/drop1", "drop2"))


@pytest.mark.slow
@pytest.mark.parametrize("block", [1, 4, 16])
def test_put_undoes_take_and_moves_nothing_else(block):
    model = mlp()
    plan = plan_of(model, Thin(block=block))
    _, params, _ = split_params(model)
    tree = {"params": params, "state": optax.adam(0.1).init(params), "step": jnp.int32(3)}
    tree = jax.tree.map(
        lambda leaf: leaf + jnp.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape), tree
    )
    units = draw(jax.random.key(1), plan)
    small = take(tree, plan, units)
    chex.assert_trees_all_equal(put(tree, small, plan, units), tree)

    changed = put(tree, jax.tree.map(lambda leaf: leaf + 1000, small), plan, units)
    assert changed["step"] == 1003
    first, second = (np.isin(np.arange(n), u) for n, u in zip(SIZES[1:3], units, strict=True))
    expected = {0: first[None, :], 1: first[:, None] & second[None, :], 2: second[:, None]}
    before, after = tree["params"]["linears"], changed["params"]["linears"]
    moments = tree["state"][0].mu["linears"], changed["state"][0].mu["linears"]
    for old, new in ((before, after), moments):
        for layer, inside in expected.items():
            moved = np.asarray(new[layer]["kernel"][...] != old[layer]["kernel"][...])
            np.testing.assert_array_equal(moved, np.broadcast_to(inside, moved.shape))
        np.testing.assert_array_equal(np.asarray(new[0]["bias"][...] != old[0]["bias"][...]), first)
        assert (
            new[2]["bias"][...] != old[2]["bias"][...]
        ).all()  # the output layer is never thinned


def test_take_gives_the_rows_and_columns_of_the_units():
    model = mlp()
    plan = plan_of(model, Thin(block=4))
    _, params, _ = split_params(model)
    units = draw(jax.random.key(2), plan)
    small = take(params, plan, units)
    kernel = params["linears"][1]["kernel"][...]
    np.testing.assert_array_equal(
        small["linears"][1]["kernel"][...], np.asarray(kernel)[np.ix_(*units)]
    )
    assert small["linears"][0]["kernel"].shape == (12, 16)
    assert small["linears"][2]["kernel"].shape == (36, 5)


@pytest.mark.slow
def test_the_subnetwork_computes_what_the_masked_network_computes():
    model = mlp(rates=(0, 0.5, 0.25))
    plan = plan_of(model, Thin(block=4))
    graphdef, params, rest = split_params(model)
    units = draw(jax.random.key(3), plan)
    small = nnx.merge(graphdef, take(params, plan, units), rest, copy=True)
    as_subnetwork(small, plan)
    x = jax.random.normal(jax.random.key(4), (7, 12))
    h = x
    for i, linear in enumerate(model.linears):
        h = h @ linear.kernel[...] + linear.bias[...][None, :]
        if i < 2:
            mask = jnp.isin(jnp.arange(SIZES[i + 1]), units[i])[None, :]
            h = jnp.where(mask, nnx.relu(h) * SIZES[i + 1] / units[i].size, 0)
    chex.assert_trees_all_close(small(x), h, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("block", [1, 4])
def test_every_unit_is_kept_with_the_same_probability(block):
    # False alarm: 1e-6 over both hidden layers and both block sizes.
    draws, plan = 4000, plan_of(mlp(), Thin(block=block))
    units = jax.jit(jax.vmap(lambda key: draw(key, plan)))(
        jax.random.split(jax.random.key(5), draws)
    )
    for hidden, kept in zip(plan.hidden, units, strict=True):
        counts = np.bincount(np.asarray(kept).ravel(), minlength=hidden.width)
        assert_binomial(counts, draws, hidden.kept / hidden.width, 1e-6 / 4, "units kept")
        assert (np.diff(kept) > 0).all()
        if block > 1:
            assert (np.asarray(kept).reshape(draws, -1, block) % block == np.arange(block)).all()


def data(n=64):
    x = jax.random.normal(jax.random.key(6), (n, 12))
    return {"train": (x, jnp.arange(n) % 5)}


def make(thinning, optimizer=lambda hyper: optax.adam(hyper["lr"])):
    return train.make_loop(
        lambda rngs, hyper: dj.layers.MLP(SIZES, rates=(0.2, 0.5, 0.25), rngs=rngs),
        optimizer,
        batch_size=8,
        thin=thinning,
    )


@pytest.mark.slow
def test_units_outside_the_subnetwork_stay_bitwise_with_decay_and_max_norm():
    def optimizer(hyper):
        decayed = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.5, 0.9))
        return optax.chain(decayed, dj.max_norm(0.5))

    loop = make(Thin(steps=8, block=4), optimizer)  # one life is the whole epoch
    state = loop.init(jax.random.key(7), {}, data())
    after, _ = jax.jit(loop.epoch)(state, data())
    plan = plan_of(mlp(), Thin(steps=8, block=4))
    key = jax.random.fold_in(dj.site_key(state.key, "thin"), 0)
    first, second = draw(key, plan)
    outside = np.ones(SIZES[1:3], bool)
    outside[np.ix_(first, second)] = False
    old, new = (np.asarray(s.params["linears"][1]["kernel"][...]) for s in (state, after))
    np.testing.assert_array_equal(new[outside], old[outside])
    assert (new[~outside] != old[~outside]).any()


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3, 8, 100])
def test_every_batch_is_trained_on_whatever_the_life(steps):
    loop = make(Thin(steps=steps, block=4))
    state = loop.init(jax.random.key(8), {"lr": 1e-2}, data())
    after, losses = jax.jit(loop.epoch)(state, data())
    assert losses.shape == (8,) and np.isfinite(losses).all()
    assert after.step == 8 and after.opt_state[0].count == 8
    assert jax.tree.structure(after) == jax.tree.structure(state)


@pytest.mark.slow
def test_rate_zero_is_ordinary_training():
    def loop(thinning):
        return train.make_loop(
            lambda rngs, _: dj.layers.MLP(SIZES, rates=(0, 0, 0), rngs=rngs),
            lambda _: optax.sgd(0.1, 0.9),
            batch_size=8,
            thin=thinning,
        )

    ends = []
    for thinning in (None, Thin(3, 4)):
        state = loop(thinning).init(jax.random.key(9), {}, data())
        ends.append(jax.jit(loop(thinning).epoch)(state, data())[0].params)
    chex.assert_trees_all_close(*ends, rtol=1e-6)


@pytest.mark.slow
def test_vmapped_seeds_and_learning_rates_are_the_single_runs():
    loop = make(Thin(2, 4))
    keys, hyper = jax.random.split(jax.random.key(10), 3), {"lr": jnp.array([1e-3, 1e-2, 1e-1])}
    state = jax.vmap(loop.init, (0, 0, None))(keys, hyper, data())
    together, _ = jax.jit(jax.vmap(loop.epoch, (0, None)))(state, data())
    for i in range(3):
        one = loop.init(keys[i], {"lr": hyper["lr"][i]}, data())
        one, _ = jax.jit(loop.epoch)(one, data())
        # The order of summation differs; Adam's first steps amplify it where gradients vanish.
        chex.assert_trees_all_close(
            one.params, jax.tree.map(operator.itemgetter(i), together.params), rtol=1e-3, atol=1e-4
        )


@pytest.mark.slow
def test_a_resumed_run_ends_bitwise_equal(tmp_path):
    loop, key = make(Thin(3, 4)), jax.random.key(11)

    def start():
        return loop.init(key, {"lr": 1e-2}, data())

    whole, _ = runner.run(loop, start(), data(), epochs=4, progress=False)
    runner.run(loop, start(), data(), epochs=2, progress=False, checkpoint_dir=tmp_path)
    resumed, _ = runner.run(
        loop, start(), data(), epochs=4, progress=False, checkpoint_dir=tmp_path
    )
    chex.assert_trees_all_equal(whole.params, resumed.params)
    chex.assert_trees_all_equal(whole.opt_state, resumed.opt_state)


@pytest.mark.slow
def test_fit_takes_it_as_one_argument_and_infers_with_the_whole_network():
    digits = dj.data.load_digits()
    model = dj.layers.MLP((64, 64, 64, 10), rates=0.5, rngs=nnx.Rngs(0))
    history = dj.fit(
        model,
        optax.adam(3e-3),
        digits.train_x,
        digits.train_y,
        key=jax.random.key(0),
        epochs=15,
        validation_data=(digits.test_x, digits.test_y),
        thin=Thin(5, 8),
        progress=False,
    )
    assert isinstance(model.dropouts[1], dj.layers.Dropout)
    wrong = np.argmax(model(jnp.asarray(digits.test_x)), -1) != digits.test_y
    assert history["val_error"][-1] == pytest.approx(wrong.mean())
    assert history["val_error"][-1] < 0.1  # 0.9 by chance


@pytest.mark.slow
def test_a_named_chain_trains():
    x, y = data()["train"]
    model = Named(nnx.Rngs(0))
    before = model.fc2.kernel[...]
    history = dj.fit(
        model,
        optax.adam(1e-2),
        x,
        y,
        key=jax.random.key(0),
        epochs=30,
        batch_size=8,
        thin=NAMED,
        progress=False,
    )
    assert history["loss"][-1] < history["loss"][0]
    assert (model.fc2.kernel[...] != before).mean() > 0.9


class Twice(nnx.Module):
    """A chain, and layers of the same names deeper in the model."""

    def __init__(self, width, rngs):
        self.block = nnx.Dict(fc1=nnx.Linear(12, width, rngs=rngs),
                              fc2=nnx.Linear(width, 12, rngs=rngs))  # fmt: skip
        self.fc1, self.fc2 = nnx.Linear(12, 32, rngs=rngs), nnx.Linear(32, 5, rngs=rngs)
        self.drop = dj.layers.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        x = x + self.block["fc2"](self.block["fc1"](x))
        return self.fc2(self.drop(nnx.relu(self.fc1(x))))


@pytest.mark.slow
@pytest.mark.parametrize("width", [32, 64])
def test_layers_of_the_same_name_elsewhere_are_left_whole(width):
    x, y = data()["train"]
    model = Twice(width, nnx.Rngs(0))
    before = model.block["fc1"].kernel[...], model.fc1.kernel[...]
    chain = Thin(steps=4, block=4, layers=("fc1", "fc2"), dropouts=("drop",))
    dj.fit(model, optax.adam(0.1), x, y, key=jax.random.key(0), epochs=1, batch_size=len(x),
           thin=chain, progress=False)  # fmt: skip
    after = model.block["fc1"].kernel[...], model.fc1.kernel[...]
    changed = [int(np.any(a != b, axis=0).sum()) for a, b in zip(after, before, strict=True)]
    assert changed[0] == width and 8 <= changed[1] <= 16


def twice(layers=("fc1", "fc2"), dropouts=("drop",)):
    return plan_of(Twice(8, nnx.Rngs(0)), Thin(layers=layers, dropouts=dropouts))


def fit_thin(optimizer):
    x, y = jnp.ones((20, SIZES[0])), jnp.arange(20) % 2
    options = dict(key=jax.random.key(0), epochs=1, batch_size=5, progress=False)
    return dj.fit(mlp(), optimizer, x, y, thin=Thin(block=4), **options)


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: Thin(steps=0), "1 or more"),
        (lambda: Thin(block=1.5), "whole number"),
        (lambda: Thin(layers=("a", "b")), "together"),
        (lambda: plan_of(mlp(), Thin(block=5)), "does not divide 32"),
        (lambda: plan_of(Named(nnx.Rngs(0)), Thin()), "Thin\\(layers="),
        (
            lambda: plan_of(mlp(), Thin(layers=("linears/0", "x"), dropouts=("dropouts/1",))),
            "nothing at 'x'",
        ),
        (
            lambda: plan_of(mlp(), Thin(layers=("linears/0", "linears/1"), dropouts=())),
            "1 dropouts",
        ),
        (lambda: twice(layers=("drop", "fc2")), "at 'drop' the model has Dropout"),
        (lambda: twice(dropouts=("fc1",)), "at 'fc1' the model has Linear"),
        (lambda: twice(layers=("fc1/0", "fc2")), "nothing at 'fc1/0'"),
        (lambda: plan_of(mlp((0, jnp.float32(0.5), 0.5)), Thin()), "Python number"),
        (lambda: plan_of(mlp((0, 0.2, 0.2)), Thin(block=16)), "none would be dropped"),
        (lambda: fit_thin(optax.adafactor(1e-2)), r"such as optax.sgd or optax.adam"),
    ],
)
def test_errors_say_what_to_write(make_it, message):
    with pytest.raises(ValueError, match=message):
        make_it()


class Normed(Twice):
    """A layer with weights for each unit between two of a chain."""

    def __init__(self, rngs):
        super().__init__(8, rngs)
        self.norm = nnx.BatchNorm(32, rngs=rngs)

    def __call__(self, x):
        return self.fc2(self.drop(nnx.relu(self.norm(self.fc1(x)))))


def test_a_layer_of_whole_width_in_between_says_that_it_does_not_fit():
    x, y = data()["train"]
    thin = Thin(block=4, layers=("fc1", "fc2"), dropouts=("drop",))
    options = dict(key=jax.random.key(0), epochs=1, thin=thin, progress=False)
    with pytest.raises(TypeError, match="shapes") as caught:
        dj.fit(Normed(nnx.Rngs(0)), optax.sgd(0.1), x, y, **options)
    told = "unless it is a BatchNorm that a Pair names"
    assert any(told in note for note in caught.value.__notes__)
