"""Multiply by a mask: scale what is kept, and make what is dropped zero."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropout_jax._arrays import aligned
from dropout_jax._checks import (
    check_broadcasts,
    check_floating,
    check_given,
    check_rate,
    is_static,
    wide_dtype,
)
from dropout_jax._sharding import sharding_of, spread
from dropout_jax._xla import recomputed
from dropout_jax.masks import bits
from dropout_jax.masks.packed import PackedMask
from dropout_jax.typing import Array, Rate


def apply_mask(x: ArrayLike, mask: ArrayLike | PackedMask, rate: Rate) -> Array:
    r"""Multiply x by a given mask, scaled: what `dropout` does once the mask is drawn.

    $$y = \begin{cases} x / (1 - \text{rate}) & \text{where kept} \\
                        0 & \text{where dropped,} \end{cases}$$
    so that a dropped NaN or infinity becomes 0. The backward pass keeps the mask as it was given:
    one bit an element when it is packed.

    Args:
      x: floating-point, any shape.
      mask: booleans that broadcast against x, or a `PackedMask` of x's shape.
      rate: the rate the mask was drawn with: in [0, 1], or an array that broadcasts against x.
        Not differentiated: the mask depends on it too.

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError: x does not hold floating-point numbers, or the mask is not boolean.
      ValueError: the mask or the rate does not broadcast against x; a concrete rate outside [0, 1].

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> mask = dj.packed_mask(jax.random.key(0), 0.2, (3, 64))
      >>> same = dj.apply_mask(jnp.ones((3, 64)), mask, 0.2)

    Source: Srivastava et al. 2014, section 10 (scaling in training).
    """
    x = check_floating(x)
    check_rate(rate)
    if not isinstance(mask, PackedMask):
        mask = jnp.asarray(check_given(mask, "mask"))
        if mask.dtype != jnp.bool_:
            raise TypeError(f"mask has dtype {mask.dtype}; write mask.astype(bool), True for kept.")
    elif more := mask.words.ndim - len(bits.layout(mask.drawn).words):
        raise ValueError(
            f"mask holds {mask.words.shape[:more]} masks of shape {mask.shape}; map over them: "
            "jax.vmap(apply_mask, (0, 0, None))(x, mask, rate)."
        )
    for name, shape in (("mask", mask.shape), ("rate", jnp.shape(rate))):
        check_broadcasts(name, shape, x.shape)
    return spread(sharding_of(x), multiply, x, mask, scale_of(rate, x.dtype))


def scale_of(rate: Rate, dtype) -> Array:
    """1 / (1 - rate), and 0 where everything is dropped, in float32 or in x's wider precision.

    For all but float64 x this is the factor of the very rate that the mask is drawn with.
    """
    dtype = jnp.finfo(wide_dtype(dtype)).dtype
    if is_static(rate):
        keep = 1 - dtype.type(rate)
        return jnp.asarray(1 / keep if keep > 0 else 0, dtype)
    keep = 1 - jax.lax.stop_gradient(jnp.asarray(rate, dtype))
    return jnp.where(keep > 0, 1 / jnp.where(keep > 0, keep, 1), 0)


@functools.partial(jax.jit, inline=True)
def multiply(x: Array, mask: Array | PackedMask, scale: Array) -> Array:
    """where(mask, x * scale, 0) in x's dtype, rounded once; the backward pass keeps the mask.

    The select comes before the rounding because that is faster on CPU.
    """
    return _multiply(mask, x, scale)


@recomputed
def _multiply(mask, x, scale):
    kept = mask.unpack() if isinstance(mask, PackedMask) else mask
    wide = jnp.promote_types(wide_dtype(x), scale.dtype)
    return jnp.where(aligned(kept, x.ndim), x.astype(wide) * aligned(scale, x.ndim), 0).astype(
        x.dtype
    )
