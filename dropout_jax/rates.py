"""The rate of dropout over time: early, late, linear and curriculum dropout."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from dropout_jax._checks import check_rate
from dropout_jax.typing import Array, Rate


def linear(start: Rate, stop: Rate, steps: float) -> Partial:
    r"""From `start` to `stop` in a straight line over `steps` updates, then constant.

    $$\text{rate}_t = (1 - s)\,\text{start} + s\,\text{stop}, \qquad
      s = \min(t / \text{steps}, 1).$$
    A schedule is a pytree, for its numbers may be traced: one program sweeps over them.

    Args:
      start, stop: rates in [0, 1], numbers or traced scalars.
      steps: over 0, a number or a traced scalar, in updates.

    Returns:
      A function of the step, for `layers.ScheduledDropout`.

    Raises:
      TypeError: a rate that is no number.
      ValueError: a concrete rate outside [0, 1], or steps that are not over 0.

    Example:
      >>> from dropout_jax import rates
      >>> [float(rates.linear(0.5, 0.25, 100)(step)) for step in (0, 50, 100, 1000)]
      [0.5, 0.375, 0.25, 0.25]

    Source: the simplest schedule; Liu et al. 2023 take it for `early`.
    """
    check_rate(start)
    check_rate(stop)
    return Partial(_linear, start, stop, _check_steps(steps))


def _linear(start, stop, steps, step):
    done = jnp.minimum(step / jnp.asarray(steps, jnp.float32), 1)
    return (1 - done) * start + done * stop


def early(rate: Rate, steps: float) -> Partial:
    r"""Early dropout: from `rate` in a straight line to 0, then none.

    $$\text{rate}_t = \text{rate} \cdot \max(1 - t / \text{steps}, 0).$$
    Meant for networks that underfit.

    Args:
      rate: at step 0, in [0, 1], a number or a traced scalar.
      steps: over 0, a number or a traced scalar, the update from which nothing is dropped.

    Returns:
      A function of the step, for `layers.ScheduledDropout`.

    Raises:
      TypeError, ValueError: as `linear`.

    Example:
      >>> from dropout_jax import rates
      >>> [float(rates.early(0.5, 100)(step)) for step in (0, 50, 100, 1000)]
      [0.5, 0.25, 0.0, 0.0]

    Source: Liu et al. 2023, "Dropout Reduces Underfitting", with the linear decay of its early
    dropout; its code reaches 0 one update sooner.
    """
    return linear(rate, 0.0, steps)


def late(rate: Rate, steps: float) -> Partial:
    r"""Late dropout: none for the first `steps` updates, then `rate`.

    $$\text{rate}_t = \text{rate} \cdot [t \ge \text{steps}].$$
    Meant for networks that overfit.

    Args:
      rate: at last, in [0, 1], a number or a traced scalar.
      steps: over 0, a number or a traced scalar, the first update that drops.

    Returns:
      A function of the step, for `layers.ScheduledDropout`.

    Raises:
      TypeError, ValueError: as `linear`.

    Example:
      >>> from dropout_jax import rates
      >>> [float(rates.late(0.5, 100)(step)) for step in (0, 99, 100, 1000)]
      [0.0, 0.0, 0.5, 0.5]

    Source: Liu et al. 2023, "Dropout Reduces Underfitting", late dropout.
    """
    return Partial(_late, check_rate(rate), _check_steps(steps))


def _late(rate, steps, step):
    return jnp.where(step < steps, 0, jnp.asarray(rate, jnp.float32))


def curriculum(rate: Rate, gamma: float) -> Partial:
    r"""Curriculum dropout: from 0 towards `rate`, ever more slowly.

    $$\text{keep}_t = (1 - \bar\theta)\,e^{-\gamma t} + \bar\theta, \qquad \text{that is} \qquad
      \text{rate}_t = \text{rate}\,(1 - e^{-\gamma t}),$$
    where the paper's $\bar\theta$ is 1 - rate. With gamma = 10 / (updates of the run) it ends
    within 5e-5 of the rate.

    Args:
      rate: the limit, in [0, 1], a number or a traced scalar.
      gamma: over 0, a number or a traced scalar, in 1 / updates.

    Returns:
      A function of the step, for `layers.ScheduledDropout`.

    Raises:
      TypeError, ValueError: as `linear`.

    Example:
      >>> from dropout_jax import rates
      >>> [round(float(rates.curriculum(0.5, 0.01)(step)), 3) for step in (0, 100, 1000)]
      [0.0, 0.316, 0.5]

    Source: Morerio et al. 2017, "Curriculum Dropout".
    """
    if not isinstance(gamma, jax.core.Tracer) and not np.all(np.asarray(gamma) > 0):
        raise ValueError(f"gamma is {gamma}; write a number over 0, such as 10 / updates.")
    return Partial(_curriculum, check_rate(rate), gamma)


def _curriculum(rate, gamma, step):
    return -rate * jnp.expm1(-jnp.asarray(gamma, jnp.float32) * step)


def _check_steps(steps: float) -> float | Array:
    if not isinstance(steps, jax.core.Tracer) and not np.all(np.asarray(steps) > 0):
        raise ValueError(f"steps is {steps}; write a number of updates over 0, such as 1000.")
    return steps
