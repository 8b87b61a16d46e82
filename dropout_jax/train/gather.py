"""A sub-network's arrays: out of the whole ones by one gather, and back by one scatter."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dropout_jax.train.thin import Chain, Units
from dropout_jax.typing import Array


def take(tree: Any, chain: Chain, units: Units) -> Any:
    """The part of `tree` that belongs to the sub-network.

    Args:
      tree: parameters, or any pytree that repeats their structure: momenta, Adam's moments, a whole
        optimizer state. Leaves that are not kernels or biases of the chain stay as they are.
      chain: from `chain_of`.
      units: from `draw`.

    Returns:
      A pytree like `tree` with smaller arrays.

    Raises:
      ValueError: a leaf at a kernel's or bias's place that has another shape (Adafactor, L-BFGS).
    """

    def small(path, leaf):
        if not (part := _part_of(path, leaf, chain, units)):
            return leaf
        taken = leaf.reshape(part.split).at[part.grid].get(mode="promise_in_bounds")
        return taken.reshape(*taken.shape[:-2], -1)

    return jax.tree_util.tree_map_with_path(small, tree)


def put(tree: Any, small: Any, chain: Chain, units: Units) -> Any:
    """`tree` with the sub-network's part replaced by `small`: the inverse of `take`.

    Args:
      tree: as for `take`; what the sub-network does not hold stays, bit for bit.
      small: from `take`, changed.
      chain: from `chain_of`.
      units: the same as for `take`.

    Returns:
      A pytree like `tree`; leaves outside the chain are those of `small`.
    """

    def whole(path, leaf, new):
        if not (part := _part_of(path, leaf, chain, units)):
            return new
        new = new.reshape(*new.shape[:-1], -1, part.split[-1])
        split = leaf.reshape(part.split).at[part.grid].set(new, unique_indices=True)
        return split.reshape(leaf.shape)

    return jax.tree_util.tree_map_with_path(whole, tree, small)


class _Part(NamedTuple):
    """The sub-network's part of a leaf: the leaf's last axis is split into blocks, and a grid of
    indices names the part. One gather or scatter of whole blocks; a gather or scatter of columns
    is ten times slower on CPU."""

    split: tuple[int, ...]
    grid: tuple[Array, ...]


def _part_of(path, leaf: Array, chain: Chain, units: Units) -> _Part | None:
    axes = _thinned_axes(path, leaf, chain)
    if not axes:
        return None
    last = leaf.ndim - 1
    block = chain.hidden[axes[last]].block if last in axes else leaf.shape[last]
    indices = [units[axes[i]] if i in axes else jnp.arange(n) for i, n in enumerate(leaf.shape)]
    indices[last] = indices[last][::block] // block
    return _Part((*leaf.shape[:last], leaf.shape[last] // block, block), jnp.ix_(*indices))


def _thinned_axes(path, leaf: Array, chain: Chain) -> dict[int, int]:
    """Which axes of a leaf run over the units of which hidden layer, by its place in the tree."""
    names = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", "")))) for k in path]
    if any(_contains(names, place) for place in chain.others):
        return {}
    for i, layer in enumerate(chain.layers):
        axes = {}
        if _contains(names, (*layer, "kernel")):
            axes = {0: i - 1, 1: i}
        elif _contains(names, (*layer, "bias")):
            axes = {0: i}
        if axes:
            hidden = {j: h for j, h in enumerate(chain.hidden) if h.kept < h.width}
            axes = {axis: j for axis, j in axes.items() if j in hidden}
            widths = {axis: hidden[j].width for axis, j in axes.items()}
            # A number for a whole parameter stays.
            if leaf.ndim and widths != {a: n for a, n in enumerate(leaf.shape) if a in widths}:
                raise ValueError(
                    "thinning moves states that have their parameter's shape, and "
                    f"{'/'.join(names)} has {leaf.shape}; train with an optimizer such as "
                    "optax.sgd or optax.adam."
                )
            return axes if leaf.ndim else {}
    return {}


def _contains(names: list[str], part: tuple[str, ...]) -> bool:
    return any(tuple(names[i : i + len(part)]) == part for i in range(len(names)))
