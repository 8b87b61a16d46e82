"""What the papers prove about dropout, by enumeration of all 2^n masks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thresholds import assert_normal
from scipy import stats

import dropout_jax as dj

N = 8
MASKS = np.array(list(itertools.product([0.0, 1.0], repeat=N)))

pytestmark = pytest.mark.usefixtures("x64")


def draws(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in shapes]


def probability(masks, keep):
    return np.prod(np.where(masks == 1, keep, 1 - keep), axis=1)


def test_every_mask_is_drawn_with_its_probability():
    """What ties the enumerations below to the sampler: chi-square, false-alarm rate 1e-8."""
    n, keep = 2**20, 0.75
    drawn = np.asarray(dj.bernoulli_mask(jax.random.key(0), 1 - keep, (n, N)))
    counts = np.bincount(drawn @ (1 << np.arange(N)[::-1]), minlength=2**N)
    expected = n * probability(MASKS, keep)
    assert ((counts - expected) ** 2 / expected).sum() < stats.chi2.isf(1e-8, 2**N - 1)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.8])
def test_weight_scaling_is_exact_for_a_linear_layer(keep):
    """Srivastava et al. 2014, section 4: the mean over sub-networks is the scaled network."""
    x, w, b = draws((3, N), (N, 4), (4,))
    outputs = (MASKS[:, None] * x) @ w + b
    mean = np.tensordot(probability(MASKS, keep), outputs, 1)
    scaled = dj.scale_for_inference({"kernel": jnp.asarray(w), "bias": jnp.asarray(b)}, keep)
    at_test = x @ np.asarray(scaled["kernel"]) + np.asarray(scaled["bias"])
    np.testing.assert_allclose(at_test, mean, rtol=1e-12)
    mean_noise = np.tensordot(probability(MASKS, keep), MASKS / keep, 1)
    np.testing.assert_allclose(mean_noise, 1, rtol=1e-12)


def test_weight_scaling_is_not_exact_for_a_hidden_layer():
    x, w, v = draws((3, N), (N, 4), (4, 2))
    mean = np.mean(np.maximum((MASKS[:, None] * x) @ w, 0) @ v, axis=0)
    assert np.abs(np.maximum(x @ (0.5 * w), 0) @ v - mean).max() > 0.01


@pytest.mark.parametrize("keep", [0.5, 0.8])
def test_the_geometric_mean_of_softmax_networks_is_the_scaled_network(keep):
    """Hinton et al. 2012 for keep 1/2; weighted by each mask's probability, for any keep."""
    x, w, b = draws((3, N), (N, 4), (4,))
    logs = jax.nn.log_softmax((MASKS[:, None] * x) @ w + b)
    geometric = jax.nn.softmax(np.tensordot(probability(MASKS, keep), logs, 1))
    scaled = np.asarray(dj.scale_for_inference(jnp.asarray(w), keep))
    np.testing.assert_allclose(jax.nn.softmax(x @ scaled + b), geometric, rtol=1e-12)


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.8])
def test_dropout_is_ridge_regression_in_expectation(keep):
    """Srivastava et al. 2014, section 9.1, for w and for the scaled weights keep * w.

    The noise of each data case is independent, so that one mask a case is enumerated.
    """
    x, y, w = draws((5, N), (5,), (N,))
    gamma = np.sqrt((x**2).sum(0))

    def expected_loss(noise, w):
        return (probability(MASKS, keep) @ (y - (noise[:, None] * x) @ w) ** 2).sum()

    ridge = ((y - keep * x @ w) ** 2).sum() + keep * (1 - keep) * ((gamma * w) ** 2).sum()
    np.testing.assert_allclose(expected_loss(MASKS, w), ridge, rtol=1e-12)
    ridge = ((y - x @ w) ** 2).sum() + (1 - keep) / keep * ((gamma * w) ** 2).sum()
    np.testing.assert_allclose(expected_loss(MASKS / keep, w), ridge, rtol=1e-12)


def test_the_sampler_reaches_the_ridge_loss():
    """The same expectation by `dropout` itself, at a false-alarm rate of 1e-8."""
    x, y, w = draws((5, N), (5,), (N,))
    rate = 0.25
    keys = jax.random.split(jax.random.key(0), 2**16)
    noisy = jax.vmap(lambda key: dj.dropout(key, jnp.asarray(x), rate))(keys)
    losses = ((y - np.asarray(noisy) @ w) ** 2).sum(1)
    gamma = (x**2).sum(0)
    ridge = ((y - x @ w) ** 2).sum() + rate / (1 - rate) * (gamma * w**2).sum()
    standard_error = losses.std() / np.sqrt(losses.size)
    assert_normal((losses.mean() - ridge) / standard_error, 1e-8, "mean loss")
