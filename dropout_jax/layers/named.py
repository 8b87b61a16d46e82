"""Pickle models that hold a function of JAX, such as nnx.relu, which pickle itself refuses."""

from typing import Any, NamedTuple

import jax


class _Name(NamedTuple):
    """The name of a function in `jax.nn` or `jax.numpy`."""

    module: str
    name: str


def by_name(value: Any) -> Any:
    """A function of `jax.nn` or `jax.numpy` as its name; anything else as it is."""
    name = getattr(value, "__name__", None)
    for module in ("nn", "numpy"):
        if name and getattr(getattr(jax, module), name, None) is value:
            return _Name(module, name)
    return value


def from_name(value: Any) -> Any:
    """The inverse of `by_name`."""
    return getattr(getattr(jax, value.module), value.name) if isinstance(value, _Name) else value
