"""Figures 7 and 8: the filters and the activities of an autoencoder's hidden units."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.records import literature
from experiments.records.record import Record
from experiments.report import style
from experiments.report.columns import RUN, final, tabulate
from experiments.report.markdown import NOT_RUN
from experiments.report.mlp_rows import Row, reported_runs, updates

PICTURE, SIZE = "figures_7_8.png", (8, 8)
HISTOGRAMS = {"unit_means": "mean activity of a unit", "activities": "activity"}


def table(results: Path) -> str:
    found = records(results)
    if not found:
        return NOT_RUN
    rows = []
    for arm in ("standard", "dropout"):
        runs = [r for r in found if r.config["row"] == arm]
        rows += [Row(arm, None, r) for r in runs or [None]]

    def of_run(cell, missing="–"):
        return lambda row: cell(row.run) if row.run else missing

    columns = {
        "arm": lambda row: row.name,
        "mean activity, published": lambda row: f"{_published(row.name):.1f}",
        "ours": of_run(final("mean_activity"), "not run"),
        "activities that are 0, %": of_run(final("zero_percent")),
        "squared error of a test image": of_run(final("test_reconstruction")),
        "updates": of_run(updates),
        **{title: of_run(cell) for title, cell in RUN.items()},
    }
    note = (
        "Published: Figure 8, read in the text as about so much. The authors' code multiplies test "
        "activities by keep, so that the 0.7 may hold a factor of 0.5 that ours does not."
    )
    return f"{tabulate(rows, columns)}\n\n{note}"


def _published(arm):
    return literature.PUBLISHED[f"figure8/{arm}"].value


def records(results: Path) -> list[Record]:
    return reported_runs(results, "features_figures7_8")


def draw(figure: Any, records: Sequence[Record]) -> None:
    """Filters of each arm; counts of units by mean activity, and of activities."""
    ratios = (2, 1, 1)
    axes = figure.subplots(3, len(records), squeeze=False, sharex="row", height_ratios=ratios)
    axes[1][0].sharey(axes[1][-1]), axes[2][0].sharey(axes[2][-1])
    for column, r in zip(axes.T, sorted(records, key=lambda r: r.config["row"]), strict=True):
        arm = r.config["row"]
        column[0].imshow(mosaic(r.extra["filters"]), cmap="gray", vmin=-127, vmax=127)
        column[0].set_axis_off()
        column[0].set_title(f"{style.NAMES[arm]}, {updates(r)} updates")
        for axis, (name, title) in zip(column[1:], HISTOGRAMS.items(), strict=True):
            axis.stairs(r.extra[name], r.extra[f"{name}_edges"], fill=True, color=style.ARMS[arm])
            axis.set(xlabel=title, xlim=(0, max(largest(r, name) for r in records)))
    axes[1][0].set_ylabel("units")
    axes[2][0].set_ylabel("activities")
    figure.suptitle("MNIST: filters and activities of an autoencoder, 784-256-784")


def largest(r: Record, name: str) -> float:
    """Where the last bin of a histogram ends that is not empty."""
    filled = [i for i, count in enumerate(r.extra[name]) if count]
    return r.extra[f"{name}_edges"][filled[-1] + 1]


def mosaic(filters: str) -> Any:
    """Filters, as the experiment packs them, side by side in a square, a pixel apart."""
    import numpy as np  # only where a picture is drawn: tables are made without it

    flat = np.frombuffer(base64.b64decode(filters), np.int8)
    count = next(n for n in (64, 32, 16, 1) if flat.size % n == 0 and is_square(flat.size // n))
    side = round((flat.size // count) ** 0.5)
    images = np.pad(flat.reshape(count, side, side), ((0, 0), (0, 1), (0, 1)))
    columns = round(count**0.5)
    rows = [np.hstack(images[i : i + columns]) for i in range(0, count - columns + 1, columns)]
    return np.vstack(rows)


def is_square(n: int) -> bool:
    return round(n**0.5) ** 2 == n
