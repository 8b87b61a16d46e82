"""Tables from columns: a column is its header and the function that fills its cells.

    COLUMNS = {"rate": setting("rate"), **ERRORS, **RUN}
    tabulate(records, COLUMNS)

Standard library only, as all of `report` that makes tables.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from experiments.records import record
from experiments.records.record import Record
from experiments.records.stats import plus_minus
from experiments.report.markdown import device, link, markdown

T = TypeVar("T")
Column = Callable[[T], object]


def tabulate(items: Iterable[T], columns: Mapping[str, Column[T]]) -> str:
    """A markdown table, a line an item."""
    return markdown(columns, [[cell(item) for cell in columns.values()] for item in items])


def final(metric: str, digits: int = 2) -> Column[Record]:
    """The mean of a metric at the end ± its standard error."""
    return lambda r: plus_minus(r.final[metric], digits)


def setting(name: str) -> Column[Record]:
    """A number of the config."""
    return lambda r: f"{r.config[name]:g}"


def gap(r: Record) -> str:
    """Test error less training error, seed by seed."""
    pairs = zip(r.final["test_error"], r.final["train_error"], strict=True)
    return plus_minus([test - train for test, train in pairs])


def seeds(r: Record) -> int:
    return max(map(len, r.final.values()))


ERRORS = {"test error %": final("test_error"), "train error %": final("train_error")}
RUN = {"seeds": seeds, "device": device, "run": lambda r: link(r.path)}


def newest(results: Path, experiment: str, metric: str = "") -> list[Record]:
    """The newest record of each config of an experiment, of those that hold the metric."""
    records = record.newest(record.read_all(experiment, results))
    return [r for r in records if not metric or metric in r.final]
