"""Figure 11: the error of k averaged passes, and of weight scaling."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.records import literature
from experiments.records.record import Record
from experiments.records.stats import mean_and_stderr, plus_minus
from experiments.report import style
from experiments.report.columns import seeds
from experiments.report.curves import means_and_stderrs, published
from experiments.report.markdown import NOT_RUN, device, link, markdown
from experiments.report.mlp_nets import by_budget
from experiments.report.mlp_rows import network, reported_runs, updates

PICTURE, SIZE = "figure_11.png", (6.5, 4.4)


def table(results: Path) -> str:
    return "\n\n".join(map(run_table, records(results))) or NOT_RUN


def records(results: Path) -> list[Record]:
    return reported_runs(results, "monte_carlo_figure11")


def run_table(r: Record) -> str:
    """A row a number of passes, beside the published point."""
    scaling = literature.PUBLISHED["figure11/weight_scaling"]
    curve = {k: (error, sd) for k, error, sd in literature.CURVES["figure11/monte_carlo"].points}
    rows = [["weight scaling", f"{scaling.value:.3f}", "–",
             plus_minus(r.final["test_error"], 3), "–"]]  # fmt: skip
    for k, sds in r.extra["sd_over_draws"].items():
        theirs = [f"{value:.3f}" for value in curve.get(int(k), ())] or ["–", "–"]
        ours = plus_minus(r.final[f"mc_error_{k}"], 3)
        rows.append([f"k = {k}", *theirs, ours, f"{mean_and_stderr(sds)[0]:.3f}"])
    header = ["passes", "published %", "sd over draws", "ours %", "sd over draws"]
    return (
        f"{markdown(header, rows)}\n\n{network(r)}, {updates(r)} updates, {seeds(r)} seeds, budget "
        f"{r.config['budget']}, {device(r)}, {link(r.path)}. Published: Figure 11."
    )


def draw(figure: Any, records: Sequence[Record]) -> None:
    """Bars of one standard deviation over draws, and lines of weight scaling."""
    axis = figure.subplots()
    published(axis, "figure11/monte_carlo", label="paper, Monte Carlo")
    scaling = literature.PUBLISHED["figure11/weight_scaling"].value
    axis.axhline(scaling, color=style.PUBLISHED, lw=1, label="paper, weight scaling")
    colours = (style.DROPOUT, *style.MORE)
    for colour, (label, group) in zip(colours, by_budget(records), strict=False):
        for r in group:
            draw_run(axis, r, colour, label)
    axis.set(xscale="log", xlabel="k, passes averaged", ylabel="test error %")
    axis.set_title("MNIST: averaging k networks with dropout (bars: ± 1 sd over draws)")
    axis.legend()


def draw_run(axis: Any, r: Record, colour: str, label: str) -> None:
    passes = sorted(map(int, r.extra["sd_over_draws"]))
    mean, _ = means_and_stderrs(r.final[f"mc_error_{k}"] for k in passes)
    sds, _ = means_and_stderrs(r.extra["sd_over_draws"][str(k)] for k in passes)
    options = {"fmt": "o-", "ms": 3, "capsize": 2, "color": colour}
    axis.errorbar(passes, mean, sds, label=f"Monte Carlo, ours ({label})", **options)
    (scaled,), (stderr,) = means_and_stderrs([r.final["test_error"]])
    axis.axhline(scaled, color=colour, lw=1, ls="--", label="weight scaling, ours (band: ± 1 s.e.)")
    axis.axhspan(scaled - stderr, scaled + stderr, color=colour, alpha=0.15, lw=0)
