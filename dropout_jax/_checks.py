"""Argument checks that every function shares; traced values pass all of them."""

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from dropout_jax.typing import Array, Key, Number, Rate


def is_traced(value: Any) -> bool:
    """True for a value that is not known while tracing, as in `jax.jit`."""
    return isinstance(value, Tracer)


def is_static(rate: Any) -> TypeGuard[Number]:
    """True for a rate that is known while tracing: a Python or NumPy number."""
    return isinstance(rate, (int, float, np.integer, np.floating))


def check_rate(rate: Rate) -> Rate:
    """Return `rate`, or raise if a concrete value of it lies outside [0, 1]."""
    return _check_probability("rate", rate, "dropping a unit: to drop half of the units write 0.5")


def check_keep(keep: Rate) -> Rate:
    """Return `keep`, or raise if a concrete value of it lies outside [0, 1]."""
    return _check_probability("keep", keep, "keeping a unit: to keep four in five write 0.8")


def _check_probability(name: str, value: Rate, meaning: str) -> Rate:
    if is_traced(value):
        return value
    dtype = getattr(value, "dtype", None)
    is_key = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.extended)
    values = np.asarray("a key" if is_key else value)
    if not (np.issubdtype(values.dtype, np.integer) or jnp.issubdtype(values.dtype, jnp.floating)):
        raise TypeError(
            f"{name} is {value!r}; write a number between 0 and 1, such as 0.5, or an array of "
            "them."
        )
    outside = ~((values >= 0) & (values <= 1))  # True for NaN as well
    if outside.any():
        raise ValueError(
            f"{name} is {values[outside].flat[0]}, and must lie between 0 and 1. It is the "
            f"probability of {meaning}."
        )
    return value


def check_key(key: Key | None) -> Key:
    """Return `key`, typed (a legacy one is wrapped), or raise with the way to make one."""
    if key is None:
        raise TypeError("no key was given; write jax.random.key(0), and a new key for every call.")
    dtype, kind = getattr(key, "dtype", None), type(key).__name__
    if kind in ("Rngs", "RngStream"):
        raise TypeError(
            f"key is an nnx.{kind}; write the next key of a stream, such as rngs.dropout(), or "
            "jax.random.key(0)."
        )
    if dtype is not None and dtype == np.uint32 and key.ndim:
        return check_key(jax.random.wrap_key_data(key))
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise TypeError(
            f"key is {kind}, of dtype {dtype}, and is no key; write jax.random.key(0). The key "
            "comes first: dropout(key, x, rate)."
        )
    if key.shape != ():
        raise ValueError(
            f"key holds {key.shape} keys and one is needed; write key[0], or map over them with "
            "jax.vmap(dropout, (0, 0, None))(keys, x, rate)."
        )
    return key


def consumed(key: Key) -> Key:
    """Return `key`, counted as used by `jax.debug_key_reuse`, which does not see our hash."""
    # The stub of jax.config lacks some of its flags.
    if jax.config.jax_debug_key_reuse:  # pyright: ignore[reportAttributeAccessIssue]
        jax.random.bits(key)
    return key


def check_order(x: Any, rate: Any) -> None:
    """Raise for (key, rate, x), the order of Haiku: a number for x and an array for the rate."""
    if np.ndim(x) == 0 and np.ndim(rate) > 0:
        raise TypeError(
            f"x is a scalar and the rate has shape {np.shape(rate)}; write the arguments as "
            "(key, x, rate). (Haiku has the rate before x.)"
        )


def check_dims(broadcast_dims: Sequence[int]) -> tuple[int, ...]:
    """Return the axes that share a draw as a tuple, or raise if they are not a sequence."""
    if not isinstance(broadcast_dims, Iterable) or isinstance(broadcast_dims, str):
        raise TypeError(
            f"broadcast_dims is {broadcast_dims!r}; write a tuple of axes, such as (1,) for axis 1 "
            "and () for none."
        )
    dims = tuple(broadcast_dims)
    for dim in dims:
        if not isinstance(dim, Integral):
            raise TypeError(f"broadcast_dims has {dim!r}; write whole numbers, such as (1, 2).")
    return dims


def check_count(name: str, value: Any, example: int) -> int:
    """Return `value`, or raise if it is not a whole number of 1 or more."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"{name} is {value!r}; write a whole number, 1 or more, such as {example}."
        )
    return int(value)


def check_positive(name: str, value: Any, example: Any, *, zero: bool = False) -> Any:
    """Return `value`, or raise if a concrete value of it is not over 0 (or not 0 or more)."""
    if is_traced(value):
        return value
    try:
        good = np.asarray(value) >= 0 if zero else np.asarray(value) > 0
    except TypeError:  # a string, None, an object
        raise TypeError(f"{name} is {value!r}; write a number, such as {example}.") from None
    if not np.all(good):
        bound = "0 or more" if zero else "over 0"
        raise ValueError(f"{name} is {value}; write a number {bound}, such as {example}.")
    return value


def check_choice(name: str, value: Any, *choices: str) -> Any:
    """Return `value`, or raise if it is none of the choices."""
    if value not in choices:
        *some, last = map(repr, choices)
        raise ValueError(f"{name} is {value!r}; write {', '.join(some)} or {last}.")
    return value


def check_given(x: Any, name: str) -> Any:
    """Return `x`, or raise if it is None, a dict or a string, of which JAX's errors say little."""
    if x is None or isinstance(x, (dict, str)):
        raise TypeError(f"{name} is {type(x).__name__}; write an array.")
    return x


def check_floating(x: ArrayLike, name: str = "x") -> Array:
    """Return `x` as an array, or raise if it does not hold floating-point numbers."""
    x = jnp.asarray(check_given(x, name))
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise TypeError(
            f"{name} has dtype {x.dtype}; noise multiplies floating-point values: write "
            f"{name}.astype(jnp.float32)."
        )
    return x


def wide_dtype(x: Any) -> np.dtype:
    """The dtype to compute in: float32, or the dtype of x (an array or a dtype) if it is wider."""
    dtype = jnp.result_type(x)  # promoted by hand: JAX may be told to promote nothing
    wide = jnp.issubdtype(dtype, jnp.inexact) and dtype.itemsize >= 4
    return dtype if wide else np.dtype(np.float32)


def shared_shape(shape: Sequence[int], broadcast_dims: Sequence[int]) -> tuple[int, ...]:
    """The shape of the draw: `shape` with 1 where the axes in `broadcast_dims` share one draw."""
    if not isinstance(shape, Iterable):
        raise TypeError(f"shape is {shape!r}; write a tuple, such as (5,) for 5 elements.")
    shape, dims = tuple(shape), check_dims(broadcast_dims)
    if any(isinstance(size, Integral) and size < 0 for size in shape):
        raise ValueError(f"shape is {shape}; write sizes of 0 or more.")
    for dim in dims:
        if not -len(shape) <= dim < len(shape):
            raise ValueError(
                f"broadcast_dims has axis {dim}, and shape {shape} has axes {-len(shape)} to "
                f"{len(shape) - 1}."
            )
    axes = {dim % len(shape) for dim in dims}
    if len(axes) != len(dims):
        raise ValueError(f"broadcast_dims {dims} names an axis twice; write each axis once.")
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape))


def check_broadcasts(name: str, shape: tuple[int, ...], against: tuple[int, ...]) -> None:
    """Raise unless `shape` broadcasts against `against` without enlarging it."""
    padded = (1,) * (len(against) - len(shape)) + tuple(shape)
    if len(padded) > len(against) or any(
        s not in (1, a) for s, a in zip(padded, against, strict=True)
    ):
        raise ValueError(
            f"a {name} of shape {tuple(shape)} does not broadcast against shape {against}; give it "
            "that shape, or 1 along the axes that share a value."
        )


def check_dense(x: ArrayLike, kernel: ArrayLike) -> tuple[Array, Array]:
    """Return inputs (..., in) and a kernel (in, out) as arrays, or raise."""
    x, kernel = check_floating(x), check_floating(kernel, "kernel")
    if kernel.ndim != 2 or x.ndim == 0 or x.shape[-1] != kernel.shape[0]:
        raise ValueError(
            f"x has shape {x.shape} and kernel {kernel.shape}; write x as (..., in) and kernel as "
            "(in, out)."
        )
    return x, kernel
