"""A curve learned from points on two sides of a gap: its mean and epistemic deviation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.records import record
from experiments.records.record import Record
from experiments.report import style

PICTURE, SIZE = "calibration_curve.png", (9.5, 3.4)
PANELS = {
    "dropout": ("dropout of 0.05", style.DROPOUT),
    "concrete": ("concrete dropout", style.MORE[0]),
}


def records(results: Path) -> list[Record]:
    """The run of each way of training; none while one is missing."""
    runs = record.newest(record.read_all("calibration", results))
    by_method = {r.config["method"]: r for r in runs if r.config["task"] == "curve"}
    return [by_method[m] for m in PANELS] if set(PANELS) <= set(by_method) else []


def draw(figure: Any, runs: Sequence[Record]) -> None:
    """The first seed of each: the points, the mean, and two deviations to each side."""
    axes = figure.subplots(1, 2, sharey=True)
    for axis, r in zip(axes, runs, strict=True):
        name, colour = PANELS[r.config["method"]]
        grid = r.extra["grid"]
        (mean, *_), (deviation, *_) = (r.extra["curves"][c] for c in ("mean", "epistemic"))
        low = [m - 2 * s for m, s in zip(mean, deviation, strict=True)]
        high = [m + 2 * s for m, s in zip(mean, deviation, strict=True)]
        axis.fill_between(grid, low, high, color=colour, alpha=0.2, lw=0, label="± 2 epistemic sd")
        axis.plot(grid, mean, color=colour, label="mean of the sub-networks")
        axis.plot(r.extra["x"], r.extra["y"], "k.", ms=3, label="data")
        axis.set(title=name, xlabel="x", ylim=(-4, 4))
    axes[0].legend()
