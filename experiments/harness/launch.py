"""Launch a list of runs of any config: make those without a record, and print a table."""

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dropout_jax.train.runner import NonFiniteLossError
from experiments.harness.cli import text_table
from experiments.harness.once import Run, run_once
from experiments.records.record import Record
from experiments.records.stats import plus_minus

Columns = Mapping[str, Callable[[Record], object]]


def launch(
    experiment: str,
    configs: Iterable[Any],
    run: Run,
    *,
    label: Callable[[Any], str],
    columns: Columns,
) -> list[Record]:
    """Make the runs one after another, and print a table of them.

    A run that diverges costs a line on stderr and, after the others, exit code 1.

    Args:
      experiment: the name of its module.
      configs: one a run; an iterator may choose the next by the records that are there.
      run: (config, folder for checkpoints) -> a result.
      label: the name of a run in the table.
      columns: the other columns of the table.

    Returns:
      The records.
    """
    records, lines, diverged = [], [], False
    for config in configs:
        try:
            records.append(run_once(experiment, config, run))
        except NonFiniteLossError as error:
            print(f"{label(config)}: {error}", file=sys.stderr)
            diverged = True
            continue
        lines.append([label(config), *(str(cell(records[-1])) for cell in columns.values())])
        print("  ".join(lines[-1][:3]), flush=True)
    print(text_table(["run", *columns], lines))
    if diverged:
        sys.exit(1)
    return records


def final(metric: str, digits: int = 2) -> Callable[[Record], str]:
    """A column: the mean of a metric at the end ± its standard error."""
    return lambda r: plus_minus(r.final[metric], digits)


def held_out_error(r: Record) -> str:
    """A column: the error on the test set, or on validation data."""
    return plus_minus(r.final["val_error" if "val_error" in r.final else "test_error"])


def file_name(r: Record) -> str:
    """A column: the name of the record."""
    return r.path.name


ERRORS: Columns = {"held-out error %": held_out_error, "train error %": final("train_error")}
