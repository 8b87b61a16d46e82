"""Figure 4: six nets with dropout and without, the test error by updates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.records import literature
from experiments.records.record import Record
from experiments.records.stats import mean_and_stderr
from experiments.report import style
from experiments.report.curves import curve
from experiments.report.mlp_rows import mlp_table, reported_runs

PICTURE, SIZE = "figure_4.png", (9.5, 4.8)
LINES = {2: "-", 3: "--", 4: ":"}  # by the number of hidden layers


def table(results: Path) -> str:
    rows = {
        f"{arm}_{layers}x{width}": None
        for width in (1024, 2048)
        for layers in (2, 3, 4)
        for arm in ("dropout", "standard")
    }
    ends = [literature.PUBLISHED[f"figure4/{arm}/{end}"].value
            for arm in ("dropout", "standard") for end in ("lowest", "highest")]  # fmt: skip
    note = (
        "Published: Figure 4, six nets of 1024 and 2048 units, {:.2f} to {:.2f} % with dropout and "
        "{:.2f} to {:.2f} % without after 990 000 updates; they are not told apart there."
    )
    return mlp_table(results, "architectures_figure4", rows, note.format(*ends))


def records(results: Path) -> list[Record]:
    return reported_runs(results, "architectures_figure4")


def draw(figure: Any, records: Sequence[Record]) -> None:
    """A panel a width; in grey the range of the paper's six nets."""
    last = max(r.extra["updates"] for r in records)
    top = max(2.7, 1.5 * max(mean_and_stderr(r.final["test_error"])[0] for r in records))
    widths = sorted({r.config["hidden"][0] for r in records})
    axes = figure.subplots(1, len(widths), sharey=True, squeeze=False)[0]
    for axis, width in zip(axes, widths, strict=True):
        draw_published_range(axis, last)
        found = [r for r in records if r.config["hidden"][0] == width]
        for r in sorted(found, key=lambda r: r.config["row"]):
            arm, layers = r.config["row"].split("_")[0], len(r.config["hidden"])
            label = f"{style.NAMES[arm]}, {layers} layers"
            options = {"color": style.ARMS[arm], "ls": LINES[layers], "lw": 1.1, "label": label}
            curve(axis, r.extra["evaluated_at"], r, "test_error", **options)
        axis.set(title=f"layers of {width} units", xlabel="updates", ylim=(0.8, top))
    axes[0].set_ylabel("test error %")
    handles = {}
    for axis in axes:
        found, labels = axis.get_legend_handles_labels()
        handles |= zip(labels, found, strict=True)
    order = sorted(handles, key=lambda label: (label.startswith("paper"), label))
    figure.legend([handles[label] for label in order], order, loc="outside lower center", ncols=4)
    figure.suptitle("MNIST: dropout and no dropout, whatever the architecture (band: ± 1 s.e.)")


def draw_published_range(axis: Any, last: int) -> None:
    """The range of the paper's six nets, up to so many updates."""
    at = [10_000 * i for i in range(1, last // 10_000 + 1)]
    for arm, line in (("dropout", "-"), ("standard", ":")):
        found = [literature.figure_4_range(arm == "dropout", n)[1:] for n in at]
        low, high = [a for a, _ in found], [b for _, b in found]
        label = f"paper's six nets, {style.NAMES[arm]}"
        if len(at) < 10:  # a band of a point or two hardly shows
            axis.vlines(at, low, high, color=style.PUBLISHED, lw=3, ls=line, label=label)
        else:
            hatch = None if arm == "dropout" else "///"
            axis.fill_between(at, low, high, color=style.PUBLISHED, alpha=0.35, lw=0, hatch=hatch,
                              label=label)  # fmt: skip
