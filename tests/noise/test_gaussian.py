"""Gaussian noise: who shares a draw, infinities at rate 1, and what is differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dropout_jax as dj

KEY = jax.random.key(0)


@pytest.mark.parametrize("function", [dj.gaussian_dropout, dj.gaussian_noise])
def test_broadcast_dims_share_a_draw(function):
    x = jnp.ones((4, 5, 6))
    y = function(KEY, x, 0.5, broadcast_dims=(1,))
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1], x.shape))
    assert len(np.unique(y)) == 24


def test_dropout_of_the_same_rate_has_the_noise_of_one_law():
    """The noise does not depend on x: y / x is the same for all x."""
    x = jnp.linspace(0.5, 4, 64)
    noise = dj.gaussian_dropout(KEY, jnp.ones(64), 0.3)
    np.testing.assert_allclose(dj.gaussian_dropout(KEY, x, 0.3), x * noise, rtol=2e-7)


def test_a_wider_rate_stretches_the_same_draw():
    half, fifth = (dj.gaussian_dropout(KEY, jnp.ones(64), rate) - 1 for rate in (0.5, 0.2))
    np.testing.assert_allclose(half, 2 * fifth, atol=4 * 2.0**-23)  # sqrt(1), sqrt(1/4)


@pytest.mark.parametrize("rate", [1.0, jnp.float32(1), jnp.ones((8,))])
def test_rate_1_drops_infinities_too(rate):
    x = jnp.full((8,), jnp.inf)
    np.testing.assert_array_equal(dj.gaussian_dropout(KEY, x, rate), jnp.zeros(8))


def test_the_rate_has_no_gradient_and_the_stddev_has():
    x = jnp.ones(8)
    for rate in (0.0, 0.5, 1.0):
        assert jax.grad(lambda r: dj.gaussian_dropout(KEY, x, r).sum())(jnp.float32(rate)) == 0
    noise = dj.gaussian_noise(KEY, jnp.zeros(8), 1.0)
    slope = jax.jacobian(lambda s: dj.gaussian_noise(KEY, x, s))(jnp.float32(0.3))
    np.testing.assert_array_equal(slope, noise)


def test_errors_of_gaussian_noise():
    with pytest.raises(ValueError, match="stddev is -1.0.*0 or more"):
        dj.gaussian_noise(KEY, jnp.ones(3), -1.0)
    with pytest.raises(ValueError, match="stddev of shape"):
        dj.gaussian_noise(KEY, jnp.ones(3), jnp.ones(4))
    assert dj.gaussian_noise(KEY, jnp.ones(3), 40.0).shape == (3,)  # no upper limit
