"""Figure 9: the error against the rate, with n units a layer, and with n kept on average."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.records.record import Record
from experiments.records.stats import mean_and_stderr
from experiments.report import style
from experiments.report.curves import points, published
from experiments.report.mlp_nets import by_budget
from experiments.report.mlp_rows import PAPER_BARS, curve_points, mlp_table, reported_runs

PICTURE, SIZE = "figure_9.png", (10, 4.6)
PANELS = {  # row -> published curve, title, the paper's nets
    "n_fixed": ("figure9a", "n fixed: units of a layer", "2048-2048-2048"),
    "pn_fixed": ("figure9b", "pn fixed: units kept on average", "pn = 256-256-512"),
}
LINES = {"test_error": ("o-", "full"), "train_error": ("o--", "none")}
TOP = 7.0  # error % of the axis, so that its middle can be read


def table(results: Path) -> str:
    rows = {
        f"{panel}_{rate:g}": number
        for panel, (curve, *_) in PANELS.items()
        for rate, number in sorted(curve_points(f"{curve}/test").items())
    }
    return mlp_table(results, "rate_figure9", rows, f"Published: Figure 9. {PAPER_BARS}")


def records(results: Path) -> list[Record]:
    return reported_runs(results, "rate_figure9")


def draw(figure: Any, records: Sequence[Record]) -> None:
    """Two panels; what is over TOP is a number."""
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (panel, (curve, title, theirs)) in zip(axes, PANELS.items(), strict=True):
        published(axis, f"{curve}/test", label=f"paper, test ({theirs})")
        for label, group in by_budget(r for r in records if r.config["row"].startswith(panel)):
            group.sort(key=lambda r: r.config["rate"])
            rates = [r.config["rate"] for r in group]
            for metric, (line, fill) in LINES.items():
                points(axis, rates, group, metric, fmt=line, color=style.DROPOUT, fillstyle=fill,
                       label=f"ours, {metric.removesuffix('_error')} ({label})")  # fmt: skip
            for r in group:
                error = mean_and_stderr(r.final["test_error"])[0]
                if error > TOP:  # above the axis, where no curve runs
                    at = (r.config["rate"], 1.0)
                    axis.annotate(f"{error:.0f} %", at, xycoords=("data", "axes fraction"),
                                  ha="center", va="bottom", color=style.DROPOUT)  # fmt: skip
        axis.set_title(title, pad=16)
        axis.set(xlabel="rate of the hidden layers")
        axis.set_ylim(0, min(TOP, axis.get_ylim()[1]))
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16))
    axes[0].set_ylabel("error %")
    figure.suptitle("MNIST: the error by the rate (our bars: ± 1 s.e.)")
