"""Concrete dropout: its law by quadrature, its limits, its gradient, and the prior's term."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thresholds import assert_binomial, assert_normal
from scipy import integrate, special, stats

from dropout_jax.noise.concrete import concrete_dropout, concrete_kl

# In the fast loop the contract and the doctests stand for these: they compile much.
pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
DRAWS = 2**16
# The false-alarm rate of each statistical test here. The noise is bounded by 1 / (1 - r) <= 4, and
# at these sample sizes its skewness moves a normal tail at |z| = 6 by less than a factor of two.
ALPHA = 1e-8


def expectation(f, logit, temperature):
    """E f(noise), by quadrature over the logistic variable logit u."""

    def integrand(g):
        log_noise = np.logaddexp(0, logit) - np.logaddexp(0, (logit + g) / temperature)
        return f(np.exp(log_noise)) * stats.logistic.pdf(g)

    edges = sorted({-40.0, *(-logit + temperature * np.array([-20, 0, 20])), 40.0})
    return sum(integrate.quad(integrand, a, b)[0] for a, b in itertools.pairwise(edges))


def draws(logit, temperature, n=DRAWS):
    noise = concrete_dropout(jax.random.key(2017), jnp.ones(n), logit, temperature=temperature)
    return np.asarray(noise, np.float64)


@pytest.mark.usefixtures("key_reuse_checked")
@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.75])
def test_moments_are_those_of_the_law(rate, temperature):
    logit = special.logit(rate)
    noise = draws(logit, temperature)
    first, second, fourth = (
        expectation(lambda v, k=k: v**k, logit, temperature) for k in (1, 2, 4)
    )
    scores = [
        (noise.mean() - first) / np.sqrt((second - first**2) / DRAWS),
        ((noise**2).mean() - second) / np.sqrt((fourth - second**2) / DRAWS),
    ]
    assert_normal(scores, ALPHA / 9, "moments")


def test_the_mean_at_the_usual_temperature_is_nearly_one():
    means = [expectation(lambda v: v, logit, 0.1) for logit in np.linspace(-9, 9, 37)]
    assert 0.997 < min(means) and max(means) < 1.017
    assert means[18] == pytest.approx(1, abs=1e-9)  # at rate 1/2, by symmetry


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_cold_noise_is_bernoulli(rate):
    """Dropped at the rate, and either 0 or 1 / (1 - r) but for a share that t bounds."""
    logit, keep = special.logit(rate), 1 - rate
    relative = keep * draws(logit, 1e-6)  # 1 - z
    assert_binomial((relative < 0.5).sum(), DRAWS, rate, ALPHA / 3, "drops")
    soft = (relative > 0.01) & (relative < 0.99)
    # |logit u + logit r| < t logit(0.99), under a density of 1/4 at most
    share = 2 * 1e-6 * special.logit(0.99) / 4
    assert soft.sum() <= stats.binom.isf(ALPHA / 3, DRAWS, share)
    np.testing.assert_array_equal(relative < 0.5, keep * draws(logit, 1.0) < 0.5)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.75])
def test_the_gradient_is_that_of_the_expectation(rate, temperature):
    """The mean of per-draw gradients, against a central difference of the quadrature."""
    logit, step = special.logit(rate), 1e-4

    def loss(noise):
        return (noise - 0.3) ** 2

    def draw(key, logit):
        return loss(concrete_dropout(key, jnp.ones(()), logit, temperature=temperature))

    slopes = jax.jit(jax.vmap(jax.grad(draw, 1), (0, None)))
    each = np.float64(slopes(jax.random.split(KEY, DRAWS), jnp.float32(logit)))
    high, low = (expectation(loss, logit + s, temperature) for s in (step, -step))
    z = (each.mean() - (high - low) / (2 * step)) / (each.std() / np.sqrt(DRAWS))
    assert_normal(z, ALPHA / 6, "gradient")


def test_the_gradient_follows_the_draw(x64):
    x = jnp.linspace(-2, 2, 50)

    def total(logit):
        return jnp.sum(concrete_dropout(KEY, x, logit, temperature=0.5) ** 3)

    for logit in (-3.0, 0.0, 2.0):
        difference = (total(logit + 1e-6) - total(logit - 1e-6)) / 2e-6
        np.testing.assert_allclose(jax.grad(total)(logit), difference, rtol=1e-7)


@pytest.mark.parametrize("temperature", [1e-9, 0.1, 1.0])
@pytest.mark.parametrize("logit", [-np.inf, -1e4, -50.0, 50.0, 1e4, np.inf])
def test_extreme_logits_are_finite_with_finite_gradients(logit, temperature):
    x = jnp.ones(4096)

    def noise(x, logit):
        return concrete_dropout(KEY, x, logit, temperature=temperature)

    y, pullback = jax.vjp(noise, x, jnp.float32(logit))
    assert np.isfinite(y).all() and all(np.isfinite(part).all() for part in pullback(x))
    if temperature < 1:
        np.testing.assert_array_equal(y, x if logit < 0 else 0 * x)


def test_a_traced_temperature_of_0_is_the_limit():
    call = jax.jit(lambda t: concrete_dropout(KEY, jnp.ones(1000), 0.0, temperature=t))
    np.testing.assert_array_equal(call(0.0), call(1e-9))
    assert set(np.unique(call(0.0))) == {0.0, 2.0}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_results_are_those_of_float32_rounded(dtype):
    x = jnp.linspace(-2, 2, 300).astype(dtype)
    wide = concrete_dropout(KEY, x.astype(jnp.float32), -1.0)
    np.testing.assert_array_equal(concrete_dropout(KEY, x, -1.0), wide.astype(dtype))


def test_float64_draws_in_float64(x64):
    y = concrete_dropout(KEY, jnp.ones(100, jnp.float64), -1.0)
    assert y.dtype == jnp.float64 and (y != y.astype(jnp.float32)).any()


def test_who_shares_a_draw_and_a_rate():
    x, logits = jnp.ones((4, 5, 6)), jnp.array([-jnp.inf, -2, -1, 0, 1, jnp.inf])
    y = concrete_dropout(KEY, x, logits, broadcast_dims=(1,))
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1], x.shape))
    alone = concrete_dropout(KEY, x, 0.0, broadcast_dims=(1,))
    np.testing.assert_allclose(y[..., 3], alone[..., 3], rtol=1e-6)
    np.testing.assert_array_equal(y[..., 0], 1)
    np.testing.assert_array_equal(y[..., 5], 0)


def test_vmap_over_rates_and_keys_is_a_loop():
    keys, logits = jax.random.split(KEY, 3), jnp.array([-2.0, 0.0, 2.0])
    mapped = jax.vmap(concrete_dropout, (0, None, 0))(keys, jnp.ones(9), logits)
    loop = [concrete_dropout(k, jnp.ones(9), v) for k, v in zip(keys, logits, strict=True)]
    np.testing.assert_allclose(mapped, loop, rtol=1e-5)


X = jnp.ones((3, 4))


@pytest.mark.parametrize("temperature", [0, -1.0, 1.5, np.nan])
def test_errors_of_the_temperature(temperature):
    with pytest.raises(ValueError, match=f"temperature is {temperature}.*write 0.1"):
        concrete_dropout(KEY, X, 0.0, temperature=temperature)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: concrete_dropout(None, X, 0.0), TypeError, r"jax\.random\.key\(0\)"),
        (lambda: concrete_dropout(KEY, jnp.arange(3), 0.0), TypeError, "x has dtype int32"),
        (lambda: concrete_dropout(KEY, X, jnp.ones(5)), ValueError, "logit_rate of shape"),
        (lambda: concrete_dropout(KEY, X, 0.0, broadcast_dims=(2,)), ValueError, "axis 2"),
        (
            lambda: concrete_dropout(KEY, X, 0.0, temperature=jnp.ones(4)),
            ValueError,
            "temperature of shape",
        ),
        (lambda: concrete_kl(jnp.ones(3), 0.0, length_scale=1.0), ValueError, "in, out"),
        (lambda: concrete_kl(X, jnp.ones(4), length_scale=1.0), ValueError, "logit_rate of shape"),
        (lambda: concrete_kl(X, 0.0, length_scale=0.0), ValueError, "length_scale is 0.0.*0.01"),
        (lambda: concrete_kl(X, 0.0, length_scale=np.nan), ValueError, "length_scale is nan"),
        (
            lambda: concrete_kl(X.astype(jnp.int32), 0.0, length_scale=1.0),
            TypeError,
            "kernel has dtype int32",
        ),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()


# The prior's term


@pytest.mark.parametrize("shape", [(5, 3), (3, 3, 5, 2)])
def test_kl_times_2_over_n_has_the_coefficients_of_the_papers_code(shape):
    kernel, rate, scale, n = jax.random.normal(KEY, shape), 0.2, 0.3, 100
    ours = concrete_kl(kernel, special.logit(rate), length_scale=scale) * 2 / n
    weights = scale**2 / n * np.sum(np.float64(kernel) ** 2) / (1 - rate)
    entropy = 5 * (rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    np.testing.assert_allclose(ours, weights + 2 / n * entropy, rtol=1e-5)


def test_rates_of_units_add_up():
    kernel, logits = jax.random.normal(KEY, (4, 3)), jnp.array([-2.0, -1.0, 0.5, 3.0])
    alone = [
        concrete_kl(kernel[i : i + 1], logits[i], length_scale=2.0) for i in range(len(logits))
    ]
    np.testing.assert_allclose(concrete_kl(kernel, logits, length_scale=2.0), sum(alone), rtol=1e-5)
    equal = concrete_kl(kernel, jnp.full(4, -1.0), length_scale=2.0)
    np.testing.assert_allclose(concrete_kl(kernel, -1.0, length_scale=2.0), equal, rtol=1e-6)


def test_kl_gradient(x64):
    kernel = jax.random.normal(KEY, (4, 3), jnp.float64)

    def kl(logit):
        return concrete_kl(kernel, logit, length_scale=0.5)

    for logit in (-30.0, -2.0, 0.0, 5.0):
        difference = (kl(logit + 1e-6) - kl(logit - 1e-6)) / 2e-6
        np.testing.assert_allclose(jax.grad(kl)(logit), difference, rtol=1e-6, atol=1e-8)


def test_without_weights_the_prior_asks_for_one_half():
    slope = jax.vmap(jax.grad(lambda v: concrete_kl(jnp.zeros((4, 3)), v, length_scale=1.0)))
    logits = jnp.array([-3.0, -0.1, 0.0, 0.1, 3.0])
    np.testing.assert_array_equal(jnp.sign(slope(logits)), [-1, -1, 0, 1, 1])


def test_heavier_weights_ask_for_a_smaller_rate():
    slopes = [
        jax.grad(lambda v, w=w: concrete_kl(jnp.full((4, 3), w), v, length_scale=1.0))(-1.0)
        for w in (0.0, 0.5, 2.0)
    ]
    assert slopes[0] < slopes[1] < slopes[2] and slopes[2] > 0


@pytest.mark.parametrize("logit", [-np.inf, -1e4, 50.0, np.inf])
def test_kl_is_finite_at_extreme_logits(logit):
    def kl(kernel, logit):
        return concrete_kl(kernel, logit, length_scale=1e-4)

    value, slopes = jax.value_and_grad(kl, (0, 1))(jnp.ones((4, 3)), jnp.float32(logit))
    assert np.isfinite(value) and all(np.isfinite(part).all() for part in slopes)


def test_kl_of_narrow_weights_is_summed_in_float32():
    kernel = jnp.ones((64, 64), jnp.bfloat16)
    kl = concrete_kl(kernel, 0.0, length_scale=1.0)
    assert kl.dtype == jnp.float32
    np.testing.assert_allclose(kl, 64 * 64 - 64 * np.log(2), rtol=1e-6)
