"""Entropy and mutual information against scipy on the samples of the same key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

import dropout_jax as dj
from dropout_jax import predict

KEY, K = jax.random.key(0), 16
X = jnp.asarray(np.random.default_rng(1).normal(size=(7, 4)), jnp.float32)


def mlp(outputs=3, rate=0.5):
    return dj.layers.MLP((4, 8, outputs), rates=rate, rngs=nnx.Rngs(0))


def test_probabilities_entropy_and_mutual_information():
    found = dj.mc_classify(KEY, mlp(), X, samples=K)
    drawn = np.float64(predict.mc_samples(KEY, mlp(), X, samples=K))
    total = stats.entropy(drawn.mean(0), axis=-1)
    within = stats.entropy(drawn, axis=-1).mean(0)
    np.testing.assert_allclose(found.probabilities, drawn.mean(0), rtol=2e-5)
    np.testing.assert_allclose(found.entropy, total, rtol=2e-5)
    np.testing.assert_allclose(found.mutual_information, total - within, atol=2e-6)
    assert found.mutual_information.min() > 0


def test_a_model_without_dropout_knows_all_there_is():
    found = dj.mc_classify(KEY, mlp(rate=0.0), X, samples=K)
    np.testing.assert_allclose(found.mutual_information, 0, atol=1e-6)


def test_consistent_masks_do_not_depend_on_the_batch():
    whole, parts = (
        dj.mc_classify(KEY, mlp(), X, samples=3, consistent=True, batch_size=size)
        for size in (None, 2)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), whole, parts)


def test_a_class_that_cannot_be_has_no_entropy():
    np.testing.assert_allclose(predict.entropy(jnp.array([0.0, 0.5, 0.5])), np.log(2), rtol=1e-6)
    gradient = jax.grad(lambda p: predict.entropy(p))(jnp.array([0.0, 0.5, 0.5]))
    assert np.isfinite(gradient).all()


def test_a_regression_is_no_classifier():
    with pytest.raises(ValueError, match=r"\(7, 1\).*write mc_regress"):
        dj.mc_classify(KEY, mlp(1), X, samples=2)
    with pytest.raises(ValueError, match="samples is 0"):
        dj.mc_classify(KEY, mlp(), X, samples=0)
