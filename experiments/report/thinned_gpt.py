"""A thinned GPT: losses of the methods at equal updates and at equal time."""

import json
from pathlib import Path

from experiments.records.libraries import NO_DROPOUT, OURS, thinned
from experiments.records.stats import difference
from experiments.report.columns import RUN, final, newest, tabulate
from experiments.report.markdown import NOT_RUN
from experiments.report.thinned import NAMES

LIBRARY = {"none": NO_DROPOUT, "element": OURS, "thin": thinned(10, 16)}
SHAPE = [12, 4, 4, 128, 64]
"""of the study's network among the benchmark's: batch, layers, heads, width, context"""


def table(results: Path) -> str:
    """A row a method, rate and length; times are those of the benchmark."""
    records = newest(results, "thinned_gpt")
    if not records:
        return NOT_RUN
    records.sort(key=lambda r: (r.config["rate"], r.config["method"] == "thin", r.extra["updates"]))
    times, shortest = update_times(results), min(r.extra["updates"] for r in records)

    def time(r):
        of_update = times.get((r.config["method"], r.config["rate"]))
        return "–" if of_update is None else f"{of_update * r.extra['updates'] / shortest:.2f}"

    def change(r):
        beside = [e for e in records if e.config["method"] == "element"
                  and e.config["rate"] == r.config["rate"]]  # fmt: skip
        if r.config["method"] != "thin" or not beside:
            return "–"
        # A seed has the same first weights and batches with every method.
        paired = len(r.final["val_loss"]) == len(beside[0].final["val_loss"])
        return difference(r.final["val_loss"], beside[0].final["val_loss"], paired=paired).signed(3)

    columns = {
        "method": lambda r: NAMES.get(r.config["method"], "thinned"),
        "rate": lambda r: f"{r.config['rate']:g}",
        "updates (passes over the text)": lambda r: (
            f"{r.extra['updates']} ({r.extra['passes_over_the_text']:.0f})"
        ),
        "last validation loss": final("val_loss", 3),
        "less element-wise's": change,
        "best along the run": final("best_val_loss", 3),
        "training loss": final("train_loss", 3),
        "× time of the run without dropout": time,
        "× arithmetic an update": lambda r: f"{r.extra['arithmetic']:.2f}",
        **RUN,
    }
    return tabulate(records, columns)


def update_times(results: Path) -> dict[tuple[str, float], float]:
    """Time an update of the study's network by method and rate, with no dropout's as 1."""
    times, file = {("none", 0.0): 1.0}, results / "benchmark" / "thin_transformer.json"
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    method = {library: name for name, library in LIBRARY.items()}
    for row in rows:
        if row["shape"] == SHAPE:
            times.setdefault((method[row["library"]], row["rate"]), row["ratio_to_floor"])
    return times
