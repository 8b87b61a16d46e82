"""What our layer adds to Flax's: rates that are arrays or traced, and errors for bad ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers.masked_ones import FALSE_ALARM, is_masked, ones
from scipy import stats

from dropout_jax import layers


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), jnp.float32(2)])
def test_rate_outside_0_1_is_an_error(rate):
    with pytest.raises(ValueError, match="between 0 and 1"):
        layers.Dropout(rate)


def test_rate_of_another_type_is_an_error():
    with pytest.raises(TypeError, match="write a number"):
        layers.Dropout(None)


def test_integer_inputs_are_an_error():
    with pytest.raises(TypeError, match="int32"):
        layers.Dropout(0.5, rngs=nnx.Rngs(0))(jnp.arange(3))


@pytest.mark.parametrize("dims", [(2,), (-3,), (0, -2)])
def test_bad_broadcast_dims_are_an_error(dims):
    with pytest.raises(ValueError, match="broadcast_dims"):
        layers.Dropout(0.5, broadcast_dims=dims, rngs=nnx.Rngs(0))(ones(2, 2))


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 1.0])
def test_array_rate_masks_as_the_number_does(rate):
    number, array, numpy = (
        layers.Dropout(r, rngs=nnx.Rngs(0)) for r in (rate, jnp.float32(rate), np.array(rate))
    )
    expected = number(ones())
    np.testing.assert_array_equal(array(ones()), expected)
    np.testing.assert_array_equal(numpy(ones()), expected)


@pytest.mark.slow
def test_sweep_over_array_rates_is_one_trace():
    layer = layers.Dropout(jnp.float32(0.1), rngs=nnx.Rngs(0))
    traces = []

    @nnx.jit
    def apply(layer, x):
        traces.append(None)
        return layer(x)

    for rate in (0.0, 0.1, 0.5, 0.9, 1.0):
        layer.rate = jnp.float32(rate)
        y = apply(layer, ones(10_000))
        assert stats.binomtest(int((y == 0).sum()), 10_000, rate).pvalue > FALSE_ALARM
    assert len(traces) == 1


def test_array_rate_is_replaced_through_the_state():
    layer = layers.Dropout(jnp.float32(0.5), rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(layer)
    state["rate"] = jnp.float32(1)
    np.testing.assert_array_equal(nnx.merge(graphdef, state)(ones()), 0 * ones())
    nnx.update(layer, state)
    np.testing.assert_array_equal(layer(ones()), 0 * ones())


@pytest.mark.parametrize("transform", [jax.jit, lambda f: jax.vmap(f, in_axes=(0, None))])
def test_a_layer_made_with_a_traced_rate_has_it_in_its_state(transform):
    @transform
    def make(rate, key):
        return nnx.split(layers.Dropout(rate, rngs=nnx.Rngs(key)))

    _, state = make(jnp.array([0.2, 0.7]), jax.random.key(0))
    np.testing.assert_allclose(state["rate"], [0.2, 0.7])


@pytest.mark.slow
def test_map_over_rates_and_over_stacked_layers():
    rates = jnp.array([0.0, 0.5, 1.0])

    @nnx.vmap
    def make(rate, key):
        return layers.Dropout(rate, rngs=nnx.Rngs(dropout=key))

    def apply(layer, x):
        return layer(x)

    for transform in (nnx.vmap, nnx.scan):
        over_layers = transform(apply, in_axes=(0, None), out_axes=0)
        y = over_layers(make(rates, jax.random.split(jax.random.key(0), 3)), ones())
        np.testing.assert_array_equal(y[0], ones())
        assert is_masked(y[1])
        np.testing.assert_array_equal(y[2], 0 * ones())


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_gradient_is_finite_at_a_traced_end(rate):
    @jax.jit
    def gradient(x, rate):
        layer = layers.Dropout(rate, rngs=nnx.Rngs(0))
        return jax.grad(lambda x: layer(x, rngs=jax.random.key(0)).sum())(x)

    np.testing.assert_array_equal(gradient(ones(), rate), (1 - rate) * ones())


def test_the_mean_is_kept_in_bfloat16():
    """Where Flax's scale, 1 / bfloat16(0.9), gives 1.0017 times the mean."""
    rate, n = 0.1, 2**22
    x = jax.random.uniform(jax.random.key(0), (n,), minval=1, maxval=2).astype(jnp.bfloat16)
    y = layers.Dropout(rate, rngs=nnx.Rngs(0))(x)
    x = np.asarray(x, np.float64)
    kept = np.asarray(jnp.asarray(x / (1 - rate), jnp.bfloat16), np.float64)
    mask_error = stats.norm.isf(FALSE_ALARM / 2) * np.sqrt(rate * (1 - rate) * np.mean(kept**2) / n)
    rounding_error = abs((1 - rate) * kept.mean() - x.mean())
    tolerance = mask_error + rounding_error
    assert tolerance < 0.0017 * x.mean()
    assert abs(np.asarray(y, np.float64).mean() - x.mean()) < tolerance
