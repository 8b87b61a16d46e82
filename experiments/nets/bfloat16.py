"""Matrix products of float32 arrays in bfloat16, summed in float32.

It is what the matrix units of a CPU, GPU or TPU do fastest, forward and backward; weights,
activities and gradients stay float32. A `dot_general` of `nnx.Linear`:
`nnx.Linear(784, 10, dot_general=bfloat16.dot_general, rngs=rngs)`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from dropout_jax.typing import Array


def dot_general(x: Array, w: Array, dimension_numbers: Any, **_: Any) -> Array:
    """x (..., n) times w (n, m), as `nnx.Linear` asks for it."""
    if dimension_numbers != (((x.ndim - 1,), (0,)), ((), ())):
        raise ValueError(f"a layer multiplies x (..., n) by w (n, m); got {dimension_numbers}")
    return _product(x.reshape(-1, x.shape[-1]), w).reshape(*x.shape[:-1], w.shape[1])


@jax.custom_vjp
def _product(x: Array, w: Array) -> Array:
    return _forward(x, w)[0]


def _forward(x, w):
    x, w = x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
    return _rounded(x, w, 1, 0), (x, w)


def _backward(residual, g):
    x, w = residual
    g = g.astype(jnp.bfloat16)
    # XLA's CPU backend has no fast product of two arrays along their first axes, and a transpose
    # before another product becomes one; rows of zeros in between keep the transpose, for little.
    zeros = -len(x) % 32 or 32
    transposed = jnp.pad(x.T, ((0, 0), (0, zeros)))
    return _rounded(g, w, 1, 1), _rounded(transposed, jnp.pad(g, ((0, zeros), (0, 0))), 1, 0)


def _rounded(a, b, axis_a, axis_b):
    contracted = (((axis_a,), (axis_b,)), ((), ()))
    return lax.dot_general(a, b, contracted, preferred_element_type=jnp.float32)


_product.defvjp(_forward, _backward)
