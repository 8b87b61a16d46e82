"""Figure 10: what dropout does to the test error where training images are few, and many."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.records.record import Record
from experiments.records.stats import difference
from experiments.report import style
from experiments.report.curves import points, published
from experiments.report.mlp_nets import by_budget
from experiments.report.mlp_rows import (
    PAPER_BARS,
    curve_points,
    mlp_table,
    network,
    reported_runs,
    updates,
)
from experiments.report.mlp_settings import how_trained

PICTURE, SIZE = "figure_10.png", (10, 5)
ARMS = ("dropout", "standard")
CASES = {100: "100", 500: "500", 1000: "1k", 5000: "5k", 10_000: "10k", 50_000: "50k"}
ERRORS_SHOWN = (1, 2, 5, 10, 20, 50, 100)
RAMPS = {"deepnet_dropout": "in a line", "deepnet_exp_dropout": "exponentially"}


def table(results: Path) -> str:
    curves = {arm: curve_points(f"figure10/{arm}") for arm in ARMS}
    rows = {f"{arm}_{cases}": curves[arm][cases] for cases in curves[ARMS[0]] for arm in ARMS}
    note = f"Published: Figure 10. {PAPER_BARS}"
    found = mlp_table(results, "dataset_size_figure10", rows, note)
    return "\n\n".join([found, *deepnet_comparisons(records(results))])


def records(results: Path) -> list[Record]:
    return reported_runs(results, "dataset_size_figure10")


def deepnet_comparisons(records: Sequence[Record]) -> list[str]:
    """Dropout with the authors' settings beside our nets without it, on the draws that both had."""
    longest, sentences = {r.config["row"]: r for r in records}, []
    for r in records:
        row, cases = r.config["row"], r.config["training_cases"]
        standard = longest.get(f"standard_{cases}")
        if not row.startswith("deepnet") or "dropout" not in row or standard is None:
            continue
        ours, theirs = r.final["test_error"], standard.final["test_error"]
        draws = min(len(ours), len(theirs))
        change = difference(ours[:draws], theirs[:draws], paired=True)
        sentences.append(
            f"{', '.join([row, network(r), *how_trained(r)])}, {updates(r)} updates: "
            f"{change.points()} than {standard.config['row']} ({network(standard)}, "
            f"{updates(standard)} updates), over {draws} draws of both."
        )
    return ["  \n".join(sentences)] if sentences else []


def draw(figure: Any, records: Sequence[Record]) -> None:
    """Both arms with our settings, and dropout with deepnet's; the paper's points in both panels.

    Runs that are shorter than their budget's are left to the table.
    """
    full = min((r.config["updates"] for r in records if r.config["budget"] != "own"), default=0)
    records = [r for r in records if r.config["updates"] >= full]
    axes = figure.subplots(1, 2, sharey=True)
    for axis in axes:
        for arm, marker in zip(ARMS, ("s:", "^:"), strict=True):
            label = f"paper, {style.NAMES[arm]} (1024-1024-2048)"
            published(axis, f"figure10/{arm}", fmt=marker, label=label)
    for arm in ARMS:
        groups = by_budget(r for r in records if r.config["row"].startswith(arm))
        for (label, group), line in zip(groups, ("o-", "D--", "v-.", "P--"), strict=False):
            draw_group(axes[0], group, line, style.ARMS[arm], f"{style.NAMES[arm]} ({label})")
    for (name, ramp), colour in zip(RAMPS.items(), style.MORE, strict=False):
        groups = by_budget(r for r in records if r.config["row"].startswith(f"{name}_"))
        for (_, group), marker in zip(groups, "ov^DP", strict=False):
            hidden = "-".join(map(str, group[0].config["hidden"]))
            text = f"momentum rises {ramp} ({hidden}, {updates(group[0])} updates)"
            draw_group(axes[1], group, f"{marker}-", colour, text)
    for axis, title in zip(axes, ("our settings", "dropout with deepnet's settings"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="training images", title=title)
        axis.set_xticks(list(CASES), CASES.values())
        axis.set_yticks(ERRORS_SHOWN, list(map(str, ERRORS_SHOWN)))
        axis.minorticks_off()
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14))
    axes[0].set_ylabel("test error %")
    figure.suptitle("MNIST: the error by the number of training images (bars: ± 1 s.e.)")


def draw_group(axis: Any, group: list[Record], line: str, colour: str, label: str) -> None:
    group.sort(key=lambda r: r.config["training_cases"])
    cases = [r.config["training_cases"] for r in group]
    points(axis, cases, group, "test_error", fmt=line, color=colour, label=label)
