"""Checks of targets, noise and levels that the predictions and scores of a regression share."""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dropout_jax._checks import is_traced
from dropout_jax.typing import Array


def noise_or_none(noise: ArrayLike | None, *, positive: bool = False) -> Array | None:
    """The noise as `check_noise` returns it; None for that which the model states."""
    return None if noise is None else check_noise(noise, positive=positive)


def check_noise(noise: ArrayLike, *, positive: bool = False) -> Array:
    """The noise as an array; raise where it is no standard deviation."""
    if not is_traced(noise):
        values = np.asarray(noise)
        if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
            raise TypeError(f"noise is {noise!r}; write a standard deviation, such as 0.1.")
        if not np.all(np.isfinite(values) & (values >= 0)) or (positive and not np.all(values)):
            raise ValueError(
                f"noise is {noise}; write a standard deviation over 0, such as 0.1, in the units "
                "of the targets (tau ** -0.5 for a precision tau)."
            )
    return jnp.asarray(noise, jnp.result_type(float))


def check_targets(y: ArrayLike, name: str = "y") -> Array:
    """The targets as an array of real numbers; raise where they are not, or are not finite."""
    y = jnp.asarray(y)
    if jnp.issubdtype(y.dtype, jnp.integer) or y.dtype == bool:
        y = y.astype(jnp.float32)
    if not jnp.issubdtype(y.dtype, jnp.floating):
        raise TypeError(f"{name} has dtype {y.dtype}; write real numbers.")
    # By NumPy, for inside of jit JAX would not answer, even for what is known there.
    if not is_traced(y) and (bad := int((~np.isfinite(np.asarray(y))).sum())):
        raise ValueError(
            f"{name} holds {bad} values that are NaN or infinite; drop those examples, such as by "
            f"keep = jnp.isfinite({name})."
        )
    return y


def aligned(y: Array, mean: Array, name: str = "y") -> Array:
    """y in the shape of the predictions: (n,) is (n, 1), and nothing else is broadcast."""
    if mean.shape not in (y.shape, (*y.shape, 1)) and y.shape != (*mean.shape, 1):
        raise ValueError(
            f"{name} has shape {y.shape} and the predictions {mean.shape}; write one target for "
            f"each prediction, of shape {mean.shape}."
        )
    return y.reshape(mean.shape).astype(mean.dtype)


def aligned_or_number(stddev: Array, mean: Array) -> Array:
    """A deviation for each prediction, or one for all."""
    return stddev if stddev.ndim == 0 else aligned(stddev, mean, "stddev")


def check_level(level: float) -> float:
    """Return the level of an interval, or raise unless it lies between 0 and 1."""
    if not is_traced(level) and not 0 < level < 1:
        raise ValueError(f"level is {level}; write a share between 0 and 1, such as 0.9.")
    return level
