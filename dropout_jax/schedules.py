"""Learning rate and momentum schedules of the dropout papers, and SGD that follows them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dropout_jax.typing import Array

Schedule = Callable[[Any], Any]
"""A function of the step, an integer or a traced scalar, that returns a number like it."""


def inverse_time_decay(initial: float, steps: float) -> Schedule:
    r"""$\epsilon_t = \epsilon_0 / (1 + t / T)$.

    Args:
      initial: the value at step 0.
      steps: T, the step at which it has halved.

    Returns:
      A function of the step.

    Example:
      >>> from dropout_jax import schedules
      >>> schedules.inverse_time_decay(1.0, 100)(100)
      0.5

    Source: the settings of the authors' deepnet code for Srivastava et al. 2014, T = 10 000.
    """
    return lambda step: initial / (1 + step / steps)


def epoch_decay(initial: float, factor: float, steps_per_epoch: int) -> Schedule:
    r"""$\epsilon_t = \epsilon_0 f^{\lfloor t / \text{steps per epoch} \rfloor}$.

    Args:
      initial: the value during the first epoch.
      factor: f, what one epoch multiplies it by.
      steps_per_epoch: updates an epoch.

    Returns:
      A function of the step.

    Example:
      >>> from dropout_jax import schedules
      >>> float(schedules.epoch_decay(10.0, 0.5, 600)(1200))
      2.5

    Source: Hinton et al. 2012 (arXiv:1207.0580), appendix A.1, f = 0.998. It is
    `optax.exponential_decay(initial, steps_per_epoch, factor, staircase=True)`.
    """
    return optax.exponential_decay(initial, steps_per_epoch, factor, staircase=True)


def linear_ramp(start: float, stop: float, steps: int) -> Schedule:
    r"""Linear ramp from `start` to `stop` over `steps` updates, then constant.

    $$m_t = (1 - s)\,m_0 + s\,m_T, \qquad s = \min(t / T, 1).$$

    Args:
      start, stop: m_0 and m_T.
      steps: T, in updates.

    Returns:
      A function of the step.

    Example:
      >>> from dropout_jax import schedules
      >>> schedules.linear_ramp(0.5, 1.0, 10)(5)
      0.75

    Source: Hinton et al. 2012, appendix A.1 (momentum 0.5 to 0.99 over 500 epochs). The formula
    printed there runs the wrong way; this is what its text says.
    """

    # optax.linear_schedule is the same but for the last bit, which would change recorded runs.
    def schedule(step):
        done = step / steps
        done = min(done, 1.0) if isinstance(done, (int, float)) else jnp.minimum(done, 1.0)
        return (1 - done) * start + done * stop

    return schedule


def exponential_ramp(start: float, stop: float, steps: int) -> Schedule:
    r"""Exponential ramp from `start` to `stop` with a time constant of `steps` updates.

    $$m_t = m_\infty - (m_\infty - m_0)\,e^{-t / T}.$$

    Args:
      start, stop: m_0 and m_infinity.
      steps: T, in updates.

    Returns:
      A function of the step.

    Example:
      >>> from dropout_jax import schedules
      >>> round(float(schedules.exponential_ramp(0.5, 0.99, 100)(100)), 3)
      0.81

    Source: the authors' deepnet code for Srivastava et al. 2014, `parameter.py`, since May 2013;
    before, its momentum rose as `linear_ramp` does.
    """
    return lambda step: stop - (stop - start) * jnp.exp(-step / steps)


class MomentumState(NamedTuple):
    step: Array
    velocity: optax.Updates


def momentum_sgd(
    learning_rate: float | Schedule, momentum: float | Schedule, *, damped: bool = False
) -> optax.GradientTransformation:
    r"""SGD whose momentum follows a schedule, in the two forms of the dropout papers.

    $$v \leftarrow m_t v + g, \quad w \leftarrow w - \epsilon_t v$$
    (deepnet), or, damped,
    $$v \leftarrow m_t v - (1 - m_t)\,\epsilon_t\, g, \quad w \leftarrow w + v$$
    (Hinton et al. 2012). At momentum 0.99 the two differ by a factor of 100 in the size of a step.

    Args:
      learning_rate: epsilon, a number, a traced scalar, or a function of the step.
      momentum: m in [0, 1), likewise.
      damped: the second form.

    Returns:
      An `optax.GradientTransformation`.

    Example:
      >>> from dropout_jax import schedules
      >>> ramp = schedules.linear_ramp(0.5, 0.99, 300_000)
      >>> decay = schedules.epoch_decay(10.0, 0.998, 600)
      >>> optimizer = schedules.momentum_sgd(decay, ramp, damped=True)

    Source: Hinton et al. 2012, appendix A.1; deepnet, `model_dropout.pbtxt`.
    """
    rate_at = learning_rate if callable(learning_rate) else lambda step: learning_rate
    momentum_at = momentum if callable(momentum) else lambda step: momentum

    def init(params):
        return MomentumState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None):
        m, epsilon = momentum_at(state.step), rate_at(state.step)
        gain, step_size = (-(1 - m) * epsilon, 1) if damped else (1, -epsilon)
        velocity = jax.tree.map(
            lambda v, g: (m * v + gain * g).astype(v.dtype), state.velocity, updates
        )
        updates = jax.tree.map(lambda v: (step_size * v).astype(v.dtype), velocity)
        return updates, MomentumState(state.step + 1, velocity)

    return optax.GradientTransformation(init, update)
