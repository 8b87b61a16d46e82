"""The values of `flax.nnx.Dropout`, asked of Flax's class and of ours; the rest: test_contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers.masked_ones import FALSE_ALARM, UNITS, is_masked, ones
from scipy import stats

from dropout_jax import layers
from dropout_jax.noise.dropout import dropout


@pytest.fixture(params=[nnx.Dropout, layers.Dropout], ids=["flax", "ours"])
def Dropout(request):
    return request.param


def stream_count(layer):
    return int(layer.rngs.count[...])


# --- Flax's contract: values


def test_deterministic_returns_the_inputs(Dropout):
    layer = Dropout(0.5, deterministic=True)
    for x in (ones(), jnp.arange(UNITS), jnp.full(3, jnp.nan)):
        np.testing.assert_array_equal(layer(x), x)


def test_rate_zero_returns_the_inputs_and_needs_no_rngs(Dropout):
    for rate in (0, 0.0, np.float32(0)):
        np.testing.assert_array_equal(Dropout(rate)(jnp.arange(3)), [0, 1, 2])


def test_rate_one_returns_zeros_and_needs_no_rngs(Dropout):
    for dtype in (jnp.float32, jnp.bfloat16):
        for rate in (1, 1.0, np.float32(1)):
            x = jnp.full(3, jnp.inf, dtype)
            y, gradient = jax.value_and_grad(lambda x, rate=rate: Dropout(rate)(x).sum())(x)
            assert y == 0 and y.dtype == dtype
            np.testing.assert_array_equal(gradient, jnp.zeros(3))


def test_kept_units_are_scaled_and_the_dtype_stays(Dropout):
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
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


def test_keys_are_those_of_flax():
    """The mask is `dropout`'s for the key that Flax's class would have used."""
    layer = layers.Dropout(0.3, broadcast_dims=(0,), rngs=nnx.Rngs(dropout=5))
    stream = nnx.Rngs(dropout=5).dropout.fork()
    for _ in range(2):
        expected = dropout(stream(), ones(4, UNITS), 0.3, broadcast_dims=(0,))
        np.testing.assert_array_equal(layer(ones(4, UNITS)), expected)


def test_no_two_sites_of_a_model_share_a_key(key_reuse_checked):
    model = layers.MLP((8, 8, 8, 2), rates=(0.2, 0.5, 0.5), rngs=nnx.Rngs(0))
    model(ones(4, 8))
    model(ones(4, 8), rngs=jax.random.key(1))


# --- Flax's contract: transformations


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


def test_grad_flows_through_what_was_kept(Dropout):
    layer = Dropout(0.5)
    key = jax.random.key(0)
    gradient = jax.grad(lambda x: layer(x, rngs=key).sum())(ones())
    np.testing.assert_array_equal(gradient, layer(ones(), rngs=key))
