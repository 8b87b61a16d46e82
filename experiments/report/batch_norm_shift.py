"""Dropout before and after batch normalisation, with the statistics of training and without it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.records.record import Record
from experiments.records.stats import difference
from experiments.report import style
from experiments.report.columns import RUN, final, newest, tabulate
from experiments.report.curves import points
from experiments.report.markdown import NOT_RUN

PICTURE, SIZE = "batch_norm_shift.png", (8, 3.4)
PLACES = {
    "before": "dropout before normalisation",
    "after": "dropout after the last normalisation",
}
STATISTICS = {
    "test_loss": ("statistics of training", style.MORE[1]),
    "recalibrated_test_loss": ("re-estimated without noise", style.MORE[0]),
}


def table(results: Path) -> str:
    """A line a place and rate."""
    runs = records(results)
    columns = {
        "dropout": lambda r: PLACES.get(r.config["place"], "none"),
        "rate": lambda r: f"{r.config['rate']:g}",
        "variance of training / clean": final("variance_ratio"),
        "test error %": final("test_error"),
        "re-estimated": final("recalibrated_test_error"),
        "gain": gain,
        "test loss": final("test_loss", 4),
        "loss re-estimated": final("recalibrated_test_loss", 4),
        **RUN,
    }
    return tabulate(runs, columns) if runs else NOT_RUN


def gain(r: Record) -> str:
    """How much lower the error of the same networks is with the new statistics."""
    pair = (r.final[name] for name in ("test_error", "recalibrated_test_error"))
    return difference(*pair, paired=True).signed()


def records(results: Path) -> list[Record]:
    """The newest runs: none, before, after, by rate."""
    order = ["none", *PLACES]
    found = newest(results, "batch_norm_shift", "variance_ratio")
    return sorted(found, key=lambda r: (order.index(r.config["place"]), r.config["rate"]))


def draw(figure: Any, runs: Sequence[Record]) -> None:
    """The test loss against the rate, a panel a place."""
    for axis, (place, title) in zip(
        figure.subplots(1, 2, sharey=True), PLACES.items(), strict=True
    ):
        shown = [r for r in runs if r.config["place"] in ("none", place)]
        rates = [r.config["rate"] for r in shown]
        for metric, (name, colour) in STATISTICS.items():
            points(axis, rates, shown, metric, fmt="o-", color=colour, label=name)
        axis.set(title=title, xlabel="dropout rate")
    figure.axes[0].set_ylabel("test loss")
    figure.axes[0].legend()
