"""The grids of the paper's experiments, and made-up records of their rows."""

import dataclasses

from experiments import (
    architectures_figure4,
    dataset_size_figure10,
    gaussian_table10,
    mnist_table2,
    monte_carlo_figure11,
    past_the_paper,
    pylearn2_recipe,
    rate_figure9,
    regularizers_table9,
)
from experiments.records import record

GRIDS = [
    mnist_table2, pylearn2_recipe, regularizers_table9, gaussian_table10, rate_figure9,
    dataset_size_figure10, architectures_figure4, monte_carlo_figure11, past_the_paper,
]  # fmt: skip
NAMES = {module: module.__name__.removeprefix("experiments.") for module in GRIDS}


def by_row(module, budget="paper"):
    found = {config.row: config for config in module.grid(budget)}
    assert len(found) == len(module.grid(budget))
    return found


def write(
    folder, module, row, errors, *, budget="paper", own=False, updates=100_000, extra=None, **fields
):
    """A record of a row, as if it had been run; `own`: at a length that is not the budget's."""
    config = by_row(module, budget)[row]
    named = "own" if own else budget
    config = dataclasses.replace(
        config, budget=named, updates=updates, seeds=len(errors), out=folder, **fields
    )
    held_out = "val_error" if config.validation else "test_error"
    final = {held_out: errors, "train_error": [0.1] * len(errors), **(extra or {}).pop("final", {})}
    result = {
        "final": final,
        "by_epoch": {held_out: [[2 * e, e] for e in errors]},
        "extra": {"updates": updates, "evaluated_at": [updates // 2, updates], **(extra or {})},
    }
    name = NAMES[module]
    return record.write(name, config, result, data_sha256="ab", wall_seconds=1, folder=folder)


def launched(module, folder, *argv):
    module.main(["--quick", "--seeds", "2", "--out", str(folder), *argv])
    return record.read_all(module.__name__.removeprefix("experiments."), folder)
