"""The history of a training run: a mapping from metrics to their values by epoch, with a plot."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dropout_jax._lazy import package


@dataclasses.dataclass(frozen=True)
class History(Mapping[str, np.ndarray]):
    """Metrics by evaluation: `history["val_error"]` is (evaluations,) or (evaluations, runs).

    Attributes:
      epochs: the epoch after which each row was taken, counted from 1.
      metrics: name -> values; "loss" is the mean training loss of the epoch, noise included.
      seconds: wall-clock of each row's training, without the evaluation.

    Example:
      >>> import dropout_jax as dj, numpy as np
      >>> metrics = {"loss": np.array([0.7, 0.4])}
      >>> history = dj.History(np.array([1, 2]), metrics, np.array([1.0, 1.0]))
      >>> float(history["loss"][-1])
      0.4
      >>> list(history)
      ['loss']
    """

    epochs: np.ndarray
    metrics: dict[str, np.ndarray]
    seconds: np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.metrics:
            raise KeyError(f"{name!r} was not measured; there are {', '.join(self.metrics)}.")
        return self.metrics[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    def plot(self, *names: str, ax: Any = None) -> Any:
        """Draw metrics by epoch.

        Args:
          names: which of them; by default all that are numbers.
          ax: matplotlib's axes to draw on; by default new ones.

        Returns:
          The axes.

        Example:
          >>> import dropout_jax as dj, numpy as np
          >>> metrics = {"loss": np.array([0.7, 0.4]), "val_loss": np.array([0.8, 0.5])}
          >>> history = dj.History(np.array([1, 2]), metrics, np.array([1.0, 1.0]))
          >>> len(history.plot().lines)
          2
        """
        if ax is None:
            ax = package("matplotlib.pyplot", "History.plot").subplots()[1]
        for name in names or [n for n in self if self[n].ndim <= 2]:
            lines = ax.plot(self.epochs, self[name])
            lines[0].set_label(name)
        ax.set_xlabel("epoch")
        ax.legend()
        return ax


def history_of(rows: list[dict[str, Any]]) -> History:
    """The history of a run's rows; NaN where it was asked for other metrics than before."""
    names = dict.fromkeys(name for row in rows for name in row["metrics"])

    def values(name):
        like = next(row["metrics"][name] for row in rows if name in row["metrics"])
        return [row["metrics"].get(name, np.full(np.shape(like), np.nan)) for row in rows]

    return History(
        np.array([row["epoch"] for row in rows]),
        {name: np.array(values(name), np.float32) for name in names},
        np.array([row["seconds"] for row in rows]),
    )
