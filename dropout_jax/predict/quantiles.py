"""Prediction intervals of MC dropout by quantiles of the mixture, with no Gaussian assumed."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dropout_jax._advice import advised
from dropout_jax.predict.checks import noise_or_none
from dropout_jax.predict.networks import (
    Model,
    arrays,
    check_batch_size,
    in_batches,
    ready,
    sub_networks,
)
from dropout_jax.predict.other_names import MC
from dropout_jax.predict.regression import gaussian
from dropout_jax.typing import Array, Key

BISECTIONS = 60  # of an interval of some deviations: the last bit of a float32, and of float64


@advised("dj.mc_quantiles(key, model, x, samples=100)", MC)
def mc_quantiles(
    key: Key,
    model: Model,
    x: Any,
    levels: Sequence[float] = (0.05, 0.5, 0.95),
    *,
    samples: int,
    noise: ArrayLike | None = None,
    batch_size: int | None = None,
    consistent: bool = False,
) -> Array:
    r"""Quantiles of a new target, under the mixture of the sub-networks' Gaussians.

    The quantile q of a level a solves
    $$\frac{1}{K} \sum_k \Phi\!\left(\frac{q - f_k(x)}{\sigma_k(x)}\right) = a,$$
    by bisection. The levels 0.05 and 0.95 are an interval of 90 %, which need not be symmetric. The
    predictions of all samples are held for one batch of examples: batch_size bounds the memory.

    Args:
      key, model, x, samples, noise, batch_size, consistent: as for `mc_regress`. With noise=0 the
        quantiles are those of the sub-networks' predictions.
      levels: shares of the targets that lie below, between 0 and 1.

    Returns:
      (examples, targets, levels), in the units of the targets.

    Raises:
      TypeError, ValueError: as `mc_regress`; a level outside (0, 1).

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> model, key = dj.layers.MLP((4, 8, 1), rates=0.1, rngs=nnx.Rngs(0)), jax.random.key(0)
      >>> q = dj.mc_quantiles(key, model, jnp.ones((3, 4)), (0.05, 0.95), samples=50, noise=0.3)
      >>> q.shape
      (3, 1, 2)

    Source: Gal and Ghahramani 2016, "Dropout as a Bayesian Approximation", equation 8, for the
    mixture. Solving it by bisection is ours.
    """
    x = arrays(x)
    values = np.asarray(levels, np.float64).reshape(-1)
    if not values.size or not np.all((values > 0) & (values < 1)):
        raise ValueError(f"levels is {levels}; write shares between 0 and 1, such as (0.05, 0.95).")
    parts = ready(key, model, samples, spread=True)
    options = (samples, check_batch_size(batch_size, x), bool(consistent), tuple(values.tolist()))
    return _quantiles(parts[0], options, parts[1:], key, x, noise_or_none(noise))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _quantiles(static, options, state, key, x, noise):
    samples, batch_size, consistent, levels = options

    def reduce(key, x):
        sub_network = sub_networks((static, *state), key, x, consistent=consistent)
        means, variances = jax.lax.map(
            lambda k: gaussian(sub_network(k), noise), jnp.arange(samples)
        )
        return jnp.stack([_quantile(means, jnp.sqrt(variances), level) for level in levels], -1)

    return in_batches(reduce, key, x, batch_size=batch_size, consistent=consistent)


def _quantile(means: Array, stddevs: Array, level: float) -> Array:
    """Of the mixture over the first axis; between the least and the greatest of its parts."""
    z = jax.scipy.stats.norm.ppf(level).astype(means.dtype)
    parts = means + z * stddevs
    low, high = jnp.min(parts, axis=0), jnp.max(parts, axis=0)
    tiny = jnp.finfo(means.dtype).tiny

    def halve(bounds, _):
        low, high = bounds
        middle = low + (high - low) / 2
        # without noise a step at the mean: 1 where it is not above the middle
        standard = (middle[None] - means) / jnp.maximum(stddevs, tiny)
        steps = (middle[None] >= means).astype(means.dtype)
        below = jnp.where(stddevs > 0, jax.scipy.stats.norm.cdf(standard), steps)
        under = jnp.mean(below, axis=0) < level
        return (jnp.where(under, middle, low), jnp.where(under, high, middle)), None

    (_, high), _ = jax.lax.scan(halve, (low, high), None, length=BISECTIONS)
    return high
