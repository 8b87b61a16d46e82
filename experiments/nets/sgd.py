"""SGD as in the paper: momentum that rises, a learning rate that decays, penalties, max-norm."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import dropout_jax as dj
from dropout_jax import schedules
from experiments.nets.config import Config

L1_SHARE = 0.25  # the last part of a run, in which L1 acts


def optimizer(config: Config, updates: int) -> optax.GradientTransformation:
    """SGD with momentum, a penalty before it and the layers' factors and max-norm after it.

    Args:
      config: the settings of the run.
      updates: how many it makes.
    """
    parts = [schedules.momentum_sgd(learning_rate(config, updates), momentum(config, updates))]
    if config.l2 or config.l1:
        l1_from = round((1 - L1_SHARE) * updates)
        parts.insert(0, weight_penalty(config.l2, config.l1, l1_from))
    if config.weight_factors:
        parts.append(scale_weights(config.weight_factors))
    if config.max_norm:
        parts.append(dj.max_norm(nnx.State({"linears": dict(enumerate(config.max_norm))})))
    return optax.chain(*parts)


def learning_rate(config: Config, updates: int) -> schedules.Schedule:
    """A learning rate that falls to `decay_to` times the first."""
    first, to, updates = config.learning_rate, config.decay_to, config.decay_updates or updates
    if config.decay == "cosine":
        return optax.cosine_decay_schedule(first, updates, to)
    if config.decay == "linear":
        return schedules.linear_ramp(first, first * to, updates)
    return schedules.inverse_time_decay(first, updates * to / (1 - to))


def momentum(config: Config, updates: int) -> float | schedules.Schedule:
    """The momentum, constant or rising."""
    if config.momentum_start is None:
        return config.momentum
    ramp = {"linear": schedules.linear_ramp, "exponential": schedules.exponential_ramp}
    rising = round(config.momentum_share * updates) or config.momentum_updates
    return ramp[config.momentum_ramp](config.momentum_start, config.momentum, rising)


def weight_penalty(l2: float, l1: float, l1_from: int) -> optax.GradientTransformation:
    """Adds l2 w to the gradient of every weight, and from update `l1_from` on l1 sign(w).

    Biases, which have one axis, are left alone.
    """

    def update(grads, step, params):
        late = l1 * (step >= l1_from)

        def add(g, w):
            return g if w.ndim < 2 else g + l2 * w + late * jnp.sign(w)

        return jax.tree.map(add, grads, params), step + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def scale_weights(factors: Sequence[float]) -> optax.GradientTransformation:
    """Multiply the updates of layer i's weights by factors[i], and leave its biases'."""
    prefix = nnx.State({"linears": dict(enumerate(factors))})

    def update(factor, updates):
        return jax.tree.map(lambda u: u if u.ndim < 2 else factor * u, updates)

    return optax.stateless(lambda updates, params: jax.tree.map(update, prefix, updates))
