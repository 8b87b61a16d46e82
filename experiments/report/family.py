"""The members of the dropout family at the rates chosen on validation data: error and time."""

from collections.abc import Sequence
from pathlib import Path

from experiments.records.record import Record
from experiments.records.stats import mean_and_stderr, plus_minus
from experiments.report.columns import ERRORS, RUN, newest, tabulate
from experiments.report.markdown import NOT_RUN


def table(results: Path) -> str:
    """A row a member, the best first."""
    every = newest(results, "family")
    tested = [r for r in every if "test_error" in r.final]
    if not tested:
        return NOT_RUN
    columns = {
        "member": lambda r: r.config["method"],
        "rate": chosen_rate,
        "validation error % of the rates tried": lambda r: tried_rates(r, every),
        **ERRORS,
        "× time of dropout's update": lambda r: f"{r.extra['step_to_dropout']:.2f}",
        **RUN,
    }
    tested.sort(key=lambda r: mean_and_stderr(r.final["test_error"])[0])
    return tabulate(tested, columns)


def chosen_rate(r: Record) -> str:
    """The rate chosen; the mean over seeds of each layer's where it was learned."""
    learned: Sequence[Sequence[float]] = r.extra.get("learned_rates", ())
    if learned:
        means = (mean_and_stderr(layer)[0] for layer in zip(*learned, strict=True))
        return f"learned: {', '.join(f'{mean:.3f}' for mean in means)}"
    return f"{r.config['rate']:g}" if r.config["rate"] else "–"


def tried_rates(r: Record, every: Sequence[Record]) -> str:
    """The validation error of each rate that this one was chosen among."""
    tried = [c for c in every if "val_error" in c.final and _without_rate(c) == _without_rate(r)]
    tried.sort(key=lambda c: c.config["rate"])
    return ", ".join(
        f"{c.config['rate']:g}: {plus_minus(c.final['val_error'])}" for c in tried
    ) or "–"  # fmt: skip


def _without_rate(r):
    return {k: v for k, v in r.config.items() if k not in ("rate", "seeds", "validation")}
