"""Name the arrays of a pytree, cut them at the borders of devices, and put them together again.

An array that is spread over devices is written piece by piece, each by the process that holds it,
and read by any other number of devices and processes.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dropout_jax.typing import Array


class MissingPieceError(Exception):
    """No file holds a part of an array."""


Leaves = dict[str, Array | jax.ShapeDtypeStruct]


class Piece(NamedTuple):
    """A rectangle of an array that is on a device of this process, and what a file says of it."""

    about: dict[str, Any]
    values: Array


def named_leaves(tree: Any) -> Leaves:
    """The leaves of a pytree by their place, as "layers/0/kernel"; numbers become arrays."""
    leaves = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if getattr(path[-1] if path else None, "name", None) == "value":  # an nnx.Variable's own
            path = path[:-1]
        name = place = jax.tree_util.keystr(path, simple=True, separator="/") or "array"
        while name in leaves:  # of places that are written alike
            name = f"{place}#{len(leaves)}"
        leaves[name] = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jnp.asarray(leaf)
    return leaves


def signature(leaves: Leaves) -> dict[str, str]:
    """The type and shape of each array, such as "float32 (784, 10)"."""
    return {name: f"{leaf.dtype} {leaf.shape}" for name, leaf in leaves.items()}


def pieces_here(leaves: Leaves) -> list[Piece]:
    """What this process has to write, so that all together write every element once."""
    found = []
    for name, leaf in leaves.items():
        leaf = _numbers(leaf)
        assert isinstance(leaf, jax.Array)
        if leaf.is_fully_addressable and jax.process_index():
            continue  # every process has it, and the first writes it
        for shard in leaf.addressable_shards:
            if shard.replica_id == 0:
                start = [part.start or 0 for part in shard.index]
                shape = list(shard.data.shape)
                spans = ",".join(f"{i}:{i + n}" for i, n in zip(start, shape, strict=True))
                member = name if shape == list(leaf.shape) else f"{name}[{spans}]"
                about = {"array": name, "member": member, "start": start, "shape": shape}
                found.append(Piece({**about, "dtype": str(leaf.dtype)}, shard.data))
    return found


def put_together(
    leaf: Array | jax.ShapeDtypeStruct,
    pieces: Sequence[dict[str, Any]],
    read: Callable[[int], np.ndarray],
) -> Array:
    """An array like `leaf`, on its devices, out of pieces.

    Args:
      leaf: an array, or its shape and type.
      pieces: what files say of the pieces of this array.
      read: from a piece's index to its values.

    Raises:
      MissingPieceError: the pieces do not fill the array.
    """
    like, read = _numbers(leaf), functools.cache(read)

    def values(index: tuple[slice, ...]) -> np.ndarray:
        bounds = [part.indices(n) for part, n in zip(index, like.shape, strict=True)]
        start, stop = [b[0] for b in bounds], [b[1] for b in bounds]
        return _rectangle(start, stop, pieces, read)

    on = getattr(like, "sharding", None)
    if on is None or not getattr(like, "committed", True):
        array = jnp.array(values((slice(None),) * len(like.shape)))
    else:
        # JAX annotates that the index may be None, which it never is.
        array = jax.make_array_from_callback(like.shape, on, values)  # pyright: ignore[reportArgumentType]
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(array, impl=_implementation(leaf))
    return _weak(array) if getattr(leaf, "weak_type", False) else array


def _weak(array: Array) -> Array:
    """With the weak type of a Python number, whose arithmetic keeps the other operand's type."""
    zeros = jnp.broadcast_to(jnp.asarray(array.dtype.type(0).item()), array.shape)
    return zeros.at[...].set(array) if zeros.dtype == array.dtype else array


def _rectangle(
    start: list[int], stop: list[int], pieces: Sequence[dict[str, Any]], read: Callable
) -> np.ndarray:
    """The values from `start` to `stop`, of pieces that do not overlap."""
    shape = tuple(b - a for a, b in zip(start, stop, strict=True))
    size, found, filled = math.prod(shape), None, 0
    for i, piece in enumerate(pieces):
        first, last = (
            piece["start"],
            [a + n for a, n in zip(piece["start"], piece["shape"], strict=True)],
        )
        if (first, last) == (start, stop):
            return read(i)
        low, high = [*map(max, start, first)], [*map(min, stop, last)]
        if all(a < b for a, b in zip(low, high, strict=True)):
            found = np.empty(shape, jnp.dtype(piece["dtype"])) if found is None else found
            found[_spans(low, high, start)] = read(i)[_spans(low, high, first)]
            filled += math.prod(b - a for a, b in zip(low, high, strict=True))
    if filled != size or found is None:
        raise MissingPieceError
    return found


def _spans(low: list[int], high: list[int], origin: list[int]) -> tuple[slice, ...]:
    return tuple(slice(a - o, b - o) for a, b, o in zip(low, high, origin, strict=True))


def _numbers(leaf: Array | jax.ShapeDtypeStruct) -> Array | jax.ShapeDtypeStruct:
    """A typed key as the numbers that it holds."""
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    abstract = isinstance(leaf, jax.ShapeDtypeStruct)
    return jax.eval_shape(jax.random.key_data, leaf) if abstract else jax.random.key_data(leaf)


def _implementation(key: Array | jax.ShapeDtypeStruct) -> Any:
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), key)
    return found[0]
