"""Learning curves drawn from records; a figure carries the digest of what it was drawn from."""

import hashlib
import math
from pathlib import Path

from matplotlib.figure import Figure  # without pyplot: it needs no screen and keeps nothing

from experiments.records import record, stats
from experiments.records.config import dropout_rates
from experiments.report import tables

SOURCE = "Source-SHA256"
METRICS = {"test_error": "-", "train_error": "--"}


def learning_curves(records: list[record.Record], path: Path) -> None:
    """Error by epoch, a panel for each set of runs that differ in their dropout rates alone.

    Lines are means over seeds, bands one standard error to each side; test solid, train dashed.
    """
    panels: dict[str, list[record.Record]] = {}
    for r in records:
        panels.setdefault(str(tables.alike(r)), []).append(r)
    figure = Figure(figsize=(5.5 * len(panels), 3.8), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels.values(), strict=True):
        panel.sort(key=lambda r: sum(dropout_rates(r).values()))
        for i, r in enumerate(panel):
            draw(axis, r, f"C{i}")
        # The first epochs would flatten what matters; 0 is a possible training error, so no log.
        errors = [stats.mean_and_stderr(r.final["test_error"])[0] for r in panel]
        top = 2.5 * max(filter(math.isfinite, errors), default=0)
        seeds = len(next(iter(panel[0].final.values())))
        axis.set_title(f"{tables.network(panel[0])}, {seeds} seeds (band: ± 1 s.e.)")
        axis.set(xlabel="epoch", ylabel="error %", ylim=(0, top or None))
        axis.legend(frameon=False)
    save(figure, path, [r.path for r in records])


def with_curves(experiment: str, results: Path) -> list[record.Record]:
    """The newest records of an experiment that hold the curves."""
    records = record.newest(record.read_all(experiment, results))
    return [r for r in records if METRICS.keys() <= r.by_epoch.keys()]


def save(figure: Figure, path: Path, files: list[Path]) -> None:
    """Write the picture, with the digest of the files that it was drawn from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={SOURCE: digest(files), "Software": None})


def draw(axis, r: record.Record, colour: str) -> None:
    rates = ", ".join(f"{k} {v:g}" for k, v in dropout_rates(r).items())
    dropout = f"dropout {rates}" if rates else "no dropout"
    for metric, style in METRICS.items():
        by_epoch = zip(*r.by_epoch[metric], strict=True)  # one tuple of seeds an epoch
        mean, stderr = zip(*map(stats.mean_and_stderr, by_epoch), strict=True)
        epochs = range(1, len(mean) + 1)
        label = f"{metric.removesuffix('_error')}, {dropout}"
        axis.plot(epochs, mean, style, color=colour, label=label)
        if None not in stderr:
            low = [m - s for m, s in zip(mean, stderr, strict=True)]
            high = [m + s for m, s in zip(mean, stderr, strict=True)]
            axis.fill_between(epochs, low, high, color=colour, alpha=0.3, lw=0)


def digest(files: list[Path]) -> str:
    """SHA-256 of the names and contents of files, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()
