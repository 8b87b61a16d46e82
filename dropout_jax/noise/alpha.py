"""Alpha dropout for SELU networks: it keeps a mean of 0 and a variance of 1."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropout_jax._arrays import aligned
from dropout_jax._checks import check_floating, check_order, is_static, wide_dtype
from dropout_jax._sharding import sharding_of, spread
from dropout_jax.masks import apply, packed
from dropout_jax.typing import Array, Key, Rate

SATURATION = -1.0507009873554805 * 1.6732632423543772
"""The limit of SELU at minus infinity: - lambda alpha, the paper's alpha'."""


def alpha_dropout(
    key: Key, x: ArrayLike, rate: Rate, *, broadcast_dims: Sequence[int] = ()
) -> Array:
    r"""Dropout for SELU networks: an input of mean 0 and variance 1 keeps both.

    $$y = a\,(m \odot x + (1 - m)\,\alpha') + b, \qquad m_i \sim \text{Bernoulli}(\text{keep}),$$
    $$a = \left(\text{keep}\,(1 + \text{rate}\,\alpha'^2)\right)^{-1/2}, \quad
      b = -a\,\text{rate}\,\alpha', \quad \alpha' \approx -1.7581.$$
    Given x, y does not have mean x, unlike in the rest of the family: its mean is
    a (keep x + rate alpha') + b = keep a x and its variance keep rate a^2 (x - alpha')^2. At
    inference use x as it is. At rate 1, y is 0, the limit.

    Args:
      key: from `jax.random.key`.
      x: floating-point, any shape; outputs of `jax.nn.selu`.
      rate: probability of dropping, in [0, 1]: a Python number, a traced scalar, or an array that
        broadcasts against the draw. Not differentiated.
      broadcast_dims: axes that share one draw.

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError, ValueError: as `dropout`.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> y = dj.alpha_dropout(jax.random.key(0), jnp.zeros(1000), 0.5)
      >>> sorted({round(v, 2) for v in y.tolist()})
      [-0.78, 0.78]

    Source: Klambauer et al. 2017, "Self-Normalizing Neural Networks", where q is our keep.
    """
    check_order(x, rate)
    x = check_floating(x)
    return spread(sharding_of(x), _saturated, key, x, rate, broadcast_dims)


def feature_alpha_dropout(key: Key, x: ArrayLike, rate: Rate) -> Array:
    r"""Alpha dropout of whole feature maps: one draw a sample and channel.

    The equation is that of `alpha_dropout`; all axes but the first and the last share a draw.

    Args:
      key: from `jax.random.key`.
      x: floating-point (batch, ..., channel), channels last.
      rate: probability of dropping, in [0, 1]: a Python number, a traced scalar, or an array that
        broadcasts against (batch, 1, ..., 1, channel).

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError, ValueError: as `alpha_dropout`.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> y = dj.feature_alpha_dropout(jax.random.key(0), jnp.ones((2, 4, 4, 8)), 0.5)
      >>> bool((y == y[:, :1, :1]).all())
      True

    Source: Klambauer et al. 2017, as `alpha_dropout`; shared as by Tompson et al. 2015, "Efficient
    Object Localization Using Convolutional Networks".
    """
    check_order(x, rate)
    x = check_floating(x)
    return alpha_dropout(key, x, rate, broadcast_dims=range(1, x.ndim - 1))


def _saturated(key, x, rate, broadcast_dims):
    mask = packed.packed_mask(key, rate, x.shape, broadcast_dims=broadcast_dims)
    return x if is_static(rate) and rate == 0 else _saturate(x, mask, rate)


@jax.jit
def _saturate(x, mask, rate):
    wide = wide_dtype(x)
    inverse = apply.scale_of(rate, wide)  # 1 / keep, and 0 at rate 1
    rate = jax.lax.stop_gradient(jnp.asarray(rate, inverse.dtype))
    a = jnp.sqrt(inverse / (1 + rate * SATURATION**2))
    kept = apply.multiply(x.astype(wide), mask, a)
    b, dropped = -a * rate * SATURATION, a * (1 - rate) * SATURATION  # dropped = a alpha' + b
    b, dropped = aligned(b, x.ndim), aligned(dropped, x.ndim)
    return (kept + jnp.where(mask.unpack(), b, dropped)).astype(x.dtype)
