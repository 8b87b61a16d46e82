"""Gaussian dropout (multiplicative noise) and additive Gaussian noise."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropout_jax._arrays import aligned
from dropout_jax._checks import (
    check_broadcasts,
    check_floating,
    check_key,
    check_order,
    check_positive,
    check_rate,
    is_static,
    shared_shape,
    wide_dtype,
)
from dropout_jax._sharding import sharding_of, spread
from dropout_jax.masks import apply
from dropout_jax.typing import Array, Key, Rate


def gaussian_dropout(
    key: Key, x: ArrayLike, rate: Rate, *, broadcast_dims: Sequence[int] = ()
) -> Array:
    r"""Multiply by Gaussian noise of mean one and the variance that dropout's noise has.

    $$y = x \odot \xi, \qquad \xi_i \sim N\!\left(1, \frac{\text{rate}}{1 - \text{rate}}\right).$$
    At inference use x as it is. At rate 1, where the variance is infinite, y is 0 as it is for
    `dropout`. The backward pass keeps the noise; inside `jax.checkpoint` it keeps the key.

    Args:
      key: from `jax.random.key`.
      x: floating-point, any shape.
      rate: in [0, 1], that of the dropout with the same variance: a Python number, a traced scalar,
        or an array that broadcasts against the draw. Not differentiated.
      broadcast_dims: axes that share one draw.

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError, ValueError: as `dropout`.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> y = dj.gaussian_dropout(jax.random.key(0), jnp.ones(1000), 0.5)
      >>> bool(0.8 < y.mean() < 1.2), bool(0.8 < y.std() < 1.2)
      (True, True)

    Source: Srivastava et al. 2014, section 10, with sigma^2 = (1 - p) / p for a retention of p.
    """
    key = check_key(key)
    check_order(x, rate)
    x = check_floating(x)
    check_rate(rate)
    drawn = shared_shape(x.shape, broadcast_dims)
    check_broadcasts("rate", jnp.shape(rate), drawn)
    if is_static(rate) and rate == 0:
        return x
    return spread(sharding_of(x), _multiply_noise, key, x, rate, drawn)


@functools.partial(jax.jit, static_argnums=3)
def _multiply_noise(key, x, rate, drawn):
    scale = apply.scale_of(rate, x.dtype)
    rate = jax.lax.stop_gradient(jnp.asarray(rate, scale.dtype))
    noise = 1 + _normal(key, jnp.sqrt(rate * scale), drawn)
    return apply.multiply(x, rate < 1, noise)


def gaussian_noise(
    key: Key, x: ArrayLike, stddev: Rate, *, broadcast_dims: Sequence[int] = ()
) -> Array:
    r"""Add Gaussian noise.

    $$y = x + \text{stddev} \odot \epsilon, \qquad \epsilon_i \sim N(0, 1).$$

    Args:
      key: from `jax.random.key`.
      x: floating-point, any shape.
      stddev: standard deviation, in x's units, >= 0: a Python number, a traced scalar, or an array
        that broadcasts against the draw. Differentiable.
      broadcast_dims: axes that share one draw.

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError: `key` is missing or not a key; x does not hold floating-point numbers.
      ValueError: a negative stddev, or one that does not broadcast against the draw; an axis out of
        range or repeated.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> y = dj.gaussian_noise(jax.random.key(0), jnp.zeros(1000), 0.1)
      >>> bool(0.08 < y.std() < 0.12)
      True

    Source: Bishop 1995, "Training with noise is equivalent to Tikhonov regularization".
    """
    key = check_key(key)
    check_order(x, stddev)
    x = check_floating(x)
    check_positive("stddev", stddev, 0.1, zero=True)
    drawn = shared_shape(x.shape, broadcast_dims)
    check_broadcasts("stddev", jnp.shape(stddev), drawn)
    if is_static(stddev) and stddev == 0:
        return x
    return spread(sharding_of(x), _add_noise, key, x, stddev, drawn)


@functools.partial(jax.jit, static_argnums=3)
def _add_noise(key, x, stddev, drawn):
    wide = wide_dtype(x)
    noise = _normal(key, jnp.asarray(stddev, jnp.finfo(wide).dtype), drawn)
    return (x.astype(wide) + noise).astype(x.dtype)


def _normal(key, stddev, drawn):
    return aligned(stddev, len(drawn)) * jax.random.normal(key, drawn, stddev.dtype)
