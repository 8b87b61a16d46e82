"""What `flax.nnx.Dropout` documents, asked of Flax's class and of ours."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers.masked_ones import FALSE_ALARM, SOURCES, UNITS, is_masked, ones
from scipy import stats

from dropout_jax import layers
from dropout_jax.noise.dropout import dropout


@pytest.fixture(params=[nnx.Dropout, layers.Dropout], ids=["flax", "ours"])
def Dropout(request):
    return request.param


def stream_count(layer):
    return int(layer.rngs.count[...])


# --- Flax's contract: values


@pytest.mark.parametrize("x", [ones(), jnp.arange(UNITS), jnp.full(3, jnp.nan)], ids=str)
def test_deterministic_returns_the_inputs(Dropout, x):
    layer = Dropout(0.5, deterministic=True)
    np.testing.assert_array_equal(layer(x), x)


@pytest.mark.parametrize("rate", [0, 0.0, np.float32(0)])
def test_rate_zero_returns_the_inputs_and_needs_no_rngs(Dropout, rate):
    np.testing.assert_array_equal(Dropout(rate)(jnp.arange(3)), [0, 1, 2])


@pytest.mark.parametrize("rate", [1, 1.0, np.float32(1)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rate_one_returns_zeros_and_needs_no_rngs(Dropout, rate, dtype):
    x = jnp.full(3, jnp.inf, dtype)
    y, gradient = jax.value_and_grad(lambda x: Dropout(rate)(x).sum())(x)
    assert y == 0 and y.dtype == dtype
    np.testing.assert_array_equal(gradient, jnp.zeros(3))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_kept_units_are_scaled_and_the_dtype_stays(Dropout, dtype):
    y = Dropout(0.5, rngs=nnx.Rngs(0))(ones().astype(dtype))
    assert y.dtype == dtype and is_masked(y)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_drops_at_the_rate(Dropout, rate):
    n = 100_000
    dropped = int((Dropout(rate, rngs=nnx.Rngs(0))(ones(n)) == 0).sum())
    assert stats.binomtest(dropped, n, rate).pvalue > FALSE_ALARM


@pytest.mark.parametrize("dims", [(1,), (-1,), [1], (0, -1), (0, 1, 2)])
def test_broadcast_dims_share_a_draw(Dropout, dims):
    y = Dropout(0.5, broadcast_dims=dims, rngs=nnx.Rngs(0))(ones(16, 4, 32))
    axes = {dim % 3 for dim in dims}
    first = y[tuple(slice(1) if axis in axes else slice(None) for axis in range(3))]
    np.testing.assert_array_equal(y, np.broadcast_to(first, y.shape))
    if len(axes) < 3:
        assert is_masked(y)


# --- Flax's contract: who decides


@pytest.mark.parametrize("constructor", [None, False, True])
@pytest.mark.parametrize("call", [None, False, True])
def test_deterministic_of_the_call_goes_first(Dropout, constructor, call):
    layer = Dropout(0.5, deterministic=constructor, rngs=nnx.Rngs(0))
    expected = constructor if call is None else call
    if expected is None:
        with pytest.raises(ValueError, match="deterministic"):
            layer(ones())
    else:
        assert is_masked(layer(ones(), deterministic=call)) is not expected


def test_deterministic_is_not_needed_to_be_given(Dropout):
    assert Dropout(0.5).deterministic is False


@pytest.mark.parametrize("source", SOURCES)
def test_rngs_of_the_call_go_first(Dropout, source):
    layer, other = Dropout(0.5, rngs=nnx.Rngs(0)), Dropout(0.5)
    y = layer(ones(), rngs=SOURCES[source]())
    np.testing.assert_array_equal(y, other(ones(), rngs=SOURCES[source]()))
    assert is_masked(y) and stream_count(layer) == 0
    assert (y != layer(ones())).any()


def test_missing_rngs_are_an_error(Dropout):
    with pytest.raises(ValueError, match="rngs"):
        Dropout(0.5)(ones())


def test_the_error_of_missing_rngs_says_what_to_write():
    with pytest.raises(ValueError, match=r"rngs=nnx\.Rngs\(0\)"):
        layers.Dropout(0.5)(ones())
    with pytest.raises(ValueError, match=r"deterministic=False"):
        layers.Dropout(0.5, deterministic=None)(ones())


@pytest.mark.parametrize("rngs", [0, "dropout"])
def test_rngs_of_another_type_are_an_error(Dropout, rngs):
    with pytest.raises(TypeError, match="rngs"):
        Dropout(0.5, rngs=rngs)
    with pytest.raises(TypeError, match="rngs"):
        Dropout(0.5)(ones(), rngs=rngs)


def test_rng_collection_names_the_stream(Dropout):
    rngs = nnx.Rngs(dropout=0, noise=1)
    layer = Dropout(0.5, rng_collection="noise", rngs=rngs)
    layer(ones(), rngs=rngs)
    assert int(rngs.dropout.count[...]) == 0
    assert int(rngs.noise.count[...]) == 2  # one for the constructor's own stream, one for the call


# --- Flax's contract: the random streams


@pytest.mark.parametrize(
    "rate, deterministic, draws", [(0.5, False, 1), (0.5, True, 0), (0, False, 0), (1, False, 0)]
)
def test_draws_taken_from_the_stream(Dropout, rate, deterministic, draws):
    rngs = nnx.Rngs(dropout=0)
    layer = Dropout(rate, deterministic=deterministic, rngs=rngs)
    assert int(rngs.dropout.count[...]) == 1
    layer(ones())
    layer(ones())
    assert stream_count(layer) == 2 * draws


@pytest.mark.parametrize("given", ["rngs", "stream"])
def test_the_layer_keeps_a_stream_of_its_own(Dropout, given):
    rngs = nnx.Rngs(dropout=0)
    layer = Dropout(0.5, rngs=rngs if given == "rngs" else rngs.dropout)
    rngs.dropout()
    assert stream_count(layer) == 0


def test_two_calls_differ(Dropout):
    layer = Dropout(0.5, rngs=nnx.Rngs(0))
    assert (layer(ones()) != layer(ones())).any()


def test_keys_are_those_of_flax():
    """The mask is `dropout`'s for the key that Flax's class would have used."""
    layer = layers.Dropout(0.3, broadcast_dims=(0,), rngs=nnx.Rngs(dropout=5))
    stream = nnx.Rngs(dropout=5).dropout.fork()
    for _ in range(2):
        expected = dropout(stream(), ones(4, UNITS), 0.3, broadcast_dims=(0,))
        np.testing.assert_array_equal(layer(ones(4, UNITS)), expected)


def test_no_key_is_used_twice(key_reuse_checked):
    model = layers.MLP((8, 8, 8, 2), rates=(0.2, 0.5, 0.5), rngs=nnx.Rngs(0))
    model(ones(4, 8))
    model(ones(4, 8), rngs=jax.random.key(1))


# --- Flax's contract: modes


class Block(nnx.Module):
    def __init__(self, make_dropout, rngs):
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = make_dropout(rngs=rngs)


def test_train_and_eval(Dropout):
    block = Block(functools.partial(Dropout, 0.5), nnx.Rngs(0))
    block.eval()
    np.testing.assert_array_equal(block.drop(ones()), ones())
    block.train()
    assert is_masked(block.drop(ones()))


def test_view_changes_a_copy_that_shares_the_stream(Dropout):
    layer = Dropout(0.5, rngs=nnx.Rngs(0))
    view = nnx.view(layer, deterministic=True)
    np.testing.assert_array_equal(view(ones()), ones())
    assert is_masked(layer(ones()))
    nnx.view(view, deterministic=False)(ones())
    assert stream_count(layer) == 2


def test_set_attributes(Dropout):
    block = Block(functools.partial(Dropout, 0.5), nnx.Rngs(0))
    block.set_attributes(nnx.Dropout, deterministic=True)
    np.testing.assert_array_equal(block.drop(ones()), ones())
    block.set_attributes(deterministic=False, rate=0.0)
    np.testing.assert_array_equal(block.drop(ones()), ones())


def test_rngs_can_be_set_later(Dropout):
    layer = Dropout(0.5)
    layer.rngs = nnx.Rngs(0).dropout.fork()
    assert is_masked(layer(ones()))


# --- Flax's contract: transformations


def test_split_and_merge(Dropout):
    x = ones(UNITS, 2)
    layer, twin = (Dropout(0.5, broadcast_dims=(1,), rngs=nnx.Rngs(0)) for _ in range(2))
    np.testing.assert_array_equal(layer(x), twin(x))
    copy = nnx.merge(*nnx.split(layer))
    np.testing.assert_array_equal(copy(x), twin(x))
    assert type(copy) is Dropout and stream_count(copy) == 2


def test_jit_advances_the_stream_as_eager_calls_do_in_one_trace(Dropout):
    eager, jitted = (Dropout(0.5, rngs=nnx.Rngs(0)) for _ in range(2))
    traces = []

    @nnx.jit
    def apply(layer, x):
        traces.append(None)
        return layer(x)

    for _ in range(3):
        np.testing.assert_array_equal(apply(jitted, ones()), eager(ones()))
    assert len(traces) == 1 and stream_count(jitted) == 3


def test_vmap_over_keys(Dropout):
    layer = Dropout(0.5, rngs=nnx.Rngs(dropout=0))

    @nnx.split_rngs(splits=4)
    @nnx.vmap(in_axes=(nnx.StateAxes({nnx.RngState: 0}), None))
    def apply(layer, x):
        return layer(x)

    first, second = apply(layer, ones()), apply(layer, ones())
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 8


def test_vmap_without_split_rngs_shares_the_mask(Dropout):
    layer = Dropout(0.5, rngs=nnx.Rngs(dropout=0))
    y = nnx.vmap(lambda layer, x: layer(x), in_axes=(None, 0))(layer, ones(4, UNITS))
    assert len(np.unique(y, axis=0)) == 1 and is_masked(y)


def test_scan_over_layers(Dropout):
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def make(rngs):
        return Dropout(0.5, rngs=rngs)

    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=(nnx.Carry, 0))
    def apply(layer, x):
        return layer(x), layer(jnp.ones_like(x))

    y, masks = apply(make(nnx.Rngs(0)), ones())
    assert set(np.unique(y)) <= {0.0, 8.0}
    assert len(np.unique(masks, axis=0)) == 3


def test_functional_scan_carries_the_stream(Dropout):
    graphdef, state = nnx.split(Dropout(0.5, rngs=nnx.Rngs(0)))

    def step(state, x):
        layer = nnx.merge(graphdef, state)
        y = layer(x)
        return nnx.state(layer), y

    state, ys = jax.lax.scan(step, state, ones(3, UNITS))
    assert len(np.unique(ys, axis=0)) == 3
    assert stream_count(nnx.merge(graphdef, state)) == 3


def test_grad_flows_through_what_was_kept(Dropout):
    layer = Dropout(0.5)
    key = jax.random.key(0)
    gradient = jax.grad(lambda x: layer(x, rngs=key).sum())(ones())
    np.testing.assert_array_equal(gradient, layer(ones(), rngs=key))
