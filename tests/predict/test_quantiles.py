"""Quantiles of the mixture against the root of its distribution function by scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import optimize, stats

import dropout_jax as dj
from dropout_jax import predict

KEY, K = jax.random.key(0), 9
X = jnp.asarray(np.random.default_rng(1).normal(size=(5, 4)), jnp.float32)
LEVELS = (0.001, 0.05, 0.5, 0.95)


def mlp():
    return dj.layers.MLP((4, 8, 1), rates=0.5, rngs=nnx.Rngs(0))


def samples():
    return np.float64(predict.mc_samples(KEY, mlp(), X, samples=K, output=lambda y: y))[..., 0]


@pytest.mark.parametrize("noise", [1.0, 0.01])
def test_they_solve_the_equation_of_the_mixture(noise):
    found = dj.mc_quantiles(KEY, mlp(), X, LEVELS, samples=K, noise=noise)
    assert found.shape == (5, 1, len(LEVELS))
    for means, row in zip(samples().T, np.asarray(found)[:, 0], strict=True):
        for level, quantile in zip(LEVELS, row, strict=True):
            root = optimize.brentq(
                lambda q, means=means, level=level: stats.norm.cdf(q, means, noise).mean() - level,
                -50,
                50,
                xtol=1e-12,
            )
            np.testing.assert_allclose(quantile, root, atol=2e-5)


def test_without_noise_they_are_those_of_the_samples():
    found = dj.mc_quantiles(KEY, mlp(), X, (0.05, 0.5, 0.95), samples=K, noise=0.0)
    expected = np.quantile(samples(), (0.05, 0.5, 0.95), axis=0, method="inverted_cdf")
    np.testing.assert_allclose(found[:, 0], expected.T, atol=2e-6)


def test_consistent_masks_do_not_depend_on_the_batch():
    whole, parts = (
        dj.mc_quantiles(KEY, mlp(), X, samples=3, noise=0.1, consistent=True, batch_size=size)
        for size in (None, 2)
    )
    np.testing.assert_allclose(whole, parts, atol=2e-6)


@pytest.mark.parametrize("levels", [(0.0, 0.5), (5, 95), ()])
def test_bad_levels(levels):
    with pytest.raises(ValueError, match=r"levels is .*write shares between 0 and 1"):
        dj.mc_quantiles(KEY, mlp(), X, levels, samples=2, noise=0.1)
