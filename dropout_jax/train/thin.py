"""Thinned training: sub-networks that are really smaller, taken out, trained and put back.

Element-wise dropout computes the whole layer and multiplies part of it by zero. Here a fixed number
of units between layers is drawn for the whole batch and kept for a few steps; their weights and
optimizer state are gathered into small dense arrays, so that a step between two hidden layers costs
keep^2 of the arithmetic.
"""

import dataclasses
from numbers import Integral, Real

from dropout_jax._checks import check_rate


@dataclasses.dataclass(frozen=True)
class Pair:
    r"""Units that some layers make and others use: `Thin(pairs=(Pair("up", "down", rate=0.5),))`.

    $$y = \frac{n}{k} \sum_{i \in S} f_i(x)\, W_i, \qquad S \text{ a uniform subset of } k
      \text{ of the } n \text{ units,}$$
    where f_i is what the makers make of unit i, and W_i the users' weights for it. The units are a
    layer's outputs; a convolution's channels; the heads of attention, `Pair.heads`; or, of two
    layers that are multiplied, as in a gated MLP, both outputs of one place.

    Where a layer makes several units at once, such as queries, keys and values in one matrix, they
    lie one after another: (parts, units, numbers of one unit), and the same in the users' inputs.

    Attributes:
      makers: places of the layers that make the units, such as "blocks/0/up", or several: all of
        `nnx.Linear`, `nnx.LinearGeneral` or `nnx.Conv`. A * stands for any one name: one pair for
        each place that "blocks/*/up" finds, by the same name in all places.
      users: places of the layers that use them, of the same kinds.
      rate: share of the units left out, a Python number in [0, 1]; the users' weights are scaled.
      dropout: in place of a rate, the place of the `Dropout` layer between makers and users, which
        gives way to the factor.
      units: how many units there are, where each is several numbers: a number, or the place of the
        attribute of the model that holds it, which then holds that of the sub-network. Not given:
        one a number, and for `nnx.LinearGeneral` one a row of its first axis of outputs.
      between: places of `nnx.BatchNorm` layers between makers and users.
      block: units that are kept or dropped together, a divisor of their number; not given: Thin's,
        and 1 for units of several numbers.

    Raises:
      ValueError: a rate and a dropout, or neither; a rate outside [0, 1], a block below 1.

    Example:
      >>> import dropout_jax as dj
      >>> from dropout_jax.train import Pair
      >>> hidden = Pair("blocks/*/up", "blocks/*/down", dropout="blocks/*/drop")
      >>> gated = Pair(("mlp/gate", "mlp/up"), "mlp/down", rate=0.5)
      >>> channels = Pair("conv1", "conv2", rate=0.2, between="norm1", block=4)
      >>> thin = dj.Thin(pairs=(hidden, gated, channels, Pair.heads("attention", rate=0.5)))

    Source: as `Thin`.
    """

    makers: str | tuple[str, ...]
    users: str | tuple[str, ...]
    rate: float | None = None
    dropout: str | None = None
    units: str | int | None = None
    between: str | tuple[str, ...] = ()
    block: int | None = None

    def __post_init__(self):
        for name in ("makers", "users", "between"):
            places = getattr(self, name)
            several = places if isinstance(places, (tuple, list)) else (places,)
            if not all(isinstance(place, str) for place in several) or (
                not several and name != "between"
            ):
                raise ValueError(f"Pair({name}={places!r}): write places, such as 'blocks/*/up'.")
            object.__setattr__(self, name, tuple(several))
        if (self.rate is None) == (self.dropout is None):
            raise ValueError(
                "a Pair has a rate, or the place of the dropout that has it: write "
                "Pair(..., rate=0.5) or Pair(..., dropout='drop')."
            )
        if not isinstance(self.dropout, str | None):
            raise ValueError(f"Pair(dropout={self.dropout!r}): write its place, such as 'drop'.")
        if self.rate is not None and not isinstance(self.rate, Real):
            raise ValueError(
                f"Pair(rate={self.rate!r}): the shape of a sub-network depends on it, so write a "
                "Python number, and run one program a rate."
            )
        check_rate(self.rate or 0)
        if self.block is not None:
            _check_count("Pair", "block", self.block)

    @staticmethod
    def heads(attention: str, rate: float) -> "Pair":
        """The heads of an `nnx.MultiHeadAttention`.

        Args:
          attention: its place; it may have a * for each of several.
          rate: share of the heads left out. Where several heads of queries share one of keys and
            values, they are kept or left out together.

        Returns:
          A `Pair`.

        Example:
          >>> from dropout_jax.train import Pair
          >>> Pair.heads("attention", rate=0.5).users
          ('attention/out',)
        """
        makers = tuple(f"{attention}/{name}" for name in ("query", "key", "value"))
        return Pair(makers, f"{attention}/out", rate=rate)


@dataclasses.dataclass(frozen=True)
class Thin:
    """How to thin a model in training: `fit(..., thin=Thin())`.

    Of an `MLP` the hidden units are thinned, at the rates of its own hidden `Dropout` layers; of
    another model the units of each `Pair`, or of a chain of `layers`. A dropout that a pair names
    gives way to the exact factor (units / units kept); the others, such as that of the input, stay
    element-wise. Optimizer steps, weight decay and max-norm act on the sub-network as it stands:
    what is left out does not change at all.

    Attributes:
      steps: updates in the life of a sub-network, >= 1; a life ends with the epoch.
      block: units that are kept or dropped together, >= 1; a divisor of every hidden width.
      layers: places of the `nnx.Linear` layers of a chain, first to last, such as "linears/0".
      dropouts: places of the dropout layers after each hidden one, in the same order.
      pairs: units between any layers of the model.

    Raises:
      TypeError: pairs that are no `Pair`s.
      ValueError: steps or block below 1; layers without dropouts, or the other way round; layers
        and pairs.

    Example:
      >>> import dropout_jax as dj
      >>> thin = dj.Thin(steps=10, block=16)

    Source: one mask a batch and smaller matrices as in Graham et al. 2015 (arXiv:1502.02478); the
    life of several steps, which pays for the moving, is ours.
    """

    steps: int = 10
    block: int = 16
    layers: tuple[str, ...] | None = None
    dropouts: tuple[str, ...] | None = None
    pairs: tuple[Pair, ...] | None = None

    def __post_init__(self):
        for name in ("steps", "block"):
            _check_count("Thin", name, getattr(self, name))
        if (self.layers is None) != (self.dropouts is None):
            raise ValueError("Thin takes layers and dropouts together, or neither for an MLP.")
        if self.pairs is None:
            return
        if self.layers is not None:
            raise ValueError("Thin takes pairs, or layers and dropouts, not both.")
        pairs = (self.pairs,) if isinstance(self.pairs, Pair) else tuple(self.pairs)
        if not pairs or not all(isinstance(pair, Pair) for pair in pairs):
            raise TypeError(f"Thin(pairs={self.pairs!r}): write (Pair('up', 'down', rate=0.5),).")
        object.__setattr__(self, "pairs", pairs)

    def pairs_of(self, model: object) -> tuple[Pair, ...]:
        """The pairs of a model: those given, or those of its chain of linear layers.

        Raises:
          ValueError: no pairs and no layers, and the model is no `MLP`; a wrong number of dropouts.
        """
        if self.pairs is not None:
            return self.pairs
        layers, dropouts = self.layers, self.dropouts
        if layers is None or dropouts is None:
            count = len(getattr(model, "linears", ()))
            if not count:
                raise ValueError(
                    f"{type(model).__name__} is not an MLP: write Thin(layers=('fc1', ...), "
                    "dropouts=('drop1', ...)) with the places of its layers, or "
                    "Thin(pairs=(Pair('up', 'down', rate=0.5), ...))."
                )
            layers = tuple(f"linears/{i}" for i in range(count))
            dropouts = tuple(f"dropouts/{i}" for i in range(1, count))
        if len(dropouts) != len(layers) - 1:
            raise ValueError(
                f"{len(layers)} layers have {len(layers) - 1} dropouts between them, not "
                f"{len(dropouts)}."
            )
        return tuple(
            Pair(maker, user, dropout=dropout)
            for maker, user, dropout in zip(layers[:-1], layers[1:], dropouts, strict=True)
        )


def _check_count(kind: str, name: str, value: object) -> None:
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{kind}({name}={value!r}): write a whole number, 1 or more.")
