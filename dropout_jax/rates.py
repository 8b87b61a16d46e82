"""Dropout rate schedules: early, late, linear and curriculum dropout."""

import jax.numpy as jnp
from jax.tree_util import Partial

from dropout_jax._checks import check_positive, check_rate
from dropout_jax.typing import Rate


def linear(start: Rate, stop: Rate, steps: float) -> Partial:
    r"""Linear schedule of a dropout rate: from `start` to `stop` over `steps` updates.

    $$\text{rate}_t = (1 - s)\,\text{start} + s\,\text{stop}, \qquad
      s = \min(t / \text{steps}, 1).$$
    From then on it is constant. A schedule is a pytree of its numbers, which may be traced, so that
    one program sweeps over them.

    Args:
      start, stop: rates in [0, 1], numbers or traced scalars.
      steps: over 0, a number or a traced scalar, in updates.

    Returns:
      A function of the step, for `layers.ScheduledDropout`.

    Raises:
      TypeError: a rate or steps that are not numbers.
      ValueError: a concrete rate outside [0, 1], or steps that are not over 0.

    Example:
      >>> from dropout_jax import rates
      >>> [float(rates.linear(0.5, 0.25, 100)(step)) for step in (0, 50, 100, 1000)]
      [0.5, 0.375, 0.25, 0.25]

    Source: the simplest schedule; Liu et al. 2023 take it for `early`.
    """
    check_rate(start)
    check_rate(stop)
    return Partial(_linear, start, stop, check_positive("steps", steps, 1000))


def _linear(start, stop, steps, step):
    start, stop, steps, step = _float32(start, stop, steps, step)
    done = jnp.minimum(step / steps, 1)
    return (1 - done) * start + done * stop


def _float32(*numbers):
    """In one dtype, by hand: JAX may be told to promote nothing, or have 64 bits."""
    return (jnp.asarray(number, jnp.float32) for number in numbers)


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
    return Partial(_late, check_rate(rate), check_positive("steps", steps, 1000))


def _late(rate, steps, step):
    rate, steps, step = _float32(rate, steps, step)
    return jnp.where(step < steps, 0, rate)


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
    return Partial(_curriculum, check_rate(rate), check_positive("gamma", gamma, "10 / updates"))


def _curriculum(rate, gamma, step):
    rate, gamma, step = _float32(rate, gamma, step)
    return -rate * jnp.expm1(-gamma * step)
