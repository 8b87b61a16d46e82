"""Dropout: scaled in training (inverted dropout), or unscaled as in the original paper."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropout_jax._checks import (
    check_broadcasts,
    check_choice,
    check_floating,
    check_key,
    check_order,
    check_rate,
    consumed,
    is_static,
    shared_shape,
)
from dropout_jax._sharding import sharding_of, spread
from dropout_jax._xla import recomputed
from dropout_jax.masks import apply, bits, packed
from dropout_jax.typing import Array, Key, Rate


def dropout(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    broadcast_dims: Sequence[int] = (),
    residual: Literal["packed", "key"] = "packed",
) -> Array:
    r"""Drop each element with probability `rate`, and scale the others up: mean one.

    $$y = m \odot x / (1 - \text{rate}), \qquad m_i \sim \text{Bernoulli}(1 - \text{rate}).$$
    At inference use x as it is. Dropped elements are 0 even where x is NaN or infinite; the
    factor is applied in float32 or wider and rounded once, so that the mean is right in bfloat16
    too. Everything is finite, in value and gradient, at rates 0 (y = x) and 1 (y = 0).

    Args:
      key: from `jax.random.key`; the same key gives the same mask under jit, vmap and any sharding.
      x: floating-point, any shape.
      rate: probability of dropping, in [0, 1]: a Python number, a traced scalar, or an array that
        broadcasts against x. Not differentiated.
      broadcast_dims: axes that share one draw; (1, 2) on (batch, height, width, channel) drops
        whole channels.
      residual: what the backward pass keeps: "packed", one bit an element, or "key", nothing but
        the key, for drawing the mask again.

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError: `key` is missing or not a key; x does not hold floating-point numbers.
      ValueError: a concrete rate outside [0, 1]; an axis out of range or repeated; a rate that
        does not broadcast against x; an unknown residual.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> y = dj.dropout(jax.random.key(0), jnp.ones(1000), 0.5)
      >>> sorted(set(y.tolist()))
      [0.0, 2.0]

    Source: Srivastava et al. 2014, section 4, with the scaling of section 10.
    """
    check_choice("residual", residual, "packed", "key")
    return _masked(key, x, rate, broadcast_dims, residual, scaled=True)


def dropout_unscaled(
    key: Key, x: ArrayLike, rate: Rate, *, broadcast_dims: Sequence[int] = ()
) -> Array:
    r"""The paper's training step: drop with probability `rate`, scale nothing.

    $$y = m \odot x, \qquad m_i \sim \text{Bernoulli}(1 - \text{rate}).$$
    Use the weights of `scale_for_inference` at test time. The mask is that of `dropout` for the
    same key.

    Args:
      key, x, rate, broadcast_dims: as `dropout`.

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError, ValueError: as `dropout`.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> y = dj.dropout_unscaled(jax.random.key(0), jnp.ones(1000), 0.5)
      >>> sorted(set(y.tolist()))
      [0.0, 1.0]

    Source: Srivastava et al. 2014, section 4 (equations for r, y-tilde).
    """
    return _masked(key, x, rate, broadcast_dims, "packed", scaled=False)


def _masked(key, x, rate, broadcast_dims, residual, scaled) -> Array:
    key = check_key(key)
    check_order(x, rate)
    x = check_floating(x)
    check_rate(rate)
    drawn, where = shared_shape(x.shape, broadcast_dims), sharding_of(x)
    if is_static(rate):
        if rate == 0:
            return x
        if rate == 1:
            return jnp.zeros_like(x)
        return spread(where, _apply_static, key, x, float(rate), drawn, residual, scaled)
    rate = jnp.asarray(rate)
    check_broadcasts("rate", rate.shape, drawn)
    return spread(where, _apply_traced, key, x, rate, drawn, residual, scaled)


def _apply(key, x, rate, drawn, residual, scaled):
    def draw_and_multiply(source, x):
        key, *traced = source  # a static rate stays a number: its fold is the cheaper one
        of = traced[0] if traced else rate
        mask = packed.PackedMask(bits.keep_words(key, of, drawn), x.shape, drawn)
        return apply.multiply(x, mask, apply.scale_of(of if scaled else 0.0, x.dtype))

    if residual == "key":
        draw_and_multiply = recomputed(draw_and_multiply)
    else:
        key = consumed(key)
    return draw_and_multiply((key,) if is_static(rate) else (key, rate), x)


# Jitted, so that a call outside jit is one dispatch.
_apply_static = jax.jit(_apply, static_argnums=(2, 3, 4, 5))
_apply_traced = jax.jit(_apply, static_argnums=(3, 4, 5))
