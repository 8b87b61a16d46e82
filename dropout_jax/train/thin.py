"""Thinned training: sub-networks that are really smaller, taken out, trained and put back.

Element-wise dropout computes the whole layer and multiplies part of it by zero. Here a fixed number
of units of each hidden layer is drawn for the whole batch and kept for a few steps; their weights
and optimizer state are gathered into small dense arrays, so that a step between two hidden layers
costs keep^2 of the arithmetic.
"""

import dataclasses
from numbers import Integral
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dropout_jax._checks import check_key, is_static
from dropout_jax.typing import Array, Key


@dataclasses.dataclass(frozen=True)
class Thin:
    """How to thin a chain of `Linear` layers in training: `fit(..., thin=Thin())`.

    The rates are those of the model's own hidden `Dropout` layers, which give way to the exact
    factor (units / units kept); dropout on the input stays element-wise. Optimizer steps, weight
    decay and max-norm act on the sub-network as it stands: what is left out does not change at all.

    Attributes:
      steps: updates in the life of a sub-network, >= 1; a life ends with the epoch.
      block: units that are kept or dropped together, >= 1; a divisor of every hidden width.
      layers: places of the linear layers in the model, first to last, such as "linears/0"; those of
        an `MLP` are known.
      dropouts: places of the dropout layers after each hidden one, in the same order.

    Raises:
      ValueError: steps or block below 1; layers without dropouts, or the other way round.

    Example:
      >>> import dropout_jax as dj
      >>> dj.Thin(steps=10, block=16)
      Thin(steps=10, block=16, layers=None, dropouts=None)

    Source: one mask a batch and smaller matrices as in Graham et al. 2015 (arXiv:1502.02478); the
    life of several steps, which pays for the moving, is ours.
    """

    steps: int = 10
    block: int = 16
    layers: tuple[str, ...] | None = None
    dropouts: tuple[str, ...] | None = None

    def __post_init__(self):
        for name in ("steps", "block"):
            if not isinstance(value := getattr(self, name), Integral) or value < 1:
                raise ValueError(f"Thin({name}={value!r}): write a whole number, 1 or more.")
        if (self.layers is None) != (self.dropouts is None):
            raise ValueError("Thin takes layers and dropouts together, or neither for an MLP.")


class Hidden(NamedTuple):
    """A hidden layer: where its dropout is, how wide it is, how many units stay, in what blocks."""

    dropout: tuple[str, ...]
    width: int
    kept: int
    block: int


class Chain(NamedTuple):
    """Linear layers in a row, by their place in the parameters, and the hidden layers between."""

    layers: tuple[tuple[str, ...], ...]
    hidden: tuple[Hidden, ...]
    others: tuple[tuple[str, ...], ...] = ()
    """places of parameters that end as one of the chain's does, deeper in the model"""


Units = tuple[Array, ...]
"""The indices of the units kept, ascending, one array a hidden layer."""


def chain_of(model: Any, thin: Thin) -> Chain:
    """Read widths and rates off a model.

    Args:
      model: an NNX model whose places in `thin` are `nnx.Linear` and `Dropout` layers; an `MLP`
        needs none.
      thin: what to thin.

    Returns:
      A `Chain`. Each hidden layer keeps round(width (1 - rate) / block) blocks, at least one.

    Raises:
      TypeError: a `thin` that is no `Thin`.
      ValueError: a block that does not divide a width, or that is too large to drop any at the
        rate; a rate that is traced; no such place, or another layer there.
    """
    if not isinstance(thin, Thin):
        raise TypeError(f"thin is {thin!r}; write Thin(), or Thin(steps=..., block=...).")
    layers, dropouts = thin.layers, thin.dropouts
    if layers is None or dropouts is None:
        count = len(getattr(model, "linears", ()))
        if not count:
            raise ValueError(
                f"{type(model).__name__} is not an MLP: write Thin(layers=('fc1', ...), "
                "dropouts=('drop1', ...)) with the places of its layers."
            )
        layers = tuple(f"linears/{i}" for i in range(count))
        dropouts = tuple(f"dropouts/{i}" for i in range(1, count))
    if len(dropouts) != len(layers) - 1:
        raise ValueError(
            f"{len(layers)} layers have {len(layers) - 1} dropouts between them, not "
            f"{len(dropouts)}."
        )
    layers, dropouts = (
        tuple(tuple(place.split("/")) for place in places) for places in (layers, dropouts)
    )
    linears = [_at(model, layer, nnx.Linear) for layer in layers]
    hidden = []
    for layer, linear, place in zip(layers[:-1], linears[:-1], dropouts, strict=True):
        width, rate = linear.out_features, _at(model, place, nnx.Dropout).rate
        if not is_static(rate):
            raise ValueError(
                f"the rate at {'/'.join(place)} is an array; the shape of a sub-network depends on "
                "it, so write a Python number, and run one program a rate."
            )
        if width % thin.block:
            raise ValueError(
                f"block = {thin.block} does not divide {width}, the width of {'/'.join(layer)}."
            )
        blocks = width // thin.block
        kept = max(1, round(blocks * (1 - rate))) * thin.block
        if rate > 0 and kept == width:
            raise ValueError(
                f"the {blocks} blocks of {'/'.join(layer)} are too few for a rate of {rate}: none "
                f"would be dropped; write Thin(block=...) with less than {thin.block}."
            )
        hidden.append(Hidden(place, width, kept, thin.block))
    own = {(*layer, name) for layer in layers for name in ("kernel", "bias")}
    places = (tuple(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param)))
    others = tuple(p for p in places if any(p[-len(o) :] == o and p != o for o in own))
    return Chain(layers, tuple(hidden), others)


def _at(model: Any, place: tuple[str, ...], kind: type = object) -> Any:
    for name in place:
        try:
            model = model[int(name)] if name.isdigit() else getattr(model, name)
        except (AttributeError, IndexError, KeyError, TypeError):
            raise ValueError(f"the model has nothing at {'/'.join(place)!r}.") from None
    if not isinstance(model, kind):
        raise ValueError(
            f"at {'/'.join(place)!r} the model has {type(model).__name__}; the layers of Thin are "
            "places of nnx.Linear, and its dropouts of Dropout."
        )
    return model


def draw(key: Key, chain: Chain) -> Units:
    r"""A sub-network: a subset of exactly `kept` units of each hidden layer, uniform among those.

    $$P(\text{unit kept}) = \text{kept} / \text{width}.$$

    Args:
      key: a typed key.
      chain: from `chain_of`.

    Returns:
      Ascending indices, (kept,) int32 a hidden layer.

    Raises:
      TypeError: `key` is not a typed key.

    Source: Graham et al. 2015 (arXiv:1502.02478) for one mask a batch.
    """
    key = check_key(key)
    units = []
    for i, (_, width, kept, block) in enumerate(chain.hidden):
        order = jax.random.permutation(jax.random.fold_in(key, i), width // block)
        first = jnp.sort(order[: kept // block])[:, None] * block
        units.append((first + jnp.arange(block)[None, :]).reshape(-1))
    return tuple(units)


class Scaling(nnx.Module):
    """What a hidden dropout is inside a sub-network: the factor width / kept."""

    def __init__(self, factor: float):
        self.factor = factor

    def __call__(self, x: Array, **_: Any) -> Array:
        return x * self.factor


def scale_instead(model: nnx.Module, chain: Chain) -> None:
    """Swap the hidden dropouts of a model, in place, for the factor that keeps the mean."""
    for hidden in chain.hidden:
        parent, name = _at(model, hidden.dropout[:-1]), hidden.dropout[-1]
        scaling = Scaling(hidden.width / hidden.kept)
        if name.isdigit():
            parent[int(name)] = scaling
        else:
            setattr(parent, name, scaling)
