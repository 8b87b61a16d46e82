"""Compiler control: values that XLA computes once, or again in the backward pass."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from dropout_jax.typing import Array


def materialised(draw, shape: tuple[int, ...], *inputs: Array, loop=None) -> Array:
    """The words `draw()` of `shape` in memory, once; `inputs` are the arrays that it reads.

    XLA would otherwise compute a word again for each of the 32 lanes that read it. Its CPU backend
    fuses through an optimisation barrier, and stops at a conditional and at a loop: `loop`, from
    zeros to the words of `draw`, is what a CPU runs where it is given.
    """

    def zeros():
        # Inside shard_map these must vary over the devices as the inputs do.
        like = sum(jnp.sum(jnp.zeros_like(a, jnp.uint32), dtype=jnp.uint32) for a in inputs)
        return jnp.broadcast_to(like, shape)

    def cpu():
        if loop is not None:
            return loop(zeros())
        return lax.cond(lax.optimization_barrier(jnp.bool_(True)), draw, zeros)

    return lax.platform_dependent(cpu=cpu, default=lambda: lax.optimization_barrier(draw()))


def recomputed(f: Callable[..., Array]) -> Callable[..., Array]:
    """`f(source, *arrays)`, of which a backward pass keeps the source, not what f makes of it.

    The source (a mask, a key, a pytree of such) is not differentiated. `jax.checkpoint` does this
    too, but its barrier holds back the gradient as well, which XLA then writes out and reads again
    where it could have been masked on the way. Here the barrier holds back the source alone.
    """
    with_rule = jax.custom_jvp(f)

    @functools.partial(with_rule.defjvp, symbolic_zeros=True)
    def jvp(primals, tangents):
        source, *arrays = primals
        moving = [i for i, t in enumerate(tangents[1:]) if not isinstance(t, SymbolicZero)]

        @functools.partial(jax.checkpoint, prevent_cse=False)
        def again(source, *moved):
            at = dict(enumerate(arrays)) | dict(zip(moving, moved, strict=True))
            return f(jax.lax.optimization_barrier(source), *at.values())

        along = functools.partial(again, source)
        at, by = ([values[i] for i in moving] for values in (arrays, tangents[1:]))
        return with_rule(*primals), jax.jvp(along, at, by)[1]

    return with_rule
