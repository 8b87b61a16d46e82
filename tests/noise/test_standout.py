"""Standout: each unit's own keep probability, what has a gradient, and the mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thresholds import assert_binomial
from scipy import special

from dropout_jax.noise.dropout import dropout_unscaled
from dropout_jax.noise.standout import standout, standout_mean

# In the fast loop the contract and the doctests stand for these: they compile much.
pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
X = jnp.linspace(0.5, 2, 12).reshape(3, 4)
A = jnp.linspace(-3, 3, 12).reshape(3, 4)


@pytest.mark.usefixtures("key_reuse_checked")
def test_every_unit_is_kept_at_its_own_probability():
    """Exact binomial tails; false alarms: 1e-8."""
    n, alpha, beta = 2**14, 1.5, -0.5
    draw = jax.jit(jax.vmap(lambda key: standout(key, jnp.ones((3, 4)), A, alpha=alpha, beta=beta)))
    kept = np.asarray(draw(jax.random.split(jax.random.key(2013), n))).sum(0)
    assert_binomial(kept, n, special.expit(alpha * np.float64(A) + beta), 1e-8, "kept")


def test_the_mask_is_that_of_dropout_at_the_units_rates():
    y = standout(KEY, X, A, alpha=2.0, beta=0.5)
    rate = jax.nn.sigmoid(-(2.0 * A + 0.5))
    np.testing.assert_array_equal(y, dropout_unscaled(KEY, X, rate))
    assert set(np.unique(y / X)) == {0.0, 1.0}


def test_alpha_0_is_dropout_with_one_rate():
    x = jnp.ones((64, 64))
    y = standout(KEY, x, jnp.full((64, 64), 9.0), alpha=0.0, beta=0.0)
    np.testing.assert_array_equal(y, dropout_unscaled(KEY, x, jnp.float32(0.5)))


def test_certain_units_are_exact_and_dropped_infinities_are_zero():
    x = jnp.array([1.5, jnp.inf, jnp.nan, -2.0])
    for size in (1e4, jnp.inf):
        a = jnp.array([size, -size, -size, size])
        np.testing.assert_array_equal(standout(KEY, x, a), [1.5, 0, 0, -2])
        mean = standout_mean(jnp.ones(4), a)
        np.testing.assert_array_equal(mean, [1, 0, 0, 1])
        assert np.isfinite(jax.grad(lambda a: standout_mean(jnp.ones(4), a).sum())(a)).all()


def test_the_mask_has_no_gradient_and_x_has():
    def total(x, a, alpha, beta):
        return standout(KEY, x, a, alpha=alpha, beta=beta).sum()

    dx, *rest = jax.jit(jax.grad(total, (0, 1, 2, 3)))(X, A, 1.0, 0.0)
    np.testing.assert_array_equal(dx, standout(KEY, jnp.ones((3, 4)), A))
    assert all((part == 0).all() for part in rest)


def test_the_mean_is_a_gate_with_a_gradient():
    def total(a, alpha, beta):
        return standout_mean(X, a, alpha=alpha, beta=beta).sum()

    keep = special.expit(2 * np.float64(A) + 0.5)
    np.testing.assert_allclose(standout_mean(X, A, alpha=2.0, beta=0.5), keep * X, rtol=1e-6)
    slope = np.float64(X) * keep * (1 - keep)
    da, dalpha, dbeta = jax.grad(total, (0, 1, 2))(A, 2.0, 0.5)
    np.testing.assert_allclose(da, 2 * slope, rtol=0, atol=8 * 2.0**-23)  # 1 - keep rounds
    np.testing.assert_allclose(dalpha, (slope * np.float64(A)).sum(), rtol=1e-4)
    np.testing.assert_allclose(dbeta, slope.sum(), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_results_are_those_of_float32_rounded(dtype):
    x, a = X.astype(dtype), A.astype(dtype)
    for function in (lambda x, a: standout(KEY, x, a), standout_mean):
        wide = function(x.astype(jnp.float32), a.astype(jnp.float32))
        np.testing.assert_array_equal(function(x, a), wide.astype(dtype))


def test_float64(x64):
    x, a = X.astype(jnp.float64), A.astype(jnp.float64)
    assert standout(KEY, x, a).dtype == jnp.float64
    np.testing.assert_allclose(standout_mean(x, a), special.expit(a) * x, rtol=1e-14)


def test_activations_of_a_row_are_shared_by_all_rows():
    rows = jnp.array([-jnp.inf, jnp.inf, jnp.inf, -jnp.inf])
    np.testing.assert_array_equal(standout(KEY, X, rows), X * jnp.array([[0, 1, 1, 0]]))
    np.testing.assert_array_equal(standout_mean(X, rows), X * jnp.array([[0, 1, 1, 0]]))


def test_vmap_is_a_loop():
    keys = jax.random.split(KEY, 3)
    mapped = jax.vmap(standout)(keys, X, A)
    np.testing.assert_array_equal(mapped, [standout(*row) for row in zip(keys, X, A, strict=True)])


@pytest.mark.parametrize("call", [lambda x, a: standout(KEY, x, a), standout_mean])
def test_errors(call):
    with pytest.raises(ValueError, match=r"activations of shape \(5,\) does not broadcast"):
        call(X, jnp.ones(5))
    with pytest.raises(TypeError, match=r"activations has dtype int32.*astype\(jnp.float32\)"):
        call(X, jnp.ones((3, 4), jnp.int32))
    with pytest.raises(TypeError, match="x has dtype int32"):
        call(X.astype(jnp.int32), A)


def test_a_key_is_needed():
    with pytest.raises(TypeError, match=r"jax\.random\.key\(0\)"):
        standout(None, X, A)


def test_activations_that_are_not_finite_are_what_they_are_in_a_program():
    a = jnp.array([jnp.nan, -jnp.inf, jnp.inf])
    expected = jax.jit(lambda a: standout(KEY, jnp.ones(3), a))(a)
    np.testing.assert_array_equal(standout(KEY, jnp.ones(3), a), expected)
    assert expected.tolist()[1:] == [0, 1]


def test_complex_activations_are_an_error():
    for call in (standout_mean, lambda x, a: standout(KEY, x, a)):
        with pytest.raises(TypeError, match="write activations.real"):
            call(jnp.ones(2), jnp.ones(2, jnp.complex64))


def test_activations_may_be_a_number():
    x = jnp.ones(64)
    for zero in (0, 0.0):
        y = standout(jax.random.key(0), x, zero)
        assert (y == dropout_unscaled(jax.random.key(0), x, jnp.float32(0.5))).all()
