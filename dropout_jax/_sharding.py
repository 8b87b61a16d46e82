"""Rows of an array: examples that may be spread over devices, by a sharding that is in its type."""

import contextlib
import math
from typing import Any

import jax
import jax.numpy as jnp

from dropout_jax.typing import Array


def parts_of(x: Array) -> int:
    """How many parts the type of x divides its rows into: 1, but for explicit shardings."""
    sharding = jax.typeof(x).sharding
    axes = sharding.spec[0] if sharding.spec else None
    axes = (axes,) if isinstance(axes, str) else axes or ()
    return math.prod(sharding.mesh.shape[axis] for axis in axes)


def devices_of(x: Array) -> contextlib.AbstractContextManager[Any]:
    """Where arrays that are on no devices yet belong to those of x, if its rows are spread."""
    return contextlib.nullcontext() if parts_of(x) == 1 else jax.set_mesh(x.sharding.mesh)


def rows_of(x: Array, rows: Array) -> Array:
    """x[rows], spread as x is."""
    if parts_of(x) == 1:
        return x[rows]
    return x.at[rows].get(out_sharding=jax.typeof(x).sharding)


def repeated(x: Array, times: int) -> Array:
    """Every row so many times, the copies next to one another."""
    copies = jnp.broadcast_to(x[:, None], (len(x), times, *x.shape[1:]))
    return copies.reshape(-1, *x.shape[1:])
