"""Variational dropout: the law at the outputs, what is differentiated, the divergences, pruning."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thresholds import assert_normal
from scipy import integrate

import dropout_jax as dj
from dropout_jax.noise.sparse import sparse_dense, sparse_kl, sparse_log_alpha, sparse_mask
from dropout_jax.noise.variational import variational_dense, variational_dropout, variational_kl

# In the fast loop the contract and the doctests stand for these: they compile much.
pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (3, 5))
KERNEL = jax.random.normal(jax.random.key(2), (5, 4))
LOG_ALPHA = jnp.linspace(-4, -0.1, 20).reshape(5, 4)
LOG_SIGMA2 = jnp.linspace(-4, 1, 20).reshape(5, 4)
# The false-alarm rate of each statistical test here. Squares and products of normal deviations have
# skewness 2.83 at most, and with 2^15 of them a normal tail at |z| = 6.3 grows by less than two.
ALPHA = 1e-8
DRAWS = 2**15


# Noise on units


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_it_is_gaussian_dropout_of_the_same_variance(rate):
    x = jnp.linspace(0.5, 2, 64)
    y = variational_dropout(KEY, x, np.log(rate / (1 - rate)))
    np.testing.assert_allclose(y, dj.gaussian_dropout(KEY, x, rate), rtol=0, atol=16 * 2.0**-23)


def test_the_derivative_by_log_alpha_is_half_the_noise(x64):
    x = jnp.linspace(-2, 2, 64)
    y, slope = jax.jvp(lambda v: variational_dropout(KEY, x, v), (-1.5,), (1.0,))
    np.testing.assert_allclose(slope, (y - x) / 2, rtol=1e-12, atol=1e-12)


def test_alpha_is_one_at_most():
    def total(log_alpha):
        return variational_dropout(KEY, jnp.ones(64), log_alpha).sum()

    assert total(5.0) == total(jnp.inf) == total(0.0) != total(-0.5)
    assert jax.grad(total)(5.0) == 0 and jax.grad(total)(-0.5) != 0


def test_no_noise_at_alpha_0():
    value, slope = jax.value_and_grad(lambda v: variational_dropout(KEY, X, v).sum())(-jnp.inf)
    assert value == X.sum() and slope == 0


def test_who_shares_a_draw_and_an_alpha():
    x, log_alpha = jnp.ones((4, 5, 3)), jnp.array([-jnp.inf, -1.0, 0.0])
    y = variational_dropout(KEY, x, log_alpha, broadcast_dims=(1,))
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1], x.shape))
    alone = variational_dropout(KEY, x, -1.0, broadcast_dims=(1,))
    np.testing.assert_allclose(y[..., 1], alone[..., 1], rtol=1e-6)
    np.testing.assert_array_equal(y[..., 0], 1)


# Noise on weights, drawn at the outputs

LAWS = {
    "variational": (variational_dense, LOG_ALPHA, jnp.exp(LOG_ALPHA) * KERNEL**2),
    "sparse": (sparse_dense, LOG_SIGMA2, jnp.exp(LOG_SIGMA2)),
}


def assert_law(u, weight_variance, what):
    """Mean, variance and independence of u (draws, 3, 4), for weights drawn for each example."""
    mean = np.float64(X) @ np.float64(KERNEL)
    stddev = np.sqrt(np.float64(X) ** 2 @ np.float64(weight_variance))
    z = ((u - mean) / stddev).reshape(len(u), -1)
    root = np.sqrt(len(u))
    products = (z.T @ z / len(u))[np.triu_indices(z.shape[1], 1)]
    assert_normal(z.mean(0) * root, ALPHA / 12, f"{what}: mean")
    assert_normal(((z**2).mean(0) - 1) * root / np.sqrt(2), ALPHA / 12, f"{what}: variance")
    assert_normal(products * root, ALPHA / 12, f"{what}: covariance")


@pytest.mark.usefixtures("key_reuse_checked")
@pytest.mark.parametrize("name", LAWS)
def test_outputs_have_the_law_of_sampled_weights(name):
    """The local reparameterisation and weights that are really drawn, by one check."""
    dense, parameter, variance = LAWS[name]
    local = jax.jit(jax.vmap(lambda key: dense(key, X, KERNEL, parameter)))
    keys = jax.random.split(jax.random.key(2015), DRAWS)
    assert_law(np.float64(local(keys)), variance, "local")

    def sample(key):
        weights = KERNEL[None] + jnp.sqrt(variance)[None] * jax.random.normal(key, (3, 5, 4))
        return jnp.einsum("ni,nio->no", X, weights)

    sampled = np.float64(jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(3), DRAWS)))
    assert_law(sampled, variance, "weights")


def test_a_wrong_law_is_caught():
    with pytest.raises(AssertionError, match="variance"):
        wrong = jax.vmap(lambda key: sparse_dense(key, X, KERNEL, LOG_SIGMA2 + 0.2))
        assert_law(
            np.float64(jax.jit(wrong)(jax.random.split(KEY, DRAWS))), jnp.exp(LOG_SIGMA2), ""
        )
    with pytest.raises(AssertionError, match="covariance"):

        def one_for_all(key):
            noise = jnp.sqrt(jnp.exp(LOG_SIGMA2)) * jax.random.normal(key, (5, 4))
            return X @ (KERNEL + noise)

        shared = jax.jit(jax.vmap(one_for_all))(jax.random.split(KEY, DRAWS))
        assert_law(np.float64(shared), jnp.exp(LOG_SIGMA2), "")


@pytest.mark.parametrize("name", LAWS)
def test_the_gradient_is_that_of_the_expectation(name):
    """E sum u^2 = m^2 + v, whose derivative by a log variance is x^2 times the variance."""
    dense, parameter, variance = LAWS[name]
    slope = jax.grad(lambda v, key: (dense(key, X, KERNEL, v) ** 2).sum())
    keys = jax.random.split(KEY, DRAWS)
    each = np.float64(jax.jit(jax.vmap(slope, (None, 0)))(parameter, keys))
    exact = (np.float64(X) ** 2).sum(0)[:, None] * np.float64(variance)
    z = (each.mean(0) - exact) / (each.std(0) / np.sqrt(DRAWS))
    assert_normal(z, ALPHA / 2, "gradient")


def test_additive_noise_leaves_the_weights_gradient_alone():
    """du / dW = x at every alpha, without noise."""
    slope = jax.grad(lambda w: sparse_dense(KEY, X, w, LOG_SIGMA2 + 5).sum())(KERNEL)
    np.testing.assert_allclose(slope, jnp.broadcast_to(X.sum(0)[:, None], (5, 4)), rtol=1e-6)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize(
    ("x", "kernel", "shift"),
    [(0 * X, KERNEL, 0), (X, 0 * KERNEL, 0), (0 * X, 0 * KERNEL, 0), (X, KERNEL, -np.inf)],
)
def test_finite_gradients_where_nothing_varies(name, x, kernel, shift):
    dense, parameter, _ = LAWS[name]
    slopes = jax.grad(lambda *a: dense(KEY, *a).sum(), (0, 1, 2))(x, kernel, parameter + shift)
    assert all(np.isfinite(part).all() for part in slopes)
    if shift:
        np.testing.assert_array_equal(dense(KEY, x, kernel, parameter + shift), x @ kernel)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("lead", [(), (0,), (2, 3)])
def test_leading_axes_and_dtypes(name, lead):
    dense, parameter, _ = LAWS[name]
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        y = dense(KEY, jnp.ones((*lead, 5), dtype), KERNEL.astype(dtype), parameter)
        assert y.shape == (*lead, 4) and y.dtype == dtype and np.isfinite(y).all()


@pytest.mark.parametrize("name", LAWS)
def test_float64_draws_in_float64(name, x64):
    dense, parameter, _ = LAWS[name]
    y = dense(KEY, X.astype(jnp.float64), KERNEL.astype(jnp.float64), parameter)
    assert y.dtype == jnp.float64 and (y != y.astype(jnp.float32)).all()


@pytest.mark.parametrize("name", LAWS)
def test_a_number_serves_all_weights(name):
    dense, parameter, _ = LAWS[name]
    for shared in (-1, -1.0, jnp.full((5, 1), -1.0), jnp.full(4, -1.0)):
        y = dense(KEY, X, KERNEL, shared)
        np.testing.assert_array_equal(y, dense(KEY, X, KERNEL, jnp.full((5, 4), -1.0)))


@pytest.mark.parametrize("name", LAWS)
def test_vmap_is_a_loop(name):
    dense, parameter, _ = LAWS[name]
    keys = jax.random.split(KEY, 3)
    mapped = jax.vmap(dense, (0, 0, None, None))(keys, X, KERNEL, parameter)
    loop = [dense(key, x, KERNEL, parameter) for key, x in zip(keys, X, strict=True)]
    np.testing.assert_allclose(mapped, loop, rtol=1e-5, atol=1e-6)


# The divergences


GRID = np.linspace(-10, 10, 201)


def exact_kl(log_alpha):
    """KL(N(w, alpha w^2) || log-uniform), by quadrature, with the constant that makes it 0 at alpha
    infinite: E log|v| - log(alpha) / 2 + (gamma + log 2) / 2, for v ~ N(1, alpha).
    """
    alpha = np.exp(log_alpha)

    def integrand(s):  # in s = log|v|, where nothing is singular
        v = np.exp(s)
        weight = np.exp(-((v - 1) ** 2) / (2 * alpha)) + np.exp(-((v + 1) ** 2) / (2 * alpha))
        return s * v * weight / np.sqrt(2 * np.pi * alpha)

    reach = 12 * np.sqrt(alpha)
    lows = [np.log(1 - reach)] if reach < 0.99 else [-40.0, -10.0, -3.0]
    edges = sorted([*lows, 0.0, np.log(1 + reach)])
    pieces = [integrate.quad(integrand, a, b, epsabs=1e-9)[0] for a, b in itertools.pairwise(edges)]
    return sum(pieces) - log_alpha / 2 + (np.euler_gamma + np.log(2)) / 2


@functools.cache
def exact(largest=10.0):
    return np.array([exact_kl(v) for v in GRID if v <= largest])


def worst_of_sparse(kl):
    return np.abs(np.float64(kl(jnp.float32(GRID))) - exact()).max()


def worst_of_variational(kl):
    """Up to a constant."""
    error = np.float64(kl(jnp.float32(GRID[GRID <= 0]))) - exact(0.0)
    return (error.max() - error.min()) / 2


def test_the_exact_divergence_is_exact():
    """Its limits: about 1 / alpha to 0, and -log(alpha) / 2 + (gamma + log 2) / 2 + alpha."""
    assert abs(exact()[-1]) < 2 * np.exp(-10)
    assert abs(exact()[0] - 5 - (np.euler_gamma + np.log(2)) / 2) < 2 * np.exp(-10)


def test_the_approximations_are_within_their_stated_errors():
    assert worst_of_sparse(sparse_kl) < 0.0094
    assert worst_of_variational(variational_kl) < 0.021


def test_a_wrong_constant_is_seen():
    def swapped_digits(v):
        return sparse_kl(v) + 0.018 * jax.nn.sigmoid(-1.8732 - 1.48695 * v)  # k1 = 0.65376

    def without_cube(v):
        return variational_kl(v) + 0.58629921 * jnp.exp(3 * v)

    assert worst_of_sparse(swapped_digits) > 0.0094
    assert worst_of_variational(without_cube) > 0.021


def test_the_divergences_fall_as_the_noise_grows():
    values = jnp.linspace(-12, 12, 241)
    assert (jnp.diff(sparse_kl(values)) < 0).all() and (sparse_kl(values) > 0).all()
    below = values[values < 0]
    assert (jnp.diff(variational_kl(below)) < 0).all()
    assert variational_kl(3.0) == variational_kl(0.0) and jax.grad(variational_kl)(3.0) == 0


@pytest.mark.parametrize("kl", [sparse_kl, variational_kl])
def test_divergences_at_the_ends_of_the_range(kl):
    assert kl(-jnp.inf) == jnp.inf and jax.grad(kl)(-jnp.inf) == -0.5
    assert np.isfinite(kl(jnp.inf)) and jax.grad(kl)(jnp.inf) == 0
    assert sparse_kl(jnp.inf) == 0


@pytest.mark.parametrize("kl", [sparse_kl, variational_kl])
def test_divergences_keep_shapes_and_widen_narrow_dtypes(kl):
    values = jnp.array([[-3.0, -1.0]], jnp.bfloat16)
    assert kl(values).shape == (1, 2) and kl(values).dtype == jnp.float32
    np.testing.assert_array_equal(kl(values), kl(values.astype(jnp.float32)))
    np.testing.assert_array_equal(jax.jit(jax.vmap(kl))(values), kl(values))
    assert kl(-1) == kl(-1.0)


# Pruning


def test_log_alpha_and_its_clipping():
    kernel = jnp.array([[1.0, 10.0, 1e-6, 0.0, -1.0]])
    np.testing.assert_allclose(
        sparse_log_alpha(kernel, -5.0), [[-5.0, -8.0, 8.0, 8.0, -5.0]], rtol=1e-6
    )


def test_log_alpha_has_finite_gradients():
    """Weights of 0, subnormal, tiny, and so small that their squares underflow."""
    kernel = jnp.array([0.0, 1e-45, 1e-38, -1e-30, 0.5])
    for log_sigma2 in (-1e3, -140.0, -10.0, 0.0, -jnp.inf, 1e3):

        def total(kernel, log_sigma2):
            return sparse_kl(sparse_log_alpha(kernel, log_sigma2)).sum()

        slopes = jax.grad(total, (0, 1))(kernel, jnp.full(5, log_sigma2))
        assert all(np.isfinite(part).all() for part in slopes)


def test_log_alpha_of_a_tiny_weight_does_not_underflow():
    value = sparse_log_alpha(jnp.float32(1e-30), 2 * np.log(1e-30))
    np.testing.assert_allclose(value, 0, atol=1e-4)


def test_the_mask_keeps_up_to_the_threshold():
    log_alpha = jnp.array([-8.0, 3.0, 3.1, 8.0])
    np.testing.assert_array_equal(sparse_mask(log_alpha), [True, True, False, False])
    np.testing.assert_array_equal(sparse_mask(log_alpha, threshold=-8.0), [True] + [False] * 3)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: variational_dropout(None, X, 0.0), TypeError, r"jax\.random\.key\(0\)"),
        (lambda: variational_dropout(KEY, jnp.arange(3), 0.0), TypeError, "x has dtype int32"),
        (lambda: variational_dropout(KEY, X, jnp.ones(4)), ValueError, "log_alpha of shape"),
        (lambda: variational_dropout(KEY, X, 0.0, broadcast_dims=(2,)), ValueError, "axis 2"),
        (lambda: variational_dense(None, X, KERNEL, 0.0), TypeError, r"jax\.random\.key\(0\)"),
        (lambda: variational_dense(KEY, X, KERNEL.T, 0.0), ValueError, r"\(in, out\)"),
        (lambda: variational_dense(KEY, X, KERNEL, jnp.ones(5)), ValueError, "log_alpha of shape"),
        (
            lambda: variational_dense(KEY, X, KERNEL.astype(jnp.int32), 0.0),
            TypeError,
            "kernel has dtype int32",
        ),
        (lambda: sparse_dense(None, X, KERNEL, 0.0), TypeError, r"jax\.random\.key\(0\)"),
        (lambda: sparse_dense(KEY, X, KERNEL.T, 0.0), ValueError, r"\(in, out\)"),
        (lambda: sparse_dense(KEY, X, KERNEL, jnp.ones(5)), ValueError, "log_sigma2 of shape"),
        (lambda: sparse_log_alpha(KERNEL, jnp.ones(5)), ValueError, "log_sigma2 of shape"),
        (lambda: sparse_log_alpha(jnp.arange(3), 0.0), TypeError, "kernel has dtype int32"),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()
