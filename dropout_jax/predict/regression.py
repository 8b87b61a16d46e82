"""Regression with MC dropout: mean, epistemic and aleatoric uncertainty, log-likelihood."""

import functools
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dropout_jax._advice import advised
from dropout_jax._arrays import safe_sqrt
from dropout_jax._checks import check_broadcasts, wide_dtype
from dropout_jax.predict.checks import aligned, check_level, check_targets, noise_or_none
from dropout_jax.predict.networks import (
    Model,
    arrays,
    check_batch_size,
    in_batches,
    ready,
    sub_networks,
)
from dropout_jax.predict.other_names import MC
from dropout_jax.typing import Array, Key


class Regression(NamedTuple):
    """A predictive mean and the two parts of its standard deviation, in the units of the targets.

    `epistemic` says how much the sub-networks disagree, which more data would mend; `aleatoric` is
    the noise of the targets, which it would not.
    """

    mean: Array
    epistemic: Array
    aleatoric: Array

    @property
    def stddev(self) -> Array:
        """The standard deviation of a new target: sqrt(epistemic^2 + aleatoric^2)."""
        return jnp.hypot(self.epistemic, self.aleatoric)

    def interval(self, level: float = 0.9, *, scale: float | Array = 1.0) -> tuple[Array, Array]:
        """The central interval of a Gaussian with this mean and `scale` times this deviation."""
        check_level(level)
        half = jax.scipy.stats.norm.ppf(0.5 + level / 2) * scale * self.stddev
        return self.mean - half, self.mean + half


# So that a function that returns a Regression can be exported.
jax.export.register_namedtuple_serialization(Regression, serialized_name="dropout_jax.Regression")


@advised("dj.mc_regress(key, model, x, samples=100)", MC)
def mc_regress(
    key: Key,
    model: Model,
    x: Any,
    *,
    samples: int,
    noise: ArrayLike | None = None,
    batch_size: int | None = None,
    consistent: bool = False,
) -> Regression:
    r"""MC dropout for regression: the mean, and what the model does not know apart from the noise.

    With the mean $f_k(x)$ and the noise variance $\sigma_k^2(x)$ of K sub-networks,
    $$\mu = \frac{1}{K} \sum_k f_k, \qquad
      s_\text{epistemic}^2 = \frac{1}{K} \sum_k (f_k - \mu)^2, \qquad
      s_\text{aleatoric}^2 = \frac{1}{K} \sum_k \sigma_k^2,$$
    and the variance of a new target is the sum of the two. Memory grows neither with the samples
    nor, given a batch_size, with what the model holds for many examples.

    Args:
      key: a typed key; all masks come from it, none from the model's own streams.
      model: an `nnx.Module` with `model(x)`, or a function (key, x) -> outputs, such as
        `lambda key, x: linen_model.apply(variables, x, rngs={"dropout": key})`; outputs
        (examples, targets), or (examples,).
      x: inputs (examples, ...).
      samples: K, 2 or more.
      noise: the standard deviation of the targets' noise, in their units: a number, or one a
        target (targets,). None for a model that learned it: the first half of the last axis of
        its outputs holds means, and the second half logarithms of variances.
      batch_size: how many examples go through the model at a time; None for all. The masks depend
        on it, unless they are consistent.
      consistent: draw one sub-network a sample for all examples, so that a curve is smooth.

    Returns:
      A `Regression`: mean, epistemic and aleatoric, each (examples, targets), float32 or wider.

    Raises:
      TypeError: `key` is missing or not a typed key; a model that is neither a module nor a
        function; outputs that are no real numbers.
      ValueError: too few samples, or a batch_size below 1; a model that draws no noise; a negative
        noise; noise=None, and outputs that do not come in two halves.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> model = dj.layers.MLP((4, 8, 1), rates=0.1, rngs=nnx.Rngs(0))
      >>> found = dj.mc_regress(jax.random.key(0), model, jnp.ones((3, 4)), samples=50, noise=0.3)
      >>> low, high = found.interval(0.9)
      >>> found.mean.shape, bool((low < high).all())
      ((3, 1), True)

    Source: Gal and Ghahramani 2016, "Dropout as a Bayesian Approximation", section 4, with
    noise = tau^(-1/2); Kendall and Gal 2017, "What Uncertainties Do We Need in Bayesian Deep
    Learning for Computer Vision?", equation 9, for the two parts; Gal 2016, "Uncertainty in Deep
    Learning", for consistent masks.
    """
    x = arrays(x)
    parts = ready(key, model, samples, spread=True)
    options = (samples, check_batch_size(batch_size, x), bool(consistent))
    return _regress(parts[0], options, parts[1:], key, x, noise_or_none(noise))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _regress(static, options, state, key, x, noise):
    samples, batch_size, consistent = options

    def reduce(key, x):
        sub_network = sub_networks((static, *state), key, x, consistent=consistent)

        def add(moments, k):  # Welford's recurrence, which does not cancel as a sum of squares
            mean, squares, variance = moments
            new, noisy = gaussian(sub_network(k), noise)
            count, change = (k + 1).astype(mean.dtype), new - mean
            return (
                mean + change / count,
                squares + change**2 * ((count - 1) / count),
                variance + (noisy - variance) / count,
            ), None

        like = jax.eval_shape(lambda: gaussian(sub_network(0), noise))[0]
        zeros = jnp.zeros(like.shape, like.dtype, out_sharding=like.sharding)
        return jax.lax.scan(add, (zeros,) * 3, jnp.arange(samples, dtype=jnp.int32))[0]

    mean, squares, variance = in_batches(
        reduce, key, x, batch_size=batch_size, consistent=consistent
    )
    return Regression(mean, safe_sqrt(squares / samples), safe_sqrt(variance))


@advised("dj.mc_log_likelihood(key, model, x, y, samples=100)", MC)
def mc_log_likelihood(
    key: Key,
    model: Model,
    x: Any,
    y: ArrayLike,
    *,
    samples: int,
    noise: ArrayLike | None = None,
    batch_size: int | None = None,
    consistent: bool = False,
) -> Array:
    r"""The log-likelihood of each target under the mixture of the sub-networks' Gaussians.

    $$\log p(y | x) = \text{logsumexp}_k \log \mathcal{N}(y;\, f_k(x), \sigma_k^2(x)) - \log K,$$
    summed over the targets of an example within each sub-network. Its mean over test examples is
    the log-likelihood of the tables of papers.

    Args:
      key, model, x, samples, noise, batch_size, consistent: as for `mc_regress`.
      y: targets (examples, targets), or (examples,) for one.

    Returns:
      (examples,), in float32 or wider: nats, in the units of the targets.

    Raises:
      TypeError, ValueError: as `mc_regress`; y of another shape than the outputs, or not finite;
        a noise of 0.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> model, key = dj.layers.MLP((4, 8, 1), rates=0.1, rngs=nnx.Rngs(0)), jax.random.key(0)
      >>> x, y = jnp.ones((3, 4)), jnp.zeros(3)
      >>> dj.mc_log_likelihood(key, model, x, y, samples=50, noise=0.3).shape
      (3,)

    Source: Gal and Ghahramani 2016, "Dropout as a Bayesian Approximation", equation 8, with
    noise = tau^(-1/2).
    """
    x, y = arrays(x), check_targets(y)
    parts = ready(key, model, samples)
    noise = noise_or_none(noise, positive=True)
    options = (samples, check_batch_size(batch_size, x), bool(consistent))
    return _log_likelihood(parts[0], options, parts[1:], key, x, y, noise)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _log_likelihood(static, options, state, key, x, y, noise):
    samples, batch_size, consistent = options

    def reduce(key, x, y):
        sub_network = sub_networks((static, *state), key, x, consistent=consistent)

        def log_density(k):
            mean, variance = gaussian(sub_network(k), noise)
            log = jax.scipy.stats.norm.logpdf(aligned(y, mean), mean, jnp.sqrt(variance))
            return jnp.sum(log, axis=tuple(range(1, log.ndim)))

        def add(total, k):
            return jnp.logaddexp(total, log_density(k)), None

        total, _ = jax.lax.scan(add, log_density(0), jnp.arange(1, samples, dtype=jnp.int32))
        return total - np.log(samples).astype(total.dtype)

    return in_batches(reduce, key, x, y, batch_size=batch_size, consistent=consistent)


def gaussian(outputs: Array, noise: Array | None) -> tuple[Array, Array]:
    """Mean and variance of the targets, from a model's outputs and the noise that was given."""
    if not isinstance(outputs, jax.Array) or not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise TypeError(
            f"the model's outputs are {jax.tree.map(jnp.shape, outputs)}, and a regression takes "
            "one array of real numbers (examples, targets)."
        )
    outputs = outputs.astype(wide_dtype(outputs))
    if noise is not None:
        check_broadcasts("noise", noise.shape, outputs.shape)
        return outputs, jnp.broadcast_to(noise.astype(outputs.dtype) ** 2, outputs.shape)
    if outputs.ndim < 2 or outputs.shape[-1] % 2:
        raise ValueError(
            f"noise was not given, and the outputs have shape {outputs.shape}: write noise=0.1, "
            "the standard deviation of the targets, or give the model outputs (examples, 2 * "
            "targets), means and then logarithms of variances."
        )
    mean, log_variance = jnp.split(outputs, 2, axis=-1)
    return mean, jnp.exp(log_variance)
