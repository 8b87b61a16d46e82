"""Log-likelihood and CRPS against scipy, quadrature and the double sum of the definition."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from dropout_jax import predict

RNG = np.random.default_rng(0)
Y, MEAN = RNG.normal(size=(2, 20)).astype(np.float32)
STDDEV = RNG.uniform(0.2, 3, size=20).astype(np.float32)
SAMPLES = RNG.normal(size=(11, 20)).astype(np.float32)


def test_log_likelihood_of_a_gaussian():
    found = predict.log_likelihood_gaussian(Y, MEAN, STDDEV)
    np.testing.assert_allclose(found, stats.norm.logpdf(Y, MEAN, STDDEV), rtol=1e-5, atol=1e-5)


def test_log_likelihood_of_samples():
    found = predict.log_likelihood_samples(Y, SAMPLES, 0.3)
    expected = special.logsumexp(stats.norm.logpdf(Y, SAMPLES, 0.3), axis=0) - np.log(11)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_crps_of_a_gaussian_is_the_integral_of_its_definition():
    found = predict.crps_gaussian(Y[:5], MEAN[:5], STDDEV[:5])
    for value, y, *law in zip(found, Y, MEAN, STDDEV, strict=False):
        normal = stats.norm(*law)
        below, _ = integrate.quad(lambda u, normal=normal: normal.cdf(u) ** 2, -40, y)
        above, _ = integrate.quad(lambda u, normal=normal: normal.sf(u) ** 2, y, 40)
        np.testing.assert_allclose(value, below + above, rtol=1e-5)


def test_crps_of_samples_is_the_double_sum():
    found = predict.crps_samples(Y, SAMPLES)
    pairs = np.abs(SAMPLES[:, None] - SAMPLES[None]).sum((0, 1)) / (2 * 11 * 10)
    np.testing.assert_allclose(found, np.abs(SAMPLES - Y).mean(0) - pairs, rtol=1e-5, atol=1e-6)


def test_crps_of_samples_estimates_that_of_their_distribution_without_bias():
    """The mean over many small samples: a z of 20 000 of them, false-alarm rate 1e-8."""
    draws = np.random.default_rng(1).normal(size=(3, 20_000)).astype(np.float32)
    found = np.asarray(predict.crps_samples(np.full(20_000, 0.5, np.float32), draws), np.float64)
    z = (found.mean() - float(predict.crps_gaussian([0.5], jnp.zeros(1), 1.0)[0])) / (
        found.std() / np.sqrt(len(found))
    )
    assert abs(z) < stats.norm.isf(1e-8 / 2)


def test_a_column_of_targets_is_aligned_and_nothing_is_broadcast():
    found = predict.crps_gaussian(Y, MEAN[:, None], STDDEV[:, None])
    np.testing.assert_array_equal(found[:, 0], predict.crps_gaussian(Y, MEAN, STDDEV))
    for bad in (Y[:3], Y[None]):
        with pytest.raises(ValueError, match="write one target for each prediction"):
            predict.crps_gaussian(bad, MEAN, STDDEV)
    with pytest.raises(ValueError, match=r"stddev has shape \(3,\)"):
        predict.crps_gaussian(Y, MEAN, STDDEV[:3])


def test_bad_scores():
    with pytest.raises(ValueError, match="y holds 1 values that are NaN"):
        predict.crps_gaussian([np.nan], jnp.zeros(1), 1.0)
    with pytest.raises(ValueError, match="write a standard deviation over 0"):
        predict.log_likelihood_gaussian(Y, MEAN, 0.0)
    with pytest.raises(ValueError, match="samples has 1 sample; write two"):
        predict.crps_samples(Y, SAMPLES[:1])
    with pytest.raises(ValueError, match=r"samples has shape \(20,\)"):
        predict.log_likelihood_samples(Y, SAMPLES[0], 1.0)
