"""Types for annotations: Array, Key and Rate."""

from typing import TypeAlias

import jax

Array: TypeAlias = jax.Array
"""A JAX array, traced or concrete."""
Key: TypeAlias = jax.Array
"""One random key, as `jax.random.key` makes it, or a legacy one of `jax.random.PRNGKey`."""
Rate: TypeAlias = float | jax.Array
"""The probability of dropping, in [0, 1]: a Python number, a traced scalar, or an array."""
