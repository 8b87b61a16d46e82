"""Shardings in types (explicit axes): draws that are divided as x is, and the rows of x."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from dropout_jax.typing import Array


def spread(sharding: NamedSharding | None, f: Callable[..., Array], *args: Any) -> Array:
    """f(*args), computed by each device for its part of the result, which `sharding` gives.

    With explicit axes an array that depends on no sharded one, such as the words of a mask, is
    made whole on every device. Here the compiler divides it, as it does with automatic axes.
    """
    explicit = sharding.mesh.explicit_axes if sharding else ()
    if not explicit:
        return f(*args)
    leaves, tree = jax.tree.flatten(args)
    arrays = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)}

    def of(arrays):
        return f(*tree.unflatten([arrays.get(i, leaf) for i, leaf in enumerate(leaves)]))

    divided = jax.sharding.auto_axes(of, axes=explicit, out_sharding=sharding)
    # Annotated as if it might return a decorator here too.
    return divided(arrays)  # pyright: ignore[reportReturnType]


def sharding_of(x: Array) -> NamedSharding:
    """The sharding in the type of x: of no axis, but for explicit ones."""
    return jax.typeof(x).sharding


def sharding_of_product(x: Array, kernel: Array) -> NamedSharding:
    """That of x @ kernel: rows as x, columns as the kernel."""
    parts = (*sharding_of(x).spec[:-1], sharding_of(kernel).spec[-1])
    return _sharding_by(parts, x, kernel)


def sharding_of_attention(query: Array, values: Array) -> NamedSharding:
    """That of attention, all (..., length, heads, depth): batch and heads as either is divided."""
    ours, theirs = sharding_of(query).spec, sharding_of(values).spec
    either = [our or their for our, their in zip(ours, theirs, strict=True)]
    return _sharding_by((*either[:-3], ours[-3], either[-2], theirs[-1]), query, values)


def _sharding_by(parts, *arrays: Array) -> NamedSharding:
    """On the mesh of the arrays; what an earlier part is divided by does not divide a later one."""
    meshes = [sharding_of(array).mesh for array in arrays]
    spec, taken = [], set()
    for part in parts:
        spec.append(None if taken.intersection(_axes(part)) else part)
        taken.update(_axes(part))
    return NamedSharding(max(meshes, key=lambda mesh: mesh.size), PartitionSpec(*spec))


def product_options(x: Array, kernel: Array) -> dict[str, NamedSharding]:
    """`out_sharding` for a layer that computes x @ kernel: JAX wants it with explicit axes."""
    sharding = sharding_of_product(x, kernel)
    return {"out_sharding": sharding} if sharding.mesh.explicit_axes else {}


def check_sharding(sharding: Any, shape: tuple[int, ...]) -> NamedSharding | None:
    """An argument `out_sharding` for an array of `shape`, with a part for every axis, or raise."""
    if sharding is None:
        return None
    if isinstance(sharding, PartitionSpec):
        sharding = NamedSharding(jax.sharding.get_abstract_mesh(), sharding)
    if not isinstance(sharding, NamedSharding):
        raise TypeError(
            f"out_sharding is {sharding!r}; write a PartitionSpec, such as jax.P('data', None), "
            "inside jax.set_mesh(mesh), or a NamedSharding."
        )
    spec, explicit = sharding.spec, sharding.mesh.explicit_axes
    if len(spec) > len(shape):
        raise ValueError(f"out_sharding {spec} has more axes than shape {shape}; write no more.")
    if named := [axis for part in spec for axis in _axes(part) if axis not in explicit]:
        raise ValueError(
            f"out_sharding names {named[0]!r}, and the mesh has the explicit axes {explicit}; "
            "leave out_sharding out: along other axes the compiler divides a mask as it divides "
            "what the mask is applied to."
        )
    return sharding.update(spec=PartitionSpec(*spec, *(None,) * (len(shape) - len(spec))))


def _axes(part) -> tuple[str, ...]:
    """The mesh axes that divide one axis of an array."""
    return (part,) if isinstance(part, str) else part or ()


def parts_of(x: Array) -> int:
    """How many parts the type of x divides its rows into: 1, but for explicit shardings."""
    sharding = sharding_of(x)
    return parts(sharding, 0) if sharding.spec else 1


def parts(sharding: NamedSharding, axis: int) -> int:
    """How many parts a sharding divides an axis of an array into."""
    return math.prod(sharding.mesh.shape[name] for name in _axes(sharding.spec[axis]))


@contextlib.contextmanager
def devices_of(x: Array) -> Iterator[None]:
    """Where arrays that are on no devices yet belong to those of x, if its mesh has explicit axes.

    Raises:
      ValueError: a layer cannot tell how its outputs are sharded.
    """
    if not sharding_of(x).mesh.explicit_axes:
        yield
        return
    sharding: Any = x.sharding  # a NamedSharding on a mesh of devices, as all with such axes
    try:
        with jax.set_mesh(sharding.mesh):
            yield
    except Exception as error:
        if type(error).__name__ != "ShardingTypeError":  # JAX does not export it
            raise
        raise ValueError(
            "a layer of the model cannot tell how its outputs are sharded. Write out_sharding= "
            "where the layer is called, as in linear(x, out_sharding=jax.P('data', None)), or make "
            "the mesh with axis_types=(jax.sharding.AxisType.Auto,) * 2, one for each axis, where "
            f"the compiler decides. JAX says: {error}"
        ) from error


def rows_of(x: Array, rows: Array) -> Array:
    """x[rows], spread as x is."""
    if not sharding_of(x).mesh.explicit_axes:
        return x[rows]
    return x.at[rows].get(out_sharding=sharding_of(x))


def repeated(x: Array, times: int) -> Array:
    """Every row so many times, the copies next to one another."""
    copies = jnp.broadcast_to(x[:, None], (len(x), times, *x.shape[1:]))
    return copies.reshape(-1, *x.shape[1:])
