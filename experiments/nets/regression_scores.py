"""The scores of a network for regression, by which settings are chosen and which are reported."""

import jax
import jax.numpy as jnp

import dropout_jax as dj
from dropout_jax import predict
from dropout_jax.predict import moments
from dropout_jax.typing import Array
from experiments.nets.regression_fit import members, trained


def validation(config, key, rate, taus: Array, fit, held_out) -> Array:
    """The log-likelihood of held-out cases at each tau, by which rate and tau are chosen."""
    if not config.shared_tau:
        return jax.vmap(
            lambda tau: _validation(config, key, rate, tau, tau[None], fit, held_out)[0]
        )(taus)
    return _validation(config, key, rate, taus[len(taus) // 2], taus, fit, held_out)


def _validation(config, key, rate, trained_at, taus, fit, held_out):
    if config.method == "ensemble":
        means = members(config, key, trained_at, fit, held_out[0])
        return jax.vmap(lambda tau: mixture_ll(means, tau, held_out[1]))(taus)
    net, _ = trained(config, key, rate, trained_at, *fit)

    def of_tau(tau):
        return predict.mc_log_likelihood(
            dj.site_key(key, "validation"),
            net,
            *held_out,
            samples=config.validation_samples,
            noise=tau**-0.5,
        ).mean()

    return jax.vmap(of_tau)(taus)


def tested(config, key, rate, tau, fit, held_out) -> dict[str, Array]:
    """What is reported of a split: errors and log-likelihoods in the units of the targets."""
    if config.method == "ensemble":
        means, y = members(config, key, tau, fit, held_out[0]), held_out[1]
        return {
            "rmse": rmse(jnp.mean(means, axis=0), y),
            "ll": mixture_ll(means, tau, y),
            "single_rmse": rmse(means[0], y),
        }
    (x, y), noise = held_out, tau**-0.5
    net, last_loss = trained(config, key, rate, tau, *fit)
    test_key = dj.site_key(key, "test")
    found = predict.mc_regress(test_key, net, x, samples=config.samples, noise=noise)
    lls = predict.mc_log_likelihood(test_key, net, x, y, samples=config.samples, noise=noise)
    single = predict.mc_samples(test_key, net, x, samples=1, output=_identity)[0]
    scaled = predict.predict_scaled(net, x, output=_identity)
    low, high = found.interval(0.9)
    result = {
        "rmse": rmse(found.mean, y),
        "ll": jnp.mean(lls),
        "coverage": jnp.mean((low[:, 0] <= y) & (y <= high[:, 0])),
        "single_rmse": rmse(single, y),
        "scaled_rmse": rmse(scaled, y),
        "scaled_ll": gaussian_ll(scaled, noise**2, y),
        "train_loss": last_loss,
    }
    if config.method == "concrete":
        drops = net.standard.model.layers
        return result | {f"rate_{i}": drop.rate for i, drop in enumerate(drops)}
    # The network of moments takes the rates as they are, traced.
    standard = net.standard
    mean, variance = moments.moments(standard.model, standard.scale_x(x))
    (y_mean,), (y_stddev,) = standard.y_mean[...], standard.y_stddev[...]
    mean, variance = y_mean + y_stddev * mean, y_stddev**2 * variance + noise**2
    return result | {"moments_rmse": rmse(mean, y), "moments_ll": gaussian_ll(mean, variance, y)}


def mixture_ll(means: Array, tau: Array, y: Array) -> Array:
    return jnp.mean(predict.log_likelihood_samples(y, means, tau**-0.5))


def rmse(predicted: Array, y: Array) -> Array:
    return jnp.sqrt(jnp.mean((predicted.reshape(y.shape) - y) ** 2))


def gaussian_ll(mean: Array, variance: Array, y: Array) -> Array:
    logs = jax.scipy.stats.norm.logpdf(y, mean.reshape(y.shape), jnp.sqrt(variance).reshape(-1))
    return jnp.mean(logs)


def _identity(outputs: Array) -> Array:
    return outputs
