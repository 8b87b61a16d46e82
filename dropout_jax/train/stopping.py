"""Early stopping: keep the weights of the best epoch, and stop when it is long ago."""

import dataclasses
import math
from numbers import Integral
from typing import Any

import jax

from dropout_jax.train.named import rises
from dropout_jax.train.state import State

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Best:
    """Which epoch counts as the best, read from the rows of metrics, so that it can be resumed.

    Attributes:
      name: of the metric, such as "val_loss".
      rising: more is better.
      patience: evaluations without a better one before a run stops; None for no end.
    """

    name: str
    rising: bool
    patience: int | None = None

    def is_new(self, rows: list[Row]) -> bool:
        """Whether the last row is the best so far."""
        return bool(rows) and self._best(rows) == len(rows) - 1

    def is_over(self, rows: list[Row]) -> bool:
        """Whether the best row is `patience` rows ago."""
        if self.patience is None or not rows:
            return False
        return len(rows) - 1 - self._best(rows) >= self.patience

    def _best(self, rows: list[Row]) -> int:
        """The place of the best row; the first of equals, and NaN is never better."""
        values = [self._value(row) for row in rows]
        values = [-math.inf if math.isnan(v) else v if self.rising else -v for v in values]
        return values.index(max(values))

    def _value(self, row: Row) -> float:
        if self.name not in row["metrics"]:
            raise ValueError(
                f"keep_best is {self.name!r}, which is not measured; write one of "
                f"{', '.join(row['metrics'])}."
            )
        return row["metrics"][self.name]


def best_of(keep_best: str | tuple[str, str] | None, patience: int | None) -> Best | None:
    """What `fit` was told as keep_best and patience.

    Raises:
      TypeError, ValueError: what is neither a name nor a name with "min" or "max"; a patience below
        1, or without keep_best.
    """
    if patience is not None and (not isinstance(patience, Integral) or patience < 1):
        raise ValueError(f"patience is {patience!r}; write a whole number of epochs, such as 5.")
    if keep_best is None:
        if patience is not None:
            raise ValueError('patience is given without keep_best; write keep_best="val_loss".')
        return None
    if isinstance(keep_best, str):
        return Best(keep_best, rises(keep_best), patience)
    if isinstance(keep_best, tuple) and len(keep_best) == 2 and keep_best[1] in ("min", "max"):
        return Best(keep_best[0], keep_best[1] == "max", patience)
    raise TypeError(
        f'keep_best is {keep_best!r}; write the name of a metric, such as "val_loss", or '
        '("val_score", "max").'
    )


def kept(state: State) -> State:
    """The state, with its own weights as the best."""
    copy = jax.tree.map(lambda leaf: leaf, (state.params, state.rest))
    return dataclasses.replace(state, best=copy)
