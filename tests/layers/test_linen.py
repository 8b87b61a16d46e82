"""What `flax.linen.Dropout` documents, asked of Flax's class and of ours; then what ours adds."""

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.masked_ones import FALSE_ALARM, UNITS, is_masked, ones
from scipy import stats

from dropout_jax import linen
from dropout_jax.noise.dropout import dropout

KEY = jax.random.key(0)


@pytest.fixture(params=[nn.Dropout, linen.Dropout], ids=["flax", "ours"])
def Dropout(request):
    return request.param


def apply(module, *args, key=KEY, **kwargs):
    return module.apply({}, *args, rngs={"dropout": key}, **kwargs)


# --- Flax's contract: values


def test_deterministic_returns_the_inputs_and_needs_no_rngs(Dropout):
    for x in (ones(), jnp.arange(UNITS), jnp.full(3, jnp.nan)):
        np.testing.assert_array_equal(Dropout(0.5, deterministic=True).apply({}, x), x)


def test_rate_zero_returns_the_inputs_and_needs_no_rngs(Dropout):
    for rate in (0, 0.0, np.float32(0)):
        layer = Dropout(rate, deterministic=False)
        np.testing.assert_array_equal(layer.apply({}, jnp.arange(3)), [0, 1, 2])


def test_rate_one_returns_zeros_and_needs_no_rngs(Dropout):
    for dtype in (jnp.float32, jnp.bfloat16):
        for rate in (1, 1.0, np.float32(1)):
            layer, x = Dropout(rate, deterministic=False), jnp.full(3, jnp.inf, dtype)
            y, slope = jax.value_and_grad(lambda x, layer=layer: layer.apply({}, x).sum())(x)
            assert y == 0 and y.dtype == dtype
            np.testing.assert_array_equal(slope, jnp.zeros(3))


def test_kept_units_are_scaled_and_the_dtype_stays(Dropout):
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        y = apply(Dropout(0.5, deterministic=False), ones().astype(dtype))
        assert y.dtype == dtype and is_masked(y)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_drops_at_the_rate(Dropout, rate):
    n = 100_000
    dropped = int((apply(Dropout(rate, deterministic=False), ones(n)) == 0).sum())
    assert stats.binomtest(dropped, n, rate).pvalue > FALSE_ALARM


@pytest.mark.parametrize("dims", [(1,), (-1,), [1], (0, -1), (0, 1, 2)])
def test_broadcast_dims_share_a_draw(Dropout, dims):
    y = apply(Dropout(0.5, dims, False), ones(16, 4, 32))
    axes = {dim % 3 for dim in dims}
    first = y[tuple(slice(1) if axis in axes else slice(None) for axis in range(3))]
    np.testing.assert_array_equal(y, np.broadcast_to(first, y.shape))
    if len(axes) < 3:
        assert is_masked(y)


# --- Flax's contract: who decides


@pytest.mark.parametrize("deterministic", [False, True])
def test_deterministic_is_given_to_the_constructor_or_the_call(Dropout, deterministic):
    for y in (
        apply(Dropout(0.5, deterministic=deterministic), ones()),
        apply(Dropout(0.5), ones(), deterministic=deterministic),
        apply(Dropout(0.5), ones(), deterministic),
    ):
        assert is_masked(y) is not deterministic


@pytest.mark.parametrize("given", [None, False])
def test_deterministic_given_twice_or_never_is_an_error(Dropout, given):
    with pytest.raises(ValueError, match="deterministic"):
        apply(Dropout(0.5, deterministic=given), ones(), deterministic=given)


def test_missing_rngs_are_an_error(Dropout):
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        Dropout(0.5, deterministic=False).apply({}, ones())


def test_rng_collection_names_the_keys(Dropout):
    layer = Dropout(0.5, deterministic=False, rng_collection="noise")
    assert is_masked(layer.apply({}, ones(), rngs={"noise": KEY}))
    with pytest.raises(flax.errors.InvalidRngError, match="noise"):
        apply(layer, ones())


@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_rng_of_the_call_goes_first(Dropout, make_key):
    layer = Dropout(0.5, deterministic=False)
    y = apply(layer, ones(), rng=make_key(7))
    np.testing.assert_array_equal(y, layer.apply({}, ones(), rng=make_key(7)))
    assert is_masked(y) and (y != apply(layer, ones())).any()


def test_legacy_keys_are_accepted_in_rngs(Dropout):
    layer = Dropout(0.5, deterministic=False)
    y = apply(layer, ones(), key=jax.random.PRNGKey(0))
    assert is_masked(y)
    np.testing.assert_array_equal(y, apply(layer, ones(), key=jax.random.key(0)))


def test_one_key_one_mask(Dropout):
    layer = Dropout(0.5, deterministic=False)
    np.testing.assert_array_equal(apply(layer, ones()), apply(layer, ones()))
    assert (apply(layer, ones()) != apply(layer, ones(), key=jax.random.key(1))).any()


# --- Flax's contract: inside other modules


def test_sites_of_a_compact_module_differ(Dropout):
    class TwoSites(nn.Module):
        @nn.compact
        def __call__(self, x):
            shared = Dropout(0.5, deterministic=False)
            return shared(x), shared(x), Dropout(0.5, deterministic=False)(x)

    assert len(np.unique(apply(TwoSites(), ones()), axis=0)) == 3


def test_keys_are_those_of_flax():
    """The mask is `dropout`'s for the key that Flax's class would use: same name, same path."""

    class KeyOfDropout(nn.Module):
        @nn.compact
        def __call__(self):
            return self.make_rng("dropout")

    class Outer(nn.Module):
        inner: type[nn.Module]

        @nn.compact
        def __call__(self, *args):
            return self.inner(name="Dropout_0")(*args)

    def named(name):
        return linen.Dropout(0.3, deterministic=False, name=name)

    y = apply(Outer(named), ones())
    expected = dropout(apply(Outer(KeyOfDropout)), ones(), 0.3)
    np.testing.assert_array_equal(y, expected)

    class Automatic(nn.Module):
        @nn.compact
        def __call__(self, x):
            return linen.Dropout(0.3, deterministic=False)(x)

    np.testing.assert_array_equal(apply(Automatic(), ones()), expected)


def test_init_needs_no_dropout_key_when_deterministic(Dropout):
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return Dropout(0.5, deterministic=not train)(nn.Dense(4)(x))

    variables = Model().init(KEY, ones(), train=False)
    assert set(variables) == {"params"} and set(variables["params"]) == {"Dense_0"}
    y = Model().apply(variables, ones(64, UNITS), train=True, rngs={"dropout": KEY})
    whole = Model().apply(variables, ones(64, UNITS), train=False)
    np.testing.assert_allclose(y, np.where(y == 0, 0, 2 * whole))
    assert (y == 0).any() and (y != 0).any()


class Step(nn.Module):
    """One application, carrying its product; for the lifted transformations."""

    layer: type[nn.Module]

    @nn.compact
    def __call__(self, x, _):
        drop = self.layer(0.5, deterministic=False)
        return drop(x), drop(jnp.ones_like(x))


@pytest.mark.parametrize("split, distinct", [(True, 3), (False, 1)])
def test_scan(Dropout, split, distinct):
    scanned = nn.scan(Step, variable_broadcast=False, split_rngs={"dropout": split}, length=3)
    product, masks = apply(scanned(Dropout), ones(), None)
    assert set(np.unique(product)) <= {0.0, 8.0}
    assert len(np.unique(masks, axis=0)) == distinct


@pytest.mark.parametrize("split, distinct", [(True, 3), (False, 1)])
def test_vmap(Dropout, split, distinct):
    mapped = nn.vmap(Dropout, variable_axes={}, split_rngs={"dropout": split})
    y = apply(mapped(0.5, deterministic=False), ones(3, UNITS))
    assert is_masked(y) and len(np.unique(y, axis=0)) == distinct


@pytest.mark.parametrize("lift", [nn.remat, nn.jit])
def test_remat_and_jit(Dropout, lift):
    def gradient(layer):
        module = layer(0.5, deterministic=False)
        return jax.grad(lambda x: (apply(module, x) ** 2).sum())(ones())

    y = gradient(lift(Dropout))
    assert set(np.unique(y)) == {0.0, 8.0}  # 2 x / keep^2: backward used the mask of forward


def test_jit_in_one_trace(Dropout):
    traces = []

    @jax.jit
    def jitted(x, key):
        traces.append(None)
        return apply(Dropout(0.5, deterministic=False), x, key=key)

    layer = Dropout(0.5, deterministic=False)
    for seed in range(3):
        key = jax.random.key(seed)
        np.testing.assert_array_equal(jitted(ones(), key), apply(layer, ones(), key=key))
    assert len(traces) == 1


# --- beyond Flax


def test_rate_outside_0_1_is_an_error():
    for rate in (-0.1, 1.1, float("nan")):
        for deterministic in (False, True):
            with pytest.raises(ValueError, match="between 0 and 1"):
                apply(linen.Dropout(rate, deterministic=deterministic), ones())


def test_integer_inputs_are_an_error():
    with pytest.raises(TypeError, match="int32"):
        apply(linen.Dropout(0.5, deterministic=False), jnp.arange(3))


@pytest.mark.parametrize("dims", [(2,), (-3,), (0, -2)])
def test_bad_broadcast_dims_are_an_error(dims):
    with pytest.raises(ValueError, match="broadcast_dims"):
        apply(linen.Dropout(0.5, dims, False), ones(2, 2))


def test_traced_rates_are_one_trace_and_mask_as_numbers_do():
    traces = []

    @jax.jit
    def value_and_gradient(x, rate):
        traces.append(None)
        layer = linen.Dropout(rate, deterministic=False)
        return apply(layer, x), jax.grad(lambda x: apply(layer, x).sum())(x)

    for rate in (0.0, 0.1, 0.5, 0.9, 1.0):
        y, gradient = value_and_gradient(ones(), rate)
        np.testing.assert_array_equal(y, apply(linen.Dropout(rate, deterministic=False), ones()))
        np.testing.assert_array_equal(gradient, y)
    assert len(traces) == 1


@pytest.mark.parametrize("lift", [nn.remat, nn.jit])
def test_traced_rate_in_a_lifted_module(lift):
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x, rate):
            return linen.Dropout(rate, deterministic=False)(x)

    y = jax.jit(lambda rate: apply(lift(Model)(), ones(), rate))(0.5)
    assert is_masked(y)


def test_array_rate():
    y = apply(linen.Dropout(jnp.array([0.0, 1.0]), deterministic=False), ones(UNITS, 2))
    np.testing.assert_array_equal(y, jnp.stack([ones(), 0 * ones()], axis=1))
