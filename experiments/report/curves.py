"""Draw means over seeds: curves with bands, points with bars, and published points in grey."""

from collections.abc import Iterable, Sequence
from typing import Any

from experiments.records import literature
from experiments.records.record import Record
from experiments.records.stats import mean_and_stderr
from experiments.report import style


def means_and_stderrs(values: Iterable[Sequence[float]]) -> tuple[list[float], list[float]]:
    """Means over seeds and their standard errors; 0 for a single seed, which has no bar."""
    pairs = [mean_and_stderr(v) for v in values]
    return [mean for mean, _ in pairs], [stderr or 0.0 for _, stderr in pairs]


def curve(axis: Any, x: Sequence[float], r: Record, metric: str, **options: Any) -> None:
    """The mean of a metric over seeds, by evaluation, in a band of one standard error each side.

    Args:
      axis: of matplotlib.
      x: where each evaluation stands.
      r: the run; `by_epoch` holds the metric.
      metric: its name.
      options: of `axis.plot`, `color` among them.
    """
    mean, stderr = means_and_stderrs(zip(*r.by_epoch[metric], strict=True))
    axis.plot(x, mean, **options)
    low = [m - s for m, s in zip(mean, stderr, strict=True)]
    high = [m + s for m, s in zip(mean, stderr, strict=True)]
    axis.fill_between(x, low, high, color=options["color"], alpha=0.2, lw=0)


def points(
    axis: Any, x: Sequence[float], records: Sequence[Record], metric: str, **options
) -> None:
    """A point a record, with a bar of one standard error to each side."""
    mean, stderr = means_and_stderrs(r.final[metric] for r in records)
    axis.errorbar(x, mean, stderr, **{"ms": 4, "capsize": 2} | options)


def published(axis: Any, name: str, **options: Any) -> None:
    """The points of a published curve in grey, with its bars where it has any."""
    x, error, spread = zip(*literature.CURVES[name].points, strict=True)
    usual = {"fmt": "s:", "ms": 3.5, "lw": 1, "capsize": 2, "zorder": 1}
    bars = [s or 0 for s in spread]
    axis.errorbar(x, error, bars, **usual | {"color": style.PUBLISHED} | options)
