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
    times = update_times(results)

    def time(r):
        of_update = times.get((r.config["method"], r.config["rate"]))
        if r.config["method"] == "none":
            of_update = 1.0
        if of_update is None:
            return "–"
        shortest = min(r.extra["updates"] for r in records)
        return f"{of_update * r.extra['updates'] / shortest:.2f}"

    def change(r):
        alike = [e for e in records if e.config["method"] == "element"
                 and e.config["rate"] == r.config["rate"]]  # fmt: skip
        if r.config["method"] != "thin" or not alike:
            return "–"
        return difference(r.final["val_loss"], alike[0].final["val_loss"]).signed(3)

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
    file = results / "benchmark" / "thin_transformer.json"
    if not file.exists():
        return {}
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    method = {library: name for name, library in LIBRARY.items()}
    return {
        (method[r["library"]], r["rate"]): r["ratio_to_floor"] for r in rows if r["shape"] == SHAPE
    }
