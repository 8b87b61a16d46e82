"""DropConnect: masks per example and per batch, what backward keeps, the paper's moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thresholds import assert_normal
from scipy import stats

import dropout_jax as dj

KEY = jax.random.key(0)
# Small whole numbers, and rates whose factor is 2 or 4: the arithmetic is exact.
X = jax.random.randint(jax.random.key(1), (4, 7), -4, 5).astype(jnp.float32)
KERNEL = jax.random.randint(jax.random.key(2), (7, 5), -4, 5).astype(jnp.float32)


def test_weights_are_those_of_dropout():
    np.testing.assert_array_equal(dj.drop_connect(KEY, KERNEL, 0.3), dj.dropout(KEY, KERNEL, 0.3))
    with pytest.raises(TypeError, match="weights has dtype int32"):
        dj.drop_connect(KEY, jnp.ones((2, 2), jnp.int32), 0.3)


def test_per_batch_is_one_masked_kernel():
    y = dj.drop_connect_dense(KEY, X, KERNEL, 0.75, per="batch")
    np.testing.assert_array_equal(y, X @ dj.drop_connect(KEY, KERNEL, 0.75))


@pytest.mark.parametrize("lead", [(), (4,), (2, 3)])
def test_per_example_masks_differ(lead):
    """Equal inputs, one mask each: compared with the kernels written out."""
    x = jnp.broadcast_to(X[0], (*lead, 7))
    y = dj.drop_connect_dense(KEY, x, KERNEL, 0.75)
    masks = dj.packed_mask(KEY, 0.75, (*lead, 7, 5)).unpack()
    kernels = np.where(masks, 4 * KERNEL, 0)
    np.testing.assert_array_equal(y, np.einsum("...i,...io->...o", x, kernels))
    assert len(np.unique(y.reshape(-1, 5), axis=0)) == np.prod(lead)


def test_own_keys_through_vmap():
    keys = dj.per_example_keys(KEY, jnp.arange(4))
    layer = jax.vmap(dj.drop_connect_dense, (0, 0, None, None))
    y = layer(keys, X, KERNEL, 0.75)
    np.testing.assert_array_equal(layer(keys[::-1], X[::-1], KERNEL, 0.75)[::-1], y)


def test_gradients_are_those_of_the_masked_kernels():
    masks = dj.packed_mask(KEY, 0.5, (4, 7, 5)).unpack()

    def plain(x, kernel):
        return (jnp.einsum("ni,nio->no", x, 2 * masks * kernel[None]) ** 2).sum()

    def ours(x, kernel):
        return (dj.drop_connect_dense(KEY, x, kernel, 0.5) ** 2).sum()

    for a, b in zip(
        jax.grad(ours, (0, 1))(X, KERNEL), jax.grad(plain, (0, 1))(X, KERNEL), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_backward_keeps_bits_and_not_kernels():
    _, pullback = jax.vjp(lambda x, k: dj.drop_connect_dense(KEY, x, k, 0.5), X, KERNEL)
    kept = sum(leaf.nbytes for leaf in jax.tree.leaves(pullback))
    inputs, words = X.nbytes + KERNEL.nbytes, dj.packed_mask(KEY, 0.5, (4, 7, 5)).words.nbytes
    assert kept <= inputs + words + 4  # and the scale


def test_moments_are_those_of_the_training_noise():
    """The Gaussian's mean and variance, read off its draws, against all 2^6 masks of 6 weights."""
    x, kernel, rate = np.arange(1.0, 7), np.ones((6, 1)), 0.25
    masks = (np.arange(64)[:, None] >> np.arange(6)) & 1
    chance = np.prod(np.where(masks, 1 - rate, rate), axis=1)
    u = (masks / (1 - rate)) @ (x[:, None] * kernel)
    mean, n = chance @ u, 2**14
    variance = chance @ (u - mean) ** 2

    def draw(key):
        inputs = jnp.float32(x), jnp.float32(kernel)
        return dj.drop_connect_moments(key, *inputs, rate, lambda u: u, 1)

    sampled = jax.jit(jax.vmap(draw))
    values = np.float64(sampled(jax.random.split(KEY, n)))
    z = (values.mean() - mean[0]) / np.sqrt(variance[0] / n)
    # the mean square of normal deviations has variance 2 sigma^4 / n
    square = (((values - mean[0]) ** 2).mean() / variance[0] - 1) / np.sqrt(2 / n)
    assert_normal([z, square], 1e-7, "moments")


def test_the_mean_of_a_rectifier_is_the_rectified_gaussians():
    """E max(u, 0) = m Phi(m / s) + s phi(m / s), which scaling the weights alone misses."""
    x, kernel, samples = jnp.ones((1, 16)), jnp.linspace(-1, 1, 16).reshape(16, 1), 2**16
    ours = float(dj.drop_connect_moments(KEY, x, kernel, 0.5, jax.nn.relu, samples)[0, 0])
    m, s = float(kernel.sum()), float(jnp.sqrt((kernel**2).sum()))
    exact = m * stats.norm.cdf(m / s) + s * stats.norm.pdf(m / s)
    second = (m**2 + s**2) * stats.norm.cdf(m / s) + m * s * stats.norm.pdf(m / s)
    assert_normal((ours - exact) / np.sqrt((second - exact**2) / samples), 1e-7, "mean of relu")


def test_moments_have_finite_gradients_where_nothing_varies():
    for rate in (0.0, 0.5, 1.0, jnp.float32(0), jnp.float32(1)):

        def total(x, rate=rate):
            return dj.drop_connect_moments(KEY, x, KERNEL, rate, jax.nn.relu, 3).sum()

        assert np.isfinite(jax.grad(total)(jnp.zeros((2, 7)))).all()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: dj.drop_connect_dense(KEY, X, KERNEL.T, 0.5), r"\(in, out\)"),
        (lambda: dj.drop_connect_dense(KEY, X, KERNEL, 0.5, per="layer"), "'example' or 'batch'"),
        (lambda: dj.drop_connect_dense(KEY, X, KERNEL, jnp.full((4, 7, 5), 0.5)), "broadcast"),
        (lambda: dj.drop_connect_moments(KEY, X, KERNEL.T, 0.5, jax.nn.relu, 3), r"\(in, out\)"),
        (lambda: dj.drop_connect_moments(KEY, X, KERNEL, 0.5, jax.nn.relu, 0), "1 or more"),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()
