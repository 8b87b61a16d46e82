"""Array helpers that the noise functions share: rank alignment and a root with a gradient at 0."""

import jax.numpy as jnp

from dropout_jax.typing import Array


def aligned(a: Array, ndim: int) -> Array:
    """`a` with axes of size 1 in front, up to `ndim` of them: broadcasting that is written out."""
    return a.reshape((1,) * (ndim - a.ndim) + a.shape)


def safe_sqrt(x: Array) -> Array:
    """The square root of x >= 0, with a derivative of 0 where x is 0 (the root itself has none)."""
    some = x > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, x, 1)), 0)
