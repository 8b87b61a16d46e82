"""Alpha dropout keeps mean 0 and variance 1, and a SELU network stays normalised under it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thresholds import normal_threshold

import dropout_jax as dj
from dropout_jax.noise.alpha import SATURATION

KEY = jax.random.key(0)
RATES = [0.05, 0.1, 0.5, 0.9]


def test_the_saturation_value_is_selus_limit():
    assert np.isclose(SATURATION, float(jax.nn.selu(-100.0)), rtol=2e-7)


def values_of(rate, x):
    """What an element x becomes: kept, dropped."""
    y = np.asarray(dj.alpha_dropout(KEY, jnp.full((512,), x, jnp.float32), rate), np.float64)
    mask = np.asarray(dj.bernoulli_mask(KEY, rate, (512,)))
    assert len(set(y[mask])) == len(set(y[~mask])) == 1
    return y[mask][0], y[~mask][0]


@pytest.mark.parametrize("rate", RATES)
def test_mean_0_and_variance_1_are_fixed_points(rate):
    """By the law of total variance, from the two values at x = 1 and x = -1; no sampling."""
    (up, dropped), (down, same) = values_of(rate, 1.0), values_of(rate, -1.0)
    assert dropped == same
    gain, shift = (up - down) / 2, (up + down) / 2  # a, b
    keep = 1 - rate
    mean = keep * shift + rate * dropped
    second = keep * (gain**2 + shift**2) + rate * dropped**2
    np.testing.assert_allclose([mean, second], [0, 1], atol=16 * 2.0**-23)


def test_a_selu_network_stays_normalised():
    """One layer of 2^20 independent units: the mean of squares is within its standard error."""
    n = 2**20
    x = jax.nn.selu(jax.random.normal(jax.random.key(1), (n,)))  # mean 0, variance 1
    y = np.asarray(dj.alpha_dropout(KEY, x, 0.1), np.float64)
    limit = normal_threshold(1e-7, 2)
    assert abs(y.mean()) < limit * y.std() / n**0.5
    assert abs((y**2).mean() - 1) < limit * (y**2).std() / n**0.5


def test_rate_1_is_the_limit():
    x = jnp.linspace(-1, 1, 64)
    nearly = dj.alpha_dropout(KEY, x, 1 - 1e-6)
    bound = abs(SATURATION) * 1e-3  # all are dropped, to alpha' sqrt(keep / (1 + rate alpha'^2))
    assert jnp.abs(nearly).max() < bound
    np.testing.assert_array_equal(dj.alpha_dropout(KEY, x, 1.0), jnp.zeros(64))
    np.testing.assert_array_equal(dj.alpha_dropout(KEY, x, jnp.float32(1)), jnp.zeros(64))


def test_dropped_infinities_are_forgotten():
    x = jnp.full((64,), jnp.nan)
    mask = dj.bernoulli_mask(KEY, 0.5, (64,))
    np.testing.assert_array_equal(jnp.isnan(dj.alpha_dropout(KEY, x, 0.5)), mask)


def test_feature_alpha_shares_all_but_batch_and_channel():
    x = jax.random.normal(KEY, (5, 4, 3, 6))
    np.testing.assert_array_equal(
        dj.feature_alpha_dropout(KEY, x, 0.5),
        dj.alpha_dropout(KEY, x, 0.5, broadcast_dims=(1, 2)),
    )
    matrix = x[:, 0, 0]
    np.testing.assert_array_equal(
        dj.feature_alpha_dropout(KEY, matrix, 0.5), dj.alpha_dropout(KEY, matrix, 0.5)
    )
