"""Names of parameters in a pytree: which are weights, and which axes of one lead into a unit."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

Path = tuple[Any, ...]
NO_WEIGHTS = {"bias", "b", "scale", "offset", "log_sigma2", "logit_rate", "logit_alpha"}
"""Flax's and Haiku's biases and scales, and the noise parameters of our learned layers."""
QUERIES = {"query", "key", "value"}
"""Attention's projections onto (heads, depth): two axes that come out."""


def place_of(path: Path) -> Path:
    """The path to a parameter, without the `value` inside a Flax variable or a Linen box."""
    inside = path and path[-1] == jax.tree_util.GetAttrKey("value")
    return path[:-1] if inside and len(path) > 1 else path


def name_of(path: Path) -> str:
    """The name of a parameter in its layer; "" for an array alone or in a list."""
    return _name(place_of(path)[-1:])


def _name(entries: Path) -> str:
    name = next((getattr(entry, "key", getattr(entry, "name", "")) for entry in entries), "")
    return name if isinstance(name, str) else ""


def is_weight(path: Path, leaf: Any) -> bool:
    """False for biases, scales and parameters of noise, whatever their rank."""
    return jnp.ndim(leaf) >= 2 and name_of(path) not in NO_WEIGHTS


def of_each_leaf(prefix: Any, tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """For each leaf of a tree the value that a prefix of the tree gives."""
    found: list[Any] = []
    jax.tree.map(
        lambda value, subtree: found.extend([value] * len(jax.tree.leaves(subtree))),
        prefix,
        tree,
        is_leaf=is_leaf,
    )
    return found


def incoming_axes(path: Path, shape: Sequence[int], bias: Sequence[int] | None) -> tuple[int, ...]:
    """The axes of a weight that lead into one unit, by its name and the shape of its bias.

    An embedding's are its features: each row is a vector of its own. Of a kernel with a bias they
    are those that the bias lacks, so that units may have several axes (attention's heads) and
    kernels may be stacked. Of another weight they are all but the last.
    """
    ndim = len(shape)
    name, layer = name_of(path), _name(place_of(path)[-2:-1])
    where = jax.tree_util.keystr(path)
    if "embed" in name:
        return (ndim - 1,)
    if name.startswith("weight"):
        raise ValueError(
            f"max_norm does not know which axes of {where}, of shape {tuple(shape)}, lead into a "
            "unit: Equinox and PyTorch write (out, in, ...); write max_norm(c, "
            "axis=jax.tree.map(lambda w: tuple(range(1, w.ndim)), params)) for those, or axis=0 "
            "for (in, out)."
        )
    if bias is not None:
        fitting = _axes_without(shape, bias)
        if layer in QUERIES and ndim == 3 and range(1) in fitting:
            fitting = [range(1)]
        if len(fitting) != 1:
            raise ValueError(
                f"max_norm does not know which axes of {where}, of shape {tuple(shape)}, lead into "
                f"a unit, with a bias of shape {tuple(bias)}; write max_norm(c, axis=...), a tuple "
                "of axes, or a pytree of them for parts of the parameters."
            )
        return tuple(fitting[0])
    if layer in QUERIES and ndim == 3:
        return (0,)
    if ndim > 2 and name not in ("kernel", "w", ""):
        raise ValueError(
            f"max_norm does not know which axes of {where}, of shape {tuple(shape)}, lead into a "
            "unit; write max_norm(c, axis=...), a tuple of axes or a pytree of them, or a pytree "
            "of c's with jnp.inf there."
        )
    return tuple(range(ndim - 1))


def _axes_without(shape: Sequence[int], bias: Sequence[int]) -> list[range]:
    """The runs of axes to take out of `shape` so that the shape of the bias is left."""
    shape, bias = tuple(shape), tuple(bias)
    gone = len(shape) - len(bias)
    runs = [range(start, start + gone) for start in range(len(bias))] if gone > 0 else []
    return [run for run in runs if shape[: run.start] + shape[run.stop :] == bias]
