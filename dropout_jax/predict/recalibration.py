"""Recalibrate prediction intervals on held-out data: conformal, or by a scale of the deviation."""

import math

import jax.numpy as jnp
from jax.typing import ArrayLike

from dropout_jax.predict.checks import (
    aligned,
    aligned_or_number,
    check_level,
    check_noise,
    check_targets,
)
from dropout_jax.typing import Array


def conformal_scale(
    y: ArrayLike, mean: ArrayLike, stddev: ArrayLike, *, level: float = 0.9
) -> Array:
    r"""How wide intervals must be to cover a share of new cases, from held-out ones (conformal).

    With the scores $r_i = |y_i - \mu_i| / \sigma_i$ of n held-out cases,
    $$q = \text{the } \lceil (n + 1) \, \text{level} \rceil \text{-th smallest of } r_i,$$
    and the interval $\mu \pm q \sigma$ covers a new case with a probability of at least the level,
    and of at most level + 1 / (n + 1) where no two scores are equal: whatever the model, as long as
    held-out and new cases are exchangeable. Over held-out sets the coverage has a beta distribution
    of standard deviation about sqrt(level (1 - level) / n). The held-out cases must have been used
    for nothing else, not even for choosing the rate.

    Args:
      y: held-out targets (examples,), or (examples, 1).
      mean, stddev: predictions for them of the shape (examples,) or (examples, 1); the deviation
        may be one number.
      level: the share to cover, in (0, 1).

    Returns:
      q, a scalar: the interval is (mean - q * stddev, mean + q * stddev).

    Raises:
      TypeError: what is no real number.
      ValueError: shapes that differ, values that are not finite, a deviation that is not positive;
        a level outside (0, 1), or fewer than level / (1 - level) held-out cases.

    Example:
      >>> import jax.numpy as jnp
      >>> from dropout_jax import predict
      >>> float(predict.conformal_scale(jnp.arange(1.0, 20.0), jnp.zeros(19), 2.0, level=0.9))
      9.0

    Source: Vovk, Gammerman and Shafer 2005, "Algorithmic Learning in a Random World"; Lei et al.
    2018, "Distribution-Free Predictive Inference for Regression", theorem 2.2 and section 5.2.
    """
    check_level(level)
    scores = _scores(y, mean, stddev)
    rank = math.ceil(round((len(scores) + 1) * level, 9))
    if rank > len(scores):
        least = math.ceil(round(level / (1 - level), 9))
        raise ValueError(
            f"{len(scores)} held-out cases are too few for a level of {level}; write {least} or "
            "more, or a lower level."
        )
    return jnp.sort(scores)[rank - 1]


def stddev_scale(y: ArrayLike, mean: ArrayLike, stddev: ArrayLike) -> Array:
    r"""The factor for predicted deviations that gives held-out cases the greatest likelihood.

    $$s^2 = \frac{1}{n} \sum_i \frac{(y_i - \mu_i)^2}{\sigma_i^2},$$
    which maximises the likelihood of $\mathcal{N}(\mu_i, s^2 \sigma_i^2)$. It mends deviations that
    are too small or too large throughout, at every level at once; unlike `conformal_scale` it
    promises a coverage only where errors are Gaussian.

    Args:
      y, mean, stddev: as for `conformal_scale`.

    Returns:
      s, a scalar: write `found.interval(0.9, scale=s)`.

    Raises:
      TypeError, ValueError: as `conformal_scale`.

    Example:
      >>> import jax.numpy as jnp
      >>> from dropout_jax import predict
      >>> float(predict.stddev_scale(jnp.array([2.0, -2.0]), jnp.zeros(2), 1.0))
      2.0

    Source: Levi et al. 2022, "Evaluating and Calibrating Uncertainty Prediction in Regression
    Tasks"; Laves et al. 2020, "Well-Calibrated Regression Uncertainty in Medical Imaging with Deep
    Learning".
    """
    return jnp.sqrt(jnp.mean(_scores(y, mean, stddev) ** 2))


def _scores(y, mean, stddev):
    mean = check_targets(mean, "mean")
    stddev = aligned_or_number(check_noise(stddev, positive=True).astype(mean.dtype), mean)
    y = aligned(check_targets(y), mean)
    if mean.ndim > 1 and mean.shape[-1] > 1:
        raise ValueError(
            f"mean has shape {mean.shape}; write one target at a time, as in mean[:, 0], so that "
            "each has a scale of its own."
        )
    if not mean.size:
        raise ValueError("there are no held-out cases; write some that were not trained on.")
    return (jnp.abs(y - mean) / stddev).reshape(-1)
