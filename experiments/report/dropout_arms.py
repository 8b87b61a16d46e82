"""The table of runs with dropout and without: errors, their gap, and what dropout changes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.records.config import dropout_rates, is_rate
from experiments.records.record import Record
from experiments.records.stats import difference
from experiments.report.columns import ERRORS, RUN, Column, gap, newest, seeds, tabulate
from experiments.report.markdown import NOT_RUN, device, link


def arms_table(results: Path, experiment: str, more: Mapping[str, Column] | None = None) -> str:
    """A row a record, and a sentence for every pair that differs in its dropout alone.

    Args:
      results: the folder of results.
      experiment: its name.
      more: columns to show before the device.
    """
    records = newest(results, experiment, "test_error")  # not those that chose the settings
    if not records:
        return NOT_RUN
    records.sort(key=lambda r: (str(without_rates(r)), sum_of_rates(r), str(r.path)))
    columns = {
        "network": network,
        "dropout rate": rates,
        **ERRORS,
        "gap": gap,
        "seeds": seeds,
        "epochs (updates)": epochs,
        **(more or {}),
        "device": device,
        "run": RUN["run"],
    }
    return "\n\n".join([tabulate(records, columns), *comparisons(records)])


def comparisons(records: Sequence[Record]) -> list[str]:
    """A sentence for each pair of runs that differ in the dropout alone."""
    plain_runs = [r for r in records if not dropout_rates(r)]
    dropped_runs = [r for r in records if dropout_rates(r)]
    return [
        f"{network(plain)}: with dropout ({link(dropped.path)}) the test error is "
        f"{difference(dropped.final['test_error'], plain.final['test_error']).points()} than "
        f"without ({link(plain.path)})."
        for plain in plain_runs
        for dropped in dropped_runs
        if without_rates(plain) == without_rates(dropped)
    ]


def without_rates(r: Record) -> dict:
    """The config without its dropout rates: the same for the two arms of a comparison."""
    return {k: v for k, v in r.config.items() if not is_rate(k)}


def sum_of_rates(r: Record) -> float:
    return sum(dropout_rates(r).values())


def rates(r: Record) -> str:
    return ", ".join(f"{name} {rate:g}" for name, rate in dropout_rates(r).items()) or "none"


def network(r: Record) -> str:
    return "-".join(map(str, r.config.get("hidden", []))) or r.experiment


def epochs(r: Record) -> str:
    updates = r.extra.get("updates")
    chosen = r.extra.get("epoch_chosen", "last")
    return f"{r.config.get('epochs', '–')}{f' ({updates})' if updates else ''}, {chosen}"
