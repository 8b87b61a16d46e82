"""Time a forward and a backward pass, and count the bits kept in between."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.harness.timing import key_of


def forward_and_backward(step: Callable) -> Callable:
    """(key, x) -> y = step(key, x), pulled back through the same step.

    A conditional that only the key decides stands between the passes, as the rest of a network
    does: without it XLA would make one pass of both, and nothing would have to be kept. Where an
    optimisation barrier does that (not on a CPU), there is one.
    """

    def both(key, x):
        y, pullback = jax.vjp(functools.partial(step, key), x)
        always = jax.random.key_data(key)[0] < jnp.uint32(2**31)
        between = lax.platform_dependent(
            y,
            cpu=lambda y: lax.cond(always, lambda y: y, lambda y: -y, y),
            default=lax.optimization_barrier,
        )
        (dx,) = pullback(between)
        return dx

    return both


@functools.cache
def residual_bits(apply: Callable, dtype: str, rate: float) -> float:
    """Bits an element that the compiled forward pass hands to the backward pass.

    The pullback is an output of the program, and its arrays are what is kept. Those that do not
    depend on key or x are constants, which a program that holds both passes does not keep.
    """

    @jax.jit
    def forward(key, x):
        return jax.vjp(lambda x: apply(key, x, rate), x)

    shape = (256, 1024)

    def residuals(i):
        x = jax.random.normal(jax.random.key(i), shape, dtype)
        _, pullback = forward(key_of(i), x)
        return [_raw(leaf) for leaf in jax.tree.leaves(pullback)]

    pairs = zip(residuals(1), residuals(2), strict=True)
    kept = sum(one.nbytes for one, two in pairs if (one != two).any())
    return 8 * kept / math.prod(shape)


def _raw(leaf: jax.Array) -> np.ndarray:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)
