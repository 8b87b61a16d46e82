"""Thinned pairs of layers: the hidden units of a transformer's MLPs, heads, channels, stacks.

What would make this wrong: a sub-network that is not the masked network, as when a fused matrix is
cut across its parts; a unit that trains although it was left out; one subset for all layers of a
stack; a rate of zero that changes training; a resumed run with other sub-networks.
"""

import operator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers.thresholds import assert_binomial
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import dropout_jax as dj
from dropout_jax import train
from dropout_jax.train import Pair, Thin, runner
from dropout_jax.train.gather import put, take
from dropout_jax.train.lives import as_subnetwork
from dropout_jax.train.units import draw, plan_of

WIDTH, HIDDEN, HEADS, LAYERS = 12, 24, 4, 3


def linear(inputs, outputs, rngs, **options):
    return nnx.Linear(inputs, outputs, bias_init=nnx.initializers.normal(), rngs=rngs, **options)


class UpDown(nnx.Module):
    """An MLP block, with our dropout of its hidden units."""

    def __init__(self, rngs):
        self.up, self.down = linear(WIDTH, HIDDEN, rngs), linear(HIDDEN, WIDTH, rngs)
        self.drop = dj.layers.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return x + self.down(self.drop(nnx.gelu(self.up(x))))


class Gated(nnx.Module):
    def __init__(self, rngs):
        self.gate, self.up = (linear(WIDTH, HIDDEN, rngs) for _ in range(2))
        self.down = linear(HIDDEN, WIDTH, rngs, use_bias=False)

    def __call__(self, x):
        return x + self.down(nnx.silu(self.gate(x)) * self.up(x))


class FusedGated(nnx.Module):
    def __init__(self, rngs):
        self.both, self.down = linear(WIDTH, 2 * HIDDEN, rngs), linear(HIDDEN, WIDTH, rngs)

    def __call__(self, x):
        gate, up = jnp.split(self.both(x), 2, axis=-1)
        return x + self.down(nnx.silu(gate) * up)


class Attention(nnx.Module):
    def __init__(self, rngs, **options):
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs, **options)

    def __call__(self, x):
        return x + self.attention(x)


class FusedAttention(nnx.Module):
    """Queries, keys and values from one matrix, as nanoGPT has them."""

    def __init__(self, rngs):
        self.heads = HEADS
        self.qkv, self.out = linear(WIDTH, 3 * WIDTH, rngs), linear(WIDTH, WIDTH, rngs)

    def __call__(self, x):
        qkv = self.qkv(x).reshape(*x.shape[:-1], 3, self.heads, -1)
        y = jax.nn.dot_product_attention(*(qkv[..., i, :, :] for i in range(3)))
        return x + self.out(y.reshape(*x.shape[:-1], -1))


class Convolutions(nnx.Module):
    """Channels between two convolutions, with batch norm, and between one and a flat layer."""

    def __init__(self, rngs):
        self.first = nnx.Conv(3, 8, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.second = nnx.Conv(8, 16, (3, 3), rngs=rngs)
        self.head = linear(4 * 4 * 16, 5, rngs)

    def __call__(self, x):
        x = nnx.gelu(self.norm(self.first(x)))
        x = nnx.gelu(self.second(x))
        return self.head(x.reshape(len(x), -1))


class Block(nnx.Module):
    """Of a transformer: attention and an MLP, without and with a dropout of its own."""

    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention, self.mlp = Attention(rngs), UpDown(rngs)

    def __call__(self, x):
        return self.mlp(self.attention(self.norm(x)))


@nnx.split_rngs(splits=LAYERS)
@nnx.vmap
def stack(rngs):
    return Block(rngs)


class Stacked(nnx.Module):
    """Blocks whose arrays have an axis of layers, run by a scan over it."""

    def __init__(self, rngs):
        self.blocks, self.head = stack(rngs), linear(WIDTH, 5, rngs)

    def __call__(self, x):
        forward = nnx.scan(lambda block, x: block(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        return self.head(forward(self.blocks, x).mean(axis=1))


class Listed(nnx.Module):
    """The same blocks in a list."""

    def __init__(self, rngs):
        self.blocks = nnx.List([Block(rngs) for _ in range(LAYERS)])
        self.head = linear(WIDTH, 5, rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(axis=1))


def times(kernel, mask):
    """A user's weights with the mask times n / k, along the axes of the mask."""
    kernel[...] = kernel[...] * mask.reshape(mask.shape + (1,) * (kernel.ndim - mask.ndim))


def many(mask, numbers):
    return jnp.repeat(mask, numbers, axis=-1)


def mask_channels(model, first, second):
    times(model.second.kernel, jnp.broadcast_to(first, (3, 3, *first.shape)))
    times(model.head.kernel, jnp.tile(second, 16))


def mask_stack(model, hidden, heads):
    times(model.blocks.mlp.down.kernel, hidden)
    times(model.blocks.attention.attention.out.kernel, heads)


def mask_list(model, *masks):
    for block, hidden, heads in zip(model.blocks, masks[:LAYERS], masks[LAYERS:], strict=True):
        times(block.mlp.down.kernel, hidden)
        times(block.attention.attention.out.kernel, heads)


TEXT, IMAGE = (2, 5, WIDTH), (2, 4, 4, 3)
IN_STACK = (
    Pair("blocks/mlp/up", "blocks/mlp/down", dropout="blocks/mlp/drop"),
    Pair.heads("blocks/attention/attention", rate=0.25),
)
IN_LIST = (
    Pair("blocks/*/mlp/up", "blocks/*/mlp/down", dropout="blocks/*/mlp/drop"),
    Pair.heads("blocks/*/attention/attention", rate=0.25),
)
# A model, its pairs, the shape of its input, and by hand: the masked network, its masks in the
# order of the pairs, each of mean one, (units,) or (layers, units); and how many units are kept.
CASES = {
    "up and down": (
        UpDown, (Pair("up", "down", dropout="drop"),), TEXT,
        lambda model, mask: times(model.down.kernel, mask), [(12, 24)],
    ),
    "gated": (
        Gated, (Pair(("gate", "up"), "down", rate=0.5),), TEXT,
        lambda model, mask: times(model.down.kernel, mask), [(12, 24)],
    ),
    "gated, fused": (
        FusedGated, (Pair("both", "down", rate=0.3),), TEXT,
        lambda model, mask: times(model.down.kernel, mask), [(16, 24)],
    ),
    "heads": (
        Attention, (Pair.heads("attention", rate=0.5),), TEXT,
        lambda model, mask: times(model.attention.out.kernel, mask), [(2, 4)],
    ),
    "grouped heads": (
        lambda rngs: Attention(rngs, num_kv_heads=2), (Pair.heads("attention", rate=0.5),), TEXT,
        lambda model, mask: times(model.attention.out.kernel, many(mask, 2)), [(1, 2)],
    ),
    "heads, fused": (
        FusedAttention, (Pair("qkv", "out", rate=0.25, units="heads"),), TEXT,
        lambda model, mask: times(model.out.kernel, many(mask, WIDTH // HEADS)), [(3, 4)],
    ),
    "channels": (
        Convolutions, (Pair("first", "second", rate=0.5, between="norm"),
                       Pair("second", "head", rate=0.25)), IMAGE, mask_channels, [(4, 8), (12, 16)],
    ),
    "stacked": (Stacked, IN_STACK, TEXT, mask_stack, [(12, 24), (3, 4)]),
    "listed": (Listed, IN_LIST, TEXT, mask_list, LAYERS * [(12, 24)] + LAYERS * [(3, 4)]),
}  # fmt: skip
BLOCK = 4


def case(name):
    make, pairs, shape, mask, counts = CASES[name]
    model = make(nnx.Rngs(0))
    model.train()
    x = jax.random.normal(jax.random.key(1), shape)
    return model, plan_of(model, Thin(block=BLOCK, pairs=pairs)), x, mask, counts


def among(kept, width):
    """1 for the units kept, 0 for the others: (..., width)."""
    return jax.nn.one_hot(kept, width).sum(-2)


def masks_of(plan, units):
    """The noise of mean one that the units stand for, (*stack, width) each."""
    for hidden, kept in zip(plan.hidden, units, strict=True):
        yield among(kept, hidden.width) * (hidden.width / hidden.kept)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_subnetwork_is_the_masked_network_and_nothing_else_moves(name):
    """Its output, its gradient put back, and the batch statistics of what it holds."""
    model, plan, x, mask, counts = case(name)
    assert [(hidden.kept, hidden.width) for hidden in plan.hidden] == counts
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def gradient(params, rest, edit):
        def loss(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            edit(model)
            y = model(x)
            weights = jnp.cos(jnp.arange(y.size)).reshape(y.shape)
            return (y * weights).sum(), nnx.state(model, nnx.BatchStat)

        return jax.value_and_grad(loss, has_aux=True)(params)

    def masked(model, units):
        mask(model, *masks_of(plan, units))
        model.set_attributes(nnx.Dropout, rate=0.0, raise_if_not_found=False)

    @jax.jit
    def both(params, rest, units):
        small, small_rest = take((params, rest), plan, units)
        (value, stats), grads = gradient(small, small_rest, lambda m: as_subnetwork(m, plan))
        grads = put(jax.tree.map(jnp.zeros_like, params), grads, plan, units)
        stats = put(nnx.filter_state(rest, nnx.BatchStat), stats, plan, units)
        same = put(params, small, plan, units)
        return ((value, stats), grads), gradient(params, rest, lambda m: masked(m, units)), same

    units = draw(jax.random.key(2), plan)
    ((value, stats), grads), ((expected, all_stats), all_grads), same = both(params, rest, units)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(grads, all_grads, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_equal(same, params)
    for new, old, whole in zip(
        *map(jax.tree.leaves, (stats, nnx.filter_state(rest, nnx.BatchStat), all_stats)),
        strict=True,
    ):
        assert (new != old).sum() == counts[0][0]
        np.testing.assert_allclose(new, np.where(new == old, old, whole), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_each_layer_of_a_stack_has_a_subset_of_its_own_and_each_unit_its_probability():
    # False alarm: 1e-6 over both kinds of units.
    draws, (_, plan, *_) = 2000, case("stacked")
    units = jax.jit(jax.vmap(lambda key: draw(key, plan)))(
        jax.random.split(jax.random.key(3), draws)
    )
    for hidden, kept in zip(plan.hidden, units, strict=True):
        assert kept.shape == (draws, LAYERS, hidden.kept)
        counts = among(kept, hidden.width).sum(0).ravel()
        assert_binomial(counts, draws, hidden.kept / hidden.width, 1e-6 / 2, "units kept")
        same = (kept[:, :1] == kept).all(-1).mean(0)
        assert same[0] == 1 and (same[1:] < 0.5).all()


def splits(n=32):
    x = jax.random.normal(jax.random.key(4), (n, *TEXT[1:]))
    return {"train": (x, jnp.arange(n) % 5)}


def loop_of(pairs=IN_STACK, make=Stacked, steps=4, optimizer=None):
    return train.make_loop(
        lambda rngs, hyper: make(rngs),
        lambda hyper: optimizer or optax.adam(1e-2, eps=1e-3),
        batch_size=4,
        thin=pairs and Thin(steps=steps, block=BLOCK, pairs=pairs),
    )


@pytest.mark.slow
def test_what_a_life_leaves_out_stays_bitwise_with_its_momentum_and_decay():
    loop = loop_of(steps=8, optimizer=optax.adamw(0.1, weight_decay=0.1))
    state = loop.init(jax.random.key(5), {}, splits())
    after, _ = jax.jit(loop.epoch)(state, splits())
    plan = plan_of(state.model(), Thin(block=BLOCK, pairs=IN_STACK))
    hidden, heads = draw(jax.random.fold_in(dj.site_key(state.key, "thin"), 0), plan)
    inside = [np.asarray(among(u, n)) > 0 for u, n in ((hidden, HIDDEN), (heads, HEADS))]
    for old, new in ((state.params, after.params),
                     (state.opt_state[0].mu, after.opt_state[0].mu)):  # fmt: skip
        old, new = old["blocks"], new["blocks"]
        attention = ("attention", "attention")
        for path, mask in (
            (("mlp", "up", "kernel"), inside[0][:, None, :]),
            (("mlp", "up", "bias"), inside[0]),
            (("mlp", "down", "kernel"), inside[0][:, :, None]),
            ((*attention, "query", "kernel"), inside[1][:, None, :, None]),
            ((*attention, "value", "bias"), inside[1][:, :, None]),
            ((*attention, "out", "kernel"), inside[1][:, :, None, None]),
        ):
            a, b = (np.asarray(_at(tree, path)) for tree in (old, new))
            np.testing.assert_array_equal(a != b, np.broadcast_to(mask, a.shape))


def _at(tree, path):
    for name in path:
        tree = tree[name]
    return tree[...]


@pytest.mark.slow
def test_a_resumed_run_ends_bitwise_equal_and_seeds_side_by_side_are_single_runs(tmp_path):
    loop, keys = loop_of(), jax.random.split(jax.random.key(6), 2)
    init = jax.jit(jax.vmap(lambda key: loop.init(key, {}, splits())))

    def run(epochs, **where):
        options = {"epochs": epochs, "progress": False, "evaluate": (), **where}
        return runner.run(loop, init(keys), splits(), **options)[0]

    whole = run(4)
    run(2, checkpoint_dir=tmp_path)
    resumed = run(4, checkpoint_dir=tmp_path)
    chex.assert_trees_all_equal(whole.params, resumed.params)
    chex.assert_trees_all_equal(whole.opt_state, resumed.opt_state)
    alone, _ = runner.run(loop, loop.init(keys[1], {}, splits()), splits(), epochs=1,
                          progress=False, evaluate=())  # fmt: skip
    # The order of summation differs; eps keeps Adam from amplifying it where gradients vanish.
    second = jax.tree.map(operator.itemgetter(1), run(1).params)
    chex.assert_trees_all_close(alone.params, second, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_rate_zero_is_ordinary_training():
    nothing = (
        Pair("blocks/mlp/up", "blocks/mlp/down", rate=0.0),
        Pair.heads("blocks/attention/attention", rate=0.0),
    )

    def make(rngs):
        model = Stacked(rngs)
        model.set_attributes(nnx.Dropout, rate=0.0)
        return model

    ends = []
    for pairs in (None, nothing):
        loop = loop_of(pairs, make, optimizer=optax.sgd(0.1, 0.9))
        state = loop.init(jax.random.key(7), {}, splits())
        ends.append(jax.jit(loop.epoch)(state, splits())[0].params)
    chex.assert_trees_all_close(*ends, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto])
def test_examples_that_are_divided_over_devices_train_the_same_sub_networks(kind):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    x, y = jax.random.normal(jax.random.key(9), (32, WIDTH)), jnp.arange(32) % 2

    def trained(x, y):
        model = nnx.Sequential(UpDown(nnx.Rngs(0)), linear(WIDTH, 2, nnx.Rngs(1)))
        pair = Pair("layers/0/up", "layers/0/down", dropout="layers/0/drop")
        dj.fit(model, optax.sgd(0.1, 0.9), x, y, key=jax.random.key(0), epochs=2, batch_size=8,
               thin=Thin(steps=2, block=BLOCK, pairs=pair), progress=False)  # fmt: skip
        return nnx.state(model, nnx.Param)

    divided = [jax.device_put(a, NamedSharding(mesh, P("data"))) for a in (x, y)]
    # 8 updates: sums in another order, a few dozen roundings of 2^-24 each.
    chex.assert_trees_all_close(trained(*divided), trained(x, y), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_fit_thins_a_convnet_and_leaves_a_whole_model():
    x = jax.random.normal(jax.random.key(8), (32, *IMAGE[1:]))
    model, thin = Convolutions(nnx.Rngs(0)), Thin(steps=2, block=BLOCK, pairs=CASES["channels"][1])
    history = dj.fit(model, optax.adam(1e-2), x, jnp.arange(32) % 5, key=jax.random.key(0),
                     epochs=20, batch_size=16, thin=thin, progress=False)  # fmt: skip
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert model.second.in_features == 8 and model(x).shape == (32, 5)
    assert (model.norm.mean[...] != 0).all()  # every channel was kept in some life


def plan(name, *pairs, block=BLOCK):
    return plan_of(CASES[name][0](nnx.Rngs(0)), Thin(pairs=pairs, block=block))


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: Pair("up", "down"), "has a rate, or the place of the dropout"),
        (lambda: Pair("up", "down", rate=0.5, dropout="drop"), "has a rate, or the place"),
        (lambda: Pair("up", "down", rate=jnp.float32(0.5)), "Python number"),
        (lambda: Pair("up", "down", rate=1.5), "must lie between 0 and 1"),
        (lambda: Pair((), "down", rate=0.5), "write places"),
        (lambda: Pair("up", 3, rate=0.5), "write places"),
        (lambda: Pair("up", "down", dropout=0.5), "write its place"),
        (lambda: Pair("up", "down", rate=0.5, block=0), "1 or more"),
        (lambda: Thin(pairs=(), block=4), "write .Pair"),
        (lambda: Thin(layers=("a",), dropouts=(), pairs=(IN_STACK[0],)), "not both"),
        (lambda: plan("gated", Pair("gat", "down", rate=0.5)), "nothing at 'gat'"),
        (lambda: plan("listed", Pair("blocks/*/up", "b", rate=0.5)), r"nothing at 'blocks/\*/up'"),
        (
            lambda: plan("listed", Pair("blocks/*/mlp/up", "*/*/mlp/down", rate=0.5)),
            r"more \*s than",
        ),
        (
            lambda: plan("channels", Pair("norm", "second", rate=0.5)),
            "has BatchNorm, which Thin cannot thin",
        ),
        (lambda: plan("gated", Pair("up", "down", rate=0.5, between="gate")), "nnx.BatchNorm"),
        (lambda: plan("up and down", Pair("up", "down", dropout="up")), "places of Dropout"),
        (lambda: plan("gated", Pair("up", "down", rate=0.5), block=5), "does not divide 24"),
        (lambda: plan("gated", Pair("up", "down", rate=0.02), block=6), "none would be dropped"),
        (
            lambda: plan("gated", Pair("up", "down", rate=0.5), Pair("up", "down", rate=0.5)),
            "two pairs of Thin thin one axis of up/kernel",
        ),
        (
            lambda: plan("heads, fused", Pair("qkv", "out", rate=0.5, units=5)),
            "qkv has out_features = 36, which is not a multiple of 5 units of 2 numbers",
        ),
        (
            lambda: plan("heads, fused", Pair("qkv", "out", rate=0.5, units="qkv")),
            "not a whole number",
        ),
        (
            lambda: plan_of(
                nnx.Dict(
                    qkv=nnx.LinearGeneral(12, (3, 4, 3), rngs=nnx.Rngs(0)),
                    out=nnx.LinearGeneral((4, 3), 12, axis=(-2, -1), rngs=nnx.Rngs(0)),
                ),
                Thin(pairs=Pair("qkv", "out", rate=0.5, units=1)),
            ),
            "units are the first axis",
        ),
        (lambda: plan("stacked", Pair("blocks/mlp/up", "head", rate=0.5)), "of one stack"),
    ],
)
def test_errors_say_what_to_write(make_it, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_it()
