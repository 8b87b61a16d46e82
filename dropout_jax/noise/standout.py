"""Standout (adaptive dropout): a keep probability for each unit, from its own pre-activation."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropout_jax._checks import check_broadcasts, check_floating, is_static, wide_dtype
from dropout_jax.noise.dropout import dropout_unscaled
from dropout_jax.typing import Array, Key


def standout(
    key: Key, x: ArrayLike, activations: ArrayLike, *, alpha: float = 1.0, beta: float = 0.0
) -> Array:
    r"""Keep each unit with a probability that grows with its own pre-activation.

    $$y = m \odot x, \qquad m_j \sim \text{Bernoulli}(\pi_j), \qquad
      \pi_j = \sigma(\alpha\,a_j + \beta).$$
    Nothing is scaled: the mean is `standout_mean`, for inference. In a layer that shares its
    weights with the network that gives the probabilities, a = W v + b and x = f(a):
    `standout(key, jax.nn.relu(a), a)`. At alpha 0 it is `dropout_unscaled` at the rate
    sigma(-beta). A sample has no derivative, so that a, alpha and beta get no gradient through the
    mask; x does.

    Args:
      key: from `jax.random.key`.
      x: the units' outputs, floating-point, any shape.
      activations: a, in units of the logit of the keep probability; a number, or an array that
        broadcasts against x.
      alpha, beta: scalars; a greater beta keeps more units, a greater alpha decides more sharply.

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError: `key` is missing or not a key; x or activations do not hold floating-point
        numbers.
      ValueError: activations that do not broadcast against x.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> a = jnp.array([-100.0, 100.0])
      >>> dj.standout(jax.random.key(0), jnp.ones(2), a).tolist()
      [0.0, 1.0]

    Source: Ba and Frey 2013, "Adaptive dropout for training deep neural networks": a binary belief
    network overlaid on the network; that its weights may be the network's own, up to alpha and
    beta, is the paper's practical form.
    """
    x, logit_keep = _check(x, activations, alpha, beta)
    return _dropped(key, x, jax.lax.stop_gradient(jax.nn.sigmoid(-logit_keep)))


# Jitted, so that activations that are not finite are no bad rate: they are what training meets.
_dropped = jax.jit(dropout_unscaled)


def standout_mean(
    x: ArrayLike, activations: ArrayLike, *, alpha: float = 1.0, beta: float = 0.0
) -> Array:
    r"""The mean of `standout`, for inference.

    $$y = \sigma(\alpha\,a + \beta) \odot x.$$
    Differentiable in everything: here the keep probability is a gate.

    Args:
      x, activations, alpha, beta: as `standout`.

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError, ValueError: as `standout`.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> dj.standout_mean(jnp.ones(2), jnp.zeros(2)).tolist()
      [0.5, 0.5]

    Source: Ba and Frey 2013, as `standout`: at test time each mask is replaced by its expectation.
    """
    x, logit_keep = _check(x, activations, alpha, beta)
    keep = jnp.broadcast_to(jax.nn.sigmoid(logit_keep), x.shape)
    return (keep * x.astype(jnp.promote_types(wide_dtype(x), keep.dtype))).astype(x.dtype)


def _check(x, activations, alpha, beta):
    activations = float(activations) if is_static(activations) else activations
    x, activations = check_floating(x), check_floating(activations, "activations")
    if jnp.iscomplexobj(activations):
        raise TypeError("activations are complex, and logits are not; write activations.real.")
    check_broadcasts("activations", activations.shape, x.shape)
    wide = wide_dtype(activations)
    return x, alpha * activations.astype(wide) + beta
