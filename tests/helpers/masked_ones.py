"""Ones under a mask, and how surely a test of them is no false alarm."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

# Each mask of this many units at rate 0.5 that equals another by chance, or keeps all, has
# probability 2^-128.
UNITS = 128
# The chance with which one statistical assertion fails on correct code.
FALSE_ALARM = 1e-8


def ones(*shape):
    return jnp.ones(shape or (UNITS,))


def is_masked(y):
    """Whether y is ones after dropout at rate 0.5."""
    return set(np.unique(y)) == {0.0, 2.0}


# Where a layer's rngs may come from.
SOURCES = {
    "rngs": lambda: nnx.Rngs(dropout=7),
    "default": lambda: nnx.Rngs(7),
    "stream": lambda: nnx.Rngs(dropout=7).dropout,
    "key": lambda: jax.random.key(7),
    "legacy key": lambda: jax.random.PRNGKey(7),
}
