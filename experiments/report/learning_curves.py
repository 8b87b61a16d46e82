"""Learning curves: test and training error by epoch, with dropout and without."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.records.config import dropout_rates
from experiments.records.record import Record
from experiments.records.stats import mean_and_stderr
from experiments.report import style
from experiments.report.columns import newest, seeds
from experiments.report.curves import curve
from experiments.report.dropout_arms import network, rates, sum_of_rates, without_rates

LINES = {"test_error": "-", "train_error": "--"}


def with_curves(experiment: str, results: Path) -> list[Record]:
    """The newest records of an experiment that hold both curves."""
    return [r for r in newest(results, experiment) if LINES.keys() <= r.by_epoch.keys()]


def draw(figure: Any, records: Sequence[Record]) -> None:
    """A panel for each set of runs that differ in their dropout rates alone."""
    panels: dict[str, list[Record]] = {}
    for r in records:
        panels.setdefault(str(without_rates(r)), []).append(r)
    figure.set_size_inches(5.5 * len(panels), 3.8)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels.values(), strict=True):
        panel.sort(key=sum_of_rates)
        with_dropout = iter((style.DROPOUT, *style.MORE * len(panel)))
        for r in panel:
            draw_run(axis, r, next(with_dropout) if dropout_rates(r) else style.NO_DROPOUT)
        # The first epochs would flatten what matters; 0 is a possible training error, so no log.
        errors = [mean_and_stderr(r.final["test_error"])[0] for r in panel]
        top = 2.5 * max(filter(math.isfinite, errors), default=0)
        about = f"{data_of(panel[0])}, {network(panel[0])} hidden units, {seeds(panel[0])} seeds"
        axis.set(title=f"{about} (band: ± 1 s.e.)", xlabel="epoch", ylabel="error %")
        axis.set_ylim(0, top or None)
        axis.legend()


def draw_run(axis: Any, r: Record, colour: str) -> None:
    """The two curves of a run: test solid, training dashed."""
    dropout = f"dropout {rates(r)}" if dropout_rates(r) else "no dropout"
    for metric, line in LINES.items():
        label = f"{metric.removesuffix('_error')}, {dropout}"
        epochs = range(1, len(r.by_epoch[metric][0]) + 1)
        curve(axis, epochs, r, metric, ls=line, color=colour, label=label)


def data_of(r: Record) -> str:
    """The data set of a run, as a title calls it."""
    names = [name for name in r.provenance["data_sha256"] or () if name in style.DATA]
    return style.DATA[names[0]] if names else r.experiment
