"""Where units lie in the arrays of a model, and which of them a sub-network keeps."""

import dataclasses
import fnmatch
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dropout_jax._checks import check_key, is_static
from dropout_jax.train.ports import Place, at, layout_of, port_of
from dropout_jax.train.thin import Pair, Thin
from dropout_jax.typing import Array, Key


class Hidden(NamedTuple):
    """Units between layers: how many there are, how many stay, and what scales the rest."""

    width: int
    kept: int
    block: int
    stack: tuple[int, ...]
    """layers of a stack, such as that of `nnx.scan`: each keeps a subset of its own"""
    dropout: Place | None
    """the dropout that gives way to the factor; None: the users' weights are scaled"""
    users: tuple[Place, ...]
    counts: tuple[tuple[Place, str, int], ...]
    """attributes of modules that say how many there are, and what they say in a sub-network"""


class Axis(NamedTuple):
    """An axis of an array, from its end, that runs over (parts, units, numbers of a unit)."""

    axis: int
    parts: int
    numbers: int
    hidden: int
    """the units' place in `Plan.hidden`"""


class Plan(NamedTuple):
    """The units of a model that are thinned, and the axes that they take in its arrays."""

    hidden: tuple[Hidden, ...]
    axes: Mapping[Place, tuple[Axis, ...]]
    """for every parameter and batch statistic; empty for those that stay whole"""
    shapes: Mapping[Place, tuple[int, ...]]


Units = tuple[Array, ...]
"""The indices of the units kept, ascending, one array of (*stack, kept) for each `Hidden`."""


def plan_of(model: Any, thin: Thin) -> Plan:
    """Read sizes and rates off a model.

    Args:
      model: an NNX model with the layers that `thin` names; an `MLP` needs none.
      thin: what to thin.

    Returns:
      A `Plan`. Of n units round(n (1 - rate) / block) blocks are kept, at least one.

    Raises:
      TypeError: a `thin` that is no `Thin`.
      ValueError: a block that does not divide a width, or that is too large to drop any at the
        rate; a rate that is traced; no such place, or a layer there that cannot be thinned; layers
        that do not fit each other; an axis that two pairs thin.
    """
    if not isinstance(thin, Thin):
        raise TypeError(f"thin is {thin!r}; write Thin(), or Thin(steps=..., block=...).")
    flat = dict(nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat))))
    shapes = {tuple(map(str, path)): variable.shape for path, variable in flat.items()}
    axes: dict[Place, tuple[Axis, ...]] = dict.fromkeys(shapes, ())
    hidden = []
    for pair in thin.pairs_of(model):
        for one in _expanded(model, pair):
            found, taken = _hidden_of(model, one, thin.block, shapes, len(hidden))
            hidden.append(found)
            for place, axis in taken:
                if any(axis.axis == other.axis for other in axes[place]):
                    raise ValueError(f"two pairs of Thin thin one axis of {'/'.join(place)}.")
                axes[place] += (axis,)
    return Plan(tuple(hidden), axes, shapes)


def draw(key: Key, plan: Plan) -> Units:
    r"""A sub-network: a subset of exactly `kept` units of each kind, uniform among those.

    $$P(\text{unit kept}) = \text{kept} / \text{width}.$$

    Args:
      key: a typed key.
      plan: from `plan_of`.

    Returns:
      Ascending indices, (*stack, kept) int32 for each `Hidden`.

    Raises:
      TypeError: `key` is not a typed key.

    Source: Graham et al. 2015 (arXiv:1502.02478) for one mask a batch.
    """
    key = check_key(key)
    units = []
    for i, (width, kept, block, stack, *_) in enumerate(plan.hidden):

        def subset(key, width=width, kept=kept, block=block):
            order = jax.random.permutation(key, width // block)
            first = jnp.sort(order[: kept // block])[:, None] * block
            return (first + jnp.arange(block)[None, :]).reshape(-1)

        own = jax.random.fold_in(key, i)
        if stack:
            several = jax.vmap(subset)(jax.random.split(own, math.prod(stack)))
            units.append(several.reshape(*stack, kept))
        else:
            units.append(subset(own))
    return tuple(units)


def _expanded(model: Any, pair: Pair) -> Iterator[Pair]:
    """A pair for each way to read the *s of its places."""
    first = pair.makers[0]
    pattern = first.split("/")
    if "*" not in pattern:
        yield pair
        return
    places = ["/".join(map(str, path)) for path, _ in nnx.iter_modules(model)]
    found = [p.split("/") for p in places if fnmatch.fnmatchcase(p, first)]
    found = [names for names in found if len(names) == len(pattern)]
    if not found:
        raise ValueError(f"the model has nothing at {first!r}.")
    for names in found:
        yield _filled(pair, [n for n, p in zip(names, pattern, strict=True) if p == "*"])


def _filled(pair: Pair, stars: list[str]) -> Pair:
    def fill(place):
        if not isinstance(place, str):
            return place
        left = iter(stars)
        names = [next(left, "*") if name == "*" else name for name in place.split("/")]
        if "*" in names:
            raise ValueError(
                f"{place!r} has more *s than {pair.makers[0]!r}; write as many in both places."
            )
        return "/".join(names)

    several = {n: tuple(map(fill, getattr(pair, n))) for n in ("makers", "users", "between")}
    return dataclasses.replace(pair, dropout=fill(pair.dropout), units=fill(pair.units), **several)


def _hidden_of(
    model: Any, pair: Pair, block: int, shapes: Mapping[Place, tuple[int, ...]], index: int
) -> tuple[Hidden, list[tuple[Place, Axis]]]:
    """The units of a pair, the plan's number `index`, and the axes that they take."""
    ports = [
        port_of(model, place, side)
        for side in ("makers", "between", "users")
        for place in getattr(pair, side)
    ]
    width, numbers = layout_of(model, pair, ports)
    if pair.block is not None:
        block = pair.block
    elif numbers > 1 or any(port.row is not None for port in ports):
        block = 1
    rate, dropout = _rate(model, pair)
    kept = _kept(pair.makers[0], width, rate, block)

    axes, counts, stacks = [], [], set()
    for port in ports:
        of_unit = numbers if port.row is None else port.size // width
        for name, axis in port.axes.items():
            if (place := (*port.place, name)) in shapes:  # there may be no bias
                axes.append((place, Axis(axis, port.size // (width * of_unit), of_unit, index)))
        counts.append((port.place, port.attribute, port.size // width * kept))
        stacks.add(shapes[(*port.place, next(iter(port.axes)))][: -port.rank])
    if len(stacks) > 1:
        raise ValueError(
            f"the layers of the Pair of {pair.makers[0]} are stacked {sorted(stacks)} times; write "
            "layers of one stack."
        )
    if isinstance(pair.units, str):
        *parent, name = pair.units.split("/")
        counts.append((tuple(parent), name, kept))
    users = tuple(tuple(place.split("/")) for place in pair.users)
    return Hidden(width, kept, block, stacks.pop(), dropout, users, tuple(counts)), axes


def _rate(model: Any, pair: Pair) -> tuple[float, Place | None]:
    if pair.dropout is None:
        assert pair.rate is not None
        return float(pair.rate), None
    place = tuple(pair.dropout.split("/"))
    layer = at(model, place)
    if not isinstance(layer, nnx.Dropout):
        raise ValueError(
            f"at {pair.dropout!r} the model has {type(layer).__name__}; the dropouts of Thin are "
            "places of Dropout."
        )
    if not is_static(layer.rate):
        raise ValueError(
            f"the rate at {pair.dropout} is an array; the shape of a sub-network depends on it, so "
            "write a Python number, and run one program a rate."
        )
    return float(layer.rate), place


def _kept(maker: str, width: int, rate: float, block: int) -> int:
    if width % block:
        raise ValueError(f"block = {block} does not divide {width}, the units of {maker}.")
    blocks = width // block
    kept = max(1, round(blocks * (1 - rate))) * block
    if rate > 0 and kept == width:
        smaller = f"write block= with less than {block}" if block > 1 else "write a higher rate"
        raise ValueError(
            f"the {blocks} blocks of {maker} are too few for a rate of {rate}: none would be "
            f"dropped; {smaller}."
        )
    return kept
