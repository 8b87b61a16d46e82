"""Types for annotations: Array, Key, Number and Rate."""

from typing import TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array
"""A JAX array, traced or concrete."""
Key: TypeAlias = jax.Array
"""One random key, as `jax.random.key` makes it, or a legacy one of `jax.random.PRNGKey`."""
Number: TypeAlias = float | np.integer | np.floating
"""A number that is known while tracing: of Python or NumPy."""
Rate: TypeAlias = Number | np.ndarray | jax.Array
"""The probability of dropping, in [0, 1]: a number, a traced scalar, or an array."""
