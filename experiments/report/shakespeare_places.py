"""Where a small GPT drops, and when: each place alone, and schedules beside a constant rate."""

from collections.abc import Sequence
from pathlib import Path

from experiments.records.record import Record
from experiments.report.columns import RUN, final, setting, tabulate
from experiments.report.markdown import NOT_RUN
from experiments.report.shakespeare import BEST, FOUR, LAST, epochs, gain_text, schedule, short_runs

FIVE = [*FOUR[:3], "mlp_hidden", "mlp_out"]
NAMES = {
    "embedding": "embedding",
    "attention": "attention weights",
    "attention_out": "output of attention",
    "mlp_hidden": "hidden units of the MLP",
    "mlp_out": "output of the MLP",
}
SCHEDULES = ("constant", "early", "late", "linear")


def table(results: Path) -> str:
    """Both tables, each on the texts and at the rates at which there is something to compare."""
    runs = short_runs(results)
    runs.sort(key=lambda r: (epochs(r), r.config["rate"]))
    elsewhere = {_text_and_rate(r) for r in runs if r.config["places"] != FOUR}
    scheduled = {_text_and_rate(r) for r in runs if schedule(r) != "constant"}
    parts = []
    if elsewhere:
        lines = [r for r in runs if _text_and_rate(r) in elsewhere and schedule(r) == "constant"]
        lines.sort(key=lambda r: (epochs(r), len(r.config["places"]), _first(r)))
        parts.append(_table(lines, runs, {"dropped": places}))
    if scheduled:
        lines = [r for r in runs if _text_and_rate(r) in scheduled and r.config["places"] == FOUR]
        lines.sort(key=lambda r: (epochs(r), SCHEDULES.index(schedule(r))))
        parts.append(_table(lines, runs, {"schedule": schedule}))
    return "\n\n".join(parts) or NOT_RUN


def places(r: Record) -> str:
    where = r.config["places"]
    known = {tuple(FOUR): "nanoGPT's four", tuple(FIVE): "all five"}
    return known.get(tuple(where)) or ", ".join(NAMES[place] for place in where)


def _first(r: Record) -> int:
    return FIVE.index(r.config["places"][0])


def _text_and_rate(r: Record) -> tuple[float, float]:
    return r.config["share"], r.config["rate"]


def _table(lines: Sequence[Record], runs: Sequence[Record], first: dict) -> str:
    columns = {
        **first,
        "epochs": lambda r: f"{epochs(r):.1f}",
        "rate": setting("rate"),
        "validation loss": final(LAST, 3),
        "gain": lambda r: gain_text(r, runs, LAST),
        "best along the run": final(BEST, 3),
        "gain of the best": lambda r: gain_text(r, runs, BEST),
        "seeds": RUN["seeds"],
        "run": RUN["run"],
    }
    return tabulate(lines, columns)
