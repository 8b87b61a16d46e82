"""Where units pass in and out of the layers of Flax: which axes of which variables they take."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

from flax import nnx

from dropout_jax.train.thin import Pair

Place = tuple[str, ...]


class Port(NamedTuple):
    """One side of a layer: how many numbers pass, and the axes of its variables that they take."""

    place: Place
    size: int
    attribute: str
    """of the layer, that says so"""
    axes: Mapping[str, int]
    """axes from the end, by the variable's name; the first is always there"""
    rank: int
    """axes of the first variable, without those of a stack"""
    row: tuple[int, ...] | None = None
    """the axes behind, where each unit is a row of them; None: all numbers are in this one axis"""


def port_of(model: Any, place: str, side: str) -> Port:
    """The side of a layer that a `Pair` names: of its "makers", "users" or "between".

    Raises:
      ValueError: no such place, or a layer there that is not of a kind that is known.
    """
    names = tuple(place.split("/"))
    layer = at(model, names)
    if side == "between":
        if not isinstance(layer, nnx.BatchNorm):
            raise _unknown(layer, place, "between layers it takes nnx.BatchNorm")
        axes = {"mean": -1, "var": -1, "scale": -1, "bias": -1}
        return Port(names, layer.num_features, "num_features", axes, 1)
    makes = side == "makers"
    attribute = "out_features" if makes else "in_features"
    if isinstance(layer, nnx.LinearGeneral):
        outs, ins = len(layer.out_features), len(layer.in_features)
        axes = {"kernel": -outs, "bias": -outs} if makes else {"kernel": -outs - ins}
        size, *row = getattr(layer, attribute)
        return Port(names, size, attribute, axes, ins + outs, tuple(row))
    if isinstance(layer, nnx.Linear):
        rank = 2
    elif isinstance(layer, nnx.Conv) and layer.feature_group_count == 1:
        rank = 2 + len(layer.kernel_size)
    else:
        raise _unknown(
            layer, place, "it takes nnx.Linear, nnx.LinearGeneral, and nnx.Conv without groups"
        )
    axes = {"kernel": -1, "bias": -1} if makes else {"kernel": -2}
    return Port(names, getattr(layer, attribute), attribute, axes, rank)


def layout_of(model: Any, pair: Pair, ports: Sequence[Port]) -> tuple[int, int]:
    """How many units there are, and how many numbers each is where all are in one axis.

    Raises:
      ValueError: layers that do not make and use the same units.
    """
    rows = [port for port in ports if port.row is not None]
    flat = [port for port in ports if port.row is None]
    said = pair.units
    if isinstance(said, str):
        said = at(model, tuple(said.split("/")))
    elif said is None:
        said = min(port.size for port in rows or flat)
    if not isinstance(said, Integral) or said < 1:
        raise ValueError(f"units of the Pair of {pair.makers[0]} is {said!r}, not a whole number.")
    width = int(said)
    numbers = min((port.size for port in flat), default=width) // width
    for port in ports:
        one = numbers if port.row is None else 1
        if not one or port.size % (width * one):
            raise ValueError(
                f"{'/'.join(port.place)} has {port.attribute} = {port.size}, which is not a "
                f"multiple of {width} units"
                + (f" of {one} numbers" if one > 1 else "")
                + "; the layers of a Pair make and use the same units."
            )
    shapes = sorted({port.row for port in rows if port.row is not None})
    if len(shapes) > 1 or (shapes and flat and numbers % math.prod(shapes[0])):
        raise ValueError(
            f"the layers of the Pair of {pair.makers[0]} have rows of {', '.join(map(str, shapes))}"
            f" and of {numbers} numbers; units are the first axis of an nnx.LinearGeneral."
        )
    return width, numbers


def at(model: Any, place: Place) -> Any:
    """What a model has at a place. Raises ValueError for nothing."""
    for name in place:
        try:
            model = model[int(name)] if name.isdigit() else getattr(model, name)
        except (AttributeError, IndexError, KeyError, TypeError):
            raise ValueError(f"the model has nothing at {'/'.join(place)!r}.") from None
    return model


def _unknown(layer: Any, place: str, kinds: str) -> ValueError:
    name = type(layer).__name__
    return ValueError(f"at {place!r} the model has {name}, which Thin cannot thin; {kinds}.")
