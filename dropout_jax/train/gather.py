"""A sub-network's arrays: out of the whole ones by one gather, and back by one scatter."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dropout_jax._arrays import aligned
from dropout_jax.train.ports import Place
from dropout_jax.train.units import Axis, Plan, Units
from dropout_jax.typing import Array


def take(tree: Any, plan: Plan, units: Units) -> Any:
    """The part of `tree` that belongs to the sub-network.

    Args:
      tree: parameters, or any pytree that repeats their structure: momenta, Adam's moments, a whole
        optimizer state. Leaves that the plan does not thin stay as they are.
      plan: from `plan_of`.
      units: from `draw`.

    Returns:
      A pytree like `tree` with smaller arrays.

    Raises:
      ValueError: a leaf at a parameter's place that has another shape (Adafactor, L-BFGS).
    """

    def small(path, leaf):
        if not (part := _part_of(path, leaf, plan, units)):
            return leaf
        taken = leaf.reshape(part.split).at[part.grid].get(mode="promise_in_bounds")
        return taken.reshape(*taken.shape[:-2], -1)

    return jax.tree_util.tree_map_with_path(small, tree)


def put(tree: Any, small: Any, plan: Plan, units: Units) -> Any:
    """`tree` with the sub-network's part replaced by `small`: the inverse of `take`.

    Args:
      tree: as for `take`; what the sub-network does not hold stays, bit for bit.
      small: from `take`, changed.
      plan: from `plan_of`.
      units: the same as for `take`.

    Returns:
      A pytree like `tree`; leaves that the plan does not thin are those of `small`.
    """

    def whole(path, leaf, new):
        if not (part := _part_of(path, leaf, plan, units)):
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


def _part_of(path, leaf: Array, plan: Plan, units: Units) -> _Part | None:
    axes = _thinned_axes(path, leaf, plan)
    if not axes:
        return None
    stack = plan.hidden[axes[0].hidden].stack
    thinned = {axis.axis % leaf.ndim: axis for axis in axes}
    last = leaf.ndim - 1
    chunk = leaf.shape[last]
    if last in thinned:
        chunk = plan.hidden[thinned[last].hidden].block * thinned[last].numbers
    split = (*leaf.shape[:last], leaf.shape[last] // chunk, chunk)
    grid = []
    for i, n in enumerate(split[:-1]):
        index, lead = jnp.arange(n), (1,) * i
        if i in thinned:
            index = _positions(thinned[i], plan, units, in_blocks=i == last)
            lead = (*stack, *(1,) * (i - len(stack)))
        grid.append(index.reshape(*lead, -1, *(1,) * (last - i)))
    return _Part(split, tuple(grid))


def _positions(axis: Axis, plan: Plan, units: Units, *, in_blocks: bool) -> Array:
    """Where the units' numbers, or blocks of them, lie in an axis: (*stack, many)."""
    (width, _, block, stack, *_), kept = plan.hidden[axis.hidden], units[axis.hidden]
    numbers = axis.numbers
    if in_blocks:
        kept, width, numbers = kept[..., ::block] // block, width // block, 1
    # The number i of unit u in part p lies at (p width + u) numbers + i.
    first = jnp.arange(axis.parts)[:, None] * width
    index = kept[..., None, :] + aligned(first, kept.ndim + 1)
    index = index[..., None] * numbers + aligned(jnp.arange(numbers), index.ndim + 1)
    return index.reshape(*stack, -1)


def _thinned_axes(path, leaf: Array, plan: Plan) -> tuple[Axis, ...]:
    """Which axes of a leaf run over units, by its place in the tree."""
    names = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", "")))) for k in path]
    place = _parameter(names, plan)
    if place is None or not leaf.ndim:  # a number for a whole parameter stays
        return ()
    axes = [a for a in plan.axes[place] if plan.hidden[a.hidden].kept < plan.hidden[a.hidden].width]
    if axes and leaf.shape != plan.shapes[place]:
        raise ValueError(
            f"thinning moves states that have their parameter's shape, and {'/'.join(names)} has "
            f"{leaf.shape}; train with an optimizer such as optax.sgd or optax.adam."
        )
    return tuple(axes)


def _parameter(names: list[str], plan: Plan) -> Place | None:
    """The variable whose place is in the names; the deepest, where the ends of places repeat."""
    for length in range(len(names), 0, -1):
        for start in range(len(names) - length + 1):
            if (place := tuple(names[start : start + length])) in plan.axes:
                return place
    return None
