"""What noise alone reaches on MNIST, by method: the error of each length of run and its time."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.records.record import Record
from experiments.report.columns import ERRORS, RUN, newest, tabulate
from experiments.report.markdown import NOT_RUN
from experiments.report.mlp_rows import updates


class Method(NamedTuple):
    """Its name, and where its runs are: an experiment, and the settings that they have."""

    name: str
    experiment: str
    settings: Mapping[str, Any]


METHODS = (
    Method("dropout, rate 0.5", "mnist", {"rates": [0.2, 0.5, 0.5]}),
    Method("dropout, thinned", "thinned", {"study": "headline", "method": "thin"}),
    Method("dropout, max-norm", "mnist_table2", {"row": "dropout_relu_maxnorm_3x1024"}),
    Method("dropout, max-norm, wide", "mnist_table2", {"row": "dropout_relu_maxnorm_2x8192"}),
    Method("dropout, pylearn2's recipe", "pylearn2_recipe", {"row": "dropout_60k"}),
    Method("Gaussian dropout, max-norm", "gaussian_table10", {"row": "mnist_gaussian"}),
    Method("R-Drop, max-norm", "past_the_paper", {"row": "dropout_r_drop"}),
    Method("added noise, batch norm", "ladder_baseline", {"row": "published"}),
    Method("best noise, batch norm", "ladder_baseline", {"row": "chosen"}),
)


def table(results: Path) -> str:
    """A line a run, of every length that was made, the shortest first."""
    runs = sorted(found(results), key=lambda pair: minutes(pair[1]))
    columns = {
        "method": lambda pair: pair[0].name,
        "hidden layers": lambda pair: "-".join(map(str, pair[1].config["hidden"])),
        **{name: of_run(cell) for name, cell in ERRORS.items()},
        "updates": of_run(updates),
        "minutes a network": lambda pair: f"{minutes(pair[1]):.1f}",
        **{name: of_run(cell) for name, cell in RUN.items()},
    }
    return tabulate(runs, columns) if runs else NOT_RUN


def found(results: Path) -> Iterator[tuple[Method, Record]]:
    """The newest run of each method and length."""
    for method in METHODS:
        same = {
            r.extra["updates"]: r
            for r in newest(results, method.experiment, "test_error")
            if all(r.config.get(name) == value for name, value in method.settings.items())
        }
        yield from ((method, r) for r in same.values())


def minutes(r: Record) -> float:
    """The time of the training, whenever it was interrupted, divided by its seeds."""
    return math.fsum(r.extra["seconds"]) / 60 / len(r.final["test_error"])


def of_run(cell):
    return lambda pair: cell(pair[1])
