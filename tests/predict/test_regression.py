"""Regression with MC dropout against NumPy on the samples of the same key.

What would make this wrong: the deviation of the noise in the epistemic part; a logarithm of a mean
taken for a mean of logarithms; masks that depend on the batch although they are consistent.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax.sharding import AxisType
from scipy import special, stats

import dropout_jax as dj
from dropout_jax import predict

KEY, K = jax.random.key(0), 16
X = jnp.asarray(np.random.default_rng(1).normal(size=(7, 4)), jnp.float32)
Y = np.random.default_rng(2).normal(size=7).astype(np.float32)


def mlp(outputs=1, rate=0.3):
    return dj.layers.MLP((4, 8, outputs), rates=rate, rngs=nnx.Rngs(0))


def passes(model, key=KEY, x=X):
    """Each sub-network's outputs, drawn by the oldest of the rules."""
    return np.float64(predict.mc_samples(key, model, x, samples=K, output=lambda y: y))


def close(found, expected):
    """A few float32 operations on numbers of order one."""
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def test_mean_and_both_parts_of_a_known_noise():
    found, drawn = dj.mc_regress(KEY, mlp(), X, samples=K, noise=0.5), passes(mlp())
    close(found.mean, drawn.mean(0))
    close(found.epistemic, drawn.std(0))
    close(found.aleatoric, np.full((7, 1), 0.5))
    close(found.stddev, np.sqrt(drawn.var(0) + 0.25))
    assert found.epistemic.min() > 0


def test_mean_and_both_parts_of_a_learned_noise():
    found, drawn = dj.mc_regress(KEY, mlp(4), X, samples=K), passes(mlp(4))
    means, log_variances = drawn[..., :2], drawn[..., 2:]
    close(found.mean, means.mean(0))
    close(found.epistemic, means.std(0))
    close(found.aleatoric, np.sqrt(np.exp(log_variances).mean(0)))


def test_log_likelihood_of_a_known_and_of_a_learned_noise():
    found = dj.mc_log_likelihood(KEY, mlp(), X, Y, samples=K, noise=0.5)
    logs = stats.norm.logpdf(Y, passes(mlp())[..., 0], 0.5)
    close(found, special.logsumexp(logs, axis=0) - np.log(K))
    found = dj.mc_log_likelihood(KEY, mlp(2), X, Y, samples=K)
    means, log_variances = np.moveaxis(passes(mlp(2)), -1, 0)
    logs = stats.norm.logpdf(Y, means, np.exp(log_variances / 2))
    close(found, special.logsumexp(logs, axis=0) - np.log(K))


def test_the_log_likelihood_of_several_targets_is_of_all_at_once():
    y = np.stack([Y, 2 * Y], axis=1)
    found = dj.mc_log_likelihood(KEY, mlp(2), X, y, samples=K, noise=0.5)
    logs = stats.norm.logpdf(y, passes(mlp(2)), 0.5).sum(-1)
    close(found, special.logsumexp(logs, axis=0) - np.log(K))


def test_a_log_likelihood_far_from_every_sub_network_is_finite():
    found = dj.mc_log_likelihood(KEY, mlp(), X, Y + 1000, samples=K, noise=0.5)
    assert np.isfinite(found).all() and found.max() < -1e6


def test_the_interval_is_that_of_a_gaussian():
    found = predict.Regression(jnp.array([1.0]), jnp.array([3.0]), jnp.array([4.0]))
    low, high = found.interval(0.8, scale=2.0)
    close((low, high), np.reshape(stats.norm.interval(0.8, 1, 10), (2, 1)))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_consistent_masks_do_not_depend_on_the_batch(batch_size):
    model = mlp()
    whole = dj.mc_regress(KEY, model, X, samples=4, noise=0.1, consistent=True)
    found = dj.mc_regress(
        KEY, model, X, samples=4, noise=0.1, consistent=True, batch_size=batch_size
    )
    jax.tree.map(close, found, whole)


def test_consistent_masks_are_one_sub_network_for_all_examples():
    """The outputs for equal inputs are equal, where masks of their own would make them differ."""
    x = jnp.ones((5, 4))

    def spread(**options):
        found = dj.mc_regress(KEY, mlp(), x, samples=2, noise=0.1, **options)
        return float(np.ptp(found.mean))

    assert spread(consistent=True) == 0 and spread() > 0


def test_mc_predict_streams_too():
    whole = dj.mc_predict(KEY, mlp(3), X, samples=4, consistent=True)
    found = dj.mc_predict(KEY, mlp(3), X, samples=4, consistent=True, batch_size=3)
    jax.tree.map(close, found, whole)
    with pytest.raises(ValueError, match="batch_size is 0; write a whole"):
        dj.mc_predict(KEY, mlp(3), X, samples=4, batch_size=0)


def test_a_batch_has_masks_of_its_own():
    x = jnp.ones((6, 4))
    found = dj.mc_regress(KEY, mlp(), x, samples=2, noise=0.1, batch_size=3).mean
    assert not np.array_equal(found[:3], found[3:])


def test_batches_are_a_sample_of_the_same_distribution():
    """The mean of many passes over equal examples, in batches and at once: a z of two means."""
    x, options = jnp.ones((9, 4)), {"samples": 400, "noise": 0.1}
    whole = dj.mc_regress(KEY, mlp(), x, **options)
    found = dj.mc_regress(KEY, mlp(), x, batch_size=4, **options)
    stderr = float(whole.epistemic.mean()) / np.sqrt(9 * 400)
    z = (float(found.mean.mean()) - float(whole.mean.mean())) / stderr / np.sqrt(2)
    assert abs(z) < stats.norm.isf(1e-8 / 2)  # false-alarm rate 1e-8


def test_memory_grows_neither_with_samples_nor_with_examples():
    model, x = mlp(), jnp.ones((1013, 4))
    program = str(
        jax.make_jaxpr(
            lambda x: dj.mc_regress(KEY, model, x, samples=997, noise=0.1, batch_size=10)
        )(x)
    )
    assert "997,10" not in program and "1013,8" not in program and "10,8" in program


def test_a_linen_model_as_a_function():
    module = Linen()
    variables = module.init(jax.random.key(1), X)

    def model(key, x):
        return module.apply(variables, x, train=True, rngs={"dropout": key})

    found = dj.mc_regress(KEY, model, X, samples=K, noise=0.1)
    drawn = np.stack([model(jax.random.fold_in(KEY, k), X) for k in range(K)])
    close(found.mean, drawn.mean(0))
    close(found.epistemic, drawn.std(0))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = dj.linen.Dropout(0.5)(linen.relu(linen.Dense(8)(x)), deterministic=not train)
        return linen.Dense(1)(x)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_examples_that_are_spread_over_devices(kind):
    """The same numbers as on one device, and spread as the examples are."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
    model, x, y = mlp(), jnp.concatenate([X, X[:1]]), jnp.concatenate([Y, Y[:1]])
    options = {"samples": 3, "noise": 0.5}
    expected = (
        dj.mc_regress(KEY, model, x, **options),
        dj.mc_log_likelihood(KEY, model, x, y, **options),
    )
    with jax.set_mesh(mesh):
        rows = jax.NamedSharding(mesh, jax.P("data"))
        spread = jax.device_put(x, rows), jax.device_put(y, rows)
        found = (
            dj.mc_regress(KEY, model, spread[0], **options),
            dj.mc_log_likelihood(KEY, model, *spread, **options),
        )
        assert found[0].mean.sharding.spec[0] == "data"
        if kind == AxisType.Explicit:
            with pytest.raises(ValueError, match="spread over 4 devices: leave batch_size out"):
                dj.mc_regress(KEY, model, spread[0], batch_size=2, **options)
    jax.tree.map(close, found, expected)


def test_it_is_a_function_of_key_and_inputs_to_jit():
    model = mlp()

    @jax.jit
    def found(key, x, noise):
        return dj.mc_regress(key, model, x, samples=K, noise=noise)

    expected = dj.mc_regress(KEY, model, X, samples=K, noise=0.5)
    jax.tree.map(close, found(KEY, X, 0.5), expected)


def plain():
    return nnx.Linear(4, 1, rngs=nnx.Rngs(0))


class NeedsAnArgument(dj.layers.MLP):
    def __init__(self):
        super().__init__((4, 8, 1), rates=0.5, rngs=nnx.Rngs(0))

    def __call__(self, x, training=False):
        return super().__call__(x, deterministic=not training)


def test_a_rate_of_0_is_a_choice():
    found = dj.mc_regress(KEY, mlp(rate=0.0), X, samples=2, noise=0.5)
    np.testing.assert_array_equal(found.epistemic, 0)


BAD = {
    "no sample": (ValueError, r"samples is 0; write a whole", {"samples": 0}),
    "one sample": (ValueError, "samples is 1, and one sub-network has no spread", {"samples": 1}),
    "no dropout": (ValueError, "draws no noise.*dj.layers.Dropout", {"model": plain()}),
    "an argument that is not given": (
        ValueError,
        "draws no noise.*training=True",
        {"model": NeedsAnArgument()},
    ),
    "a negative noise": (ValueError, r"noise is -1\.0; write a standard", {"noise": -1.0}),
    "a noise of words": (TypeError, r"noise is 'a'; write", {"noise": "a"}),
    "a noise of another shape": (
        ValueError,
        r"a noise of shape \(3,\) does not broadcast against shape \(7, 1\)",
        {"noise": np.ones(3)},
    ),
    "no noise": (ValueError, r"noise was not given.*write noise=0\.1", {"noise": None}),
    "a bad batch": (ValueError, r"batch_size is 0; write a whole", {"batch_size": 0}),
    "no example": (ValueError, r"one example or more", {"x": X[:0]}),
    "no model": (TypeError, r"model is int", {"model": 3}),
}


@pytest.mark.parametrize(("kind", "message", "changed"), BAD.values(), ids=BAD)
def test_errors(kind, message, changed):
    arguments = {"model": mlp(), "x": X, "samples": 2, "noise": 0.5} | changed
    with pytest.raises(kind, match=message):
        dj.mc_regress(KEY, **arguments)


def test_errors_of_targets():
    with pytest.raises(ValueError, match="y holds 1 values that are NaN"):
        dj.mc_log_likelihood(KEY, mlp(), X, np.where(Y == Y[0], np.nan, Y), samples=2, noise=1)
    with pytest.raises(ValueError, match=r"y has shape \(6,\) and the predictions \(7, 1\)"):
        dj.mc_log_likelihood(KEY, mlp(), X[:], Y[:6], samples=2, noise=1)
    with pytest.raises(ValueError, match=r"noise is 0; write"):
        dj.mc_log_likelihood(KEY, mlp(), X, Y, samples=2, noise=0)
    with pytest.raises(ValueError, match=r"level is 90"):
        dj.mc_regress(KEY, mlp(), X, samples=2, noise=1).interval(90)
