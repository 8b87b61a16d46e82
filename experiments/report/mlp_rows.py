"""Rows of the MLP's experiments: a run beside what was published, and how it came about.

A spread is the standard error of the mean over seeds; a difference is ours less the published,
counted in the standard errors of both where the paper gives its own, else in ours. It is given
where the protocol is the published one. Standard library only.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.records import literature, record, trials
from experiments.records.record import Record
from experiments.records.stats import difference, mean_and_stderr, plus_minus
from experiments.report.columns import ERRORS, RUN, Column, final, tabulate
from experiments.report.markdown import NOT_RUN
from experiments.report.mlp_settings import DEFAULTS, settings, training

Number = tuple[float, float | None, float | None]
"""A published value, its spread, and its standard error where the spread is one."""
PAPER_BARS = "The paper does not say what its ± is."
SETTINGS_NOTE = (
    "Settings: lr, the first learning rate; c, each layer's max-norm. Both for activations that "
    "are divided by keep in training: the paper's are lr / keep² and c / keep."
)
# The arm that a sentence is about, the one that it is compared with, and its name.
ARMS = {
    "_r_drop": ("", "R-Drop"),
    "dropout_": ("standard_", "dropout"),
    "gaussian": ("bernoulli", "Gaussian noise"),
}


class Row(NamedTuple):
    """A row of a table of the paper: what was published, and the run, if there is one."""

    name: str
    number: Number | None
    run: Record | None


def mlp_table(results: Path, experiment: str, rows: Mapping[str, Number | None], note: str) -> str:
    """Every row that was published or run, and what dropout changed.

    Args:
      results: the folder of results.
      experiment: its name.
      rows: row -> what was published, or None; in the order to be shown in.
      note: a sentence to put under the table.
    """
    records = reported_runs(results, experiment)
    if not records:
        return NOT_RUN
    every = record.read_all(experiment, results)
    names, shown = list(dict.fromkeys([*rows, *(r.config["row"] for r in records)])), []
    records.sort(key=lambda r: names.index(r.config["row"]))
    for name in names:
        found = [r for r in records if r.config["row"] == name]
        shown += [Row(name, rows.get(name), r) for r in found or [None]]
    table = tabulate(shown, columns(every))
    return "\n\n".join([table, f"{note} {SETTINGS_NOTE}", *comparisons(records)])


def columns(every: Sequence[Record]) -> dict[str, Column[Row]]:
    """The columns; `every` holds the trials too, which tell how settings were chosen."""

    def of_run(cell: Callable[[Record], object], missing: str = "–") -> Column[Row]:
        return lambda row: cell(row.run) if row.run else missing

    return {
        "row": lambda row: row.name,
        "published %": published_cell,
        "ours %": of_run(final("test_error"), "not run"),
        "difference, s.e.": difference_cell,
        "train error %": of_run(ERRORS["train error %"]),
        "network": of_run(network),
        "updates": of_run(updates),
        "budget": of_run(lambda r: r.config["budget"]),
        "seeds": of_run(RUN["seeds"]),
        "settings": of_run(lambda r: f"{settings(r)}; {selection(r, every)}"),
        "device": of_run(RUN["device"]),
        "run": of_run(RUN["run"]),
    }


def published_cell(row: Row) -> str:
    """What was published, and what Figure 4's ReLU nets had reached by as many updates."""
    found, r = [] if row.number is None else [text(row.number)], row.run
    if r and r.experiment in ("mnist_table2", "architectures_figure4"):
        at = literature.figure_4_range(bool(r.config["rate"]), r.extra["updates"])
        widths = {*r.config["hidden"]}
        if at and r.config["activation"] == "relu" and widths <= literature.FIGURE_4_WIDTHS:
            found.append(f"{at[1]:.2f} to {at[2]:.2f} at {at[0] // 1000}k (Figure 4)")
    return "; ".join(found) or "–"


def difference_cell(row: Row) -> str:
    """Ours less the published, and how many standard errors that is."""
    r, number = row.run, row.number
    if r is None or number is None:
        return "–"
    as_published = r.config["budget"] == "paper" or (
        r.experiment == "pylearn2_recipe" and r.config["budget"] == "cpu"
    )
    mean, stderr = mean_and_stderr(r.final["test_error"])
    if not as_published or not math.isfinite(mean):
        return "–"
    less, stderr = mean - number[0], math.hypot(stderr or 0, number[2] or 0)
    return f"{less:+.2f}" + (f", {less / stderr:+.1f}" if stderr else "")


def selection(r: Record, every: Sequence[Record]) -> str:
    """How a run's settings came about: they are those of the best of its trials, or not."""
    before = [t for t in every if t.provenance["utc"] < r.provenance["utc"]]
    compared = trials.trials_of(before, r.config, DEFAULTS)
    count = trials.count_settings(compared)
    if count > 1 and trials.best(compared) == trials.tuned(r.config):
        at = r.config.get("tuned_at")
        shorter = f", after {grouped(at)} updates" if at else ""
        return f"best of {count} on validation{shorter}"
    return "set beforehand"


def comparisons(records: Iterable[Record]) -> list[str]:
    """A sentence for every pair of arms of as many updates: dropout_X and standard_X, for one.

    Seeds that draw images of their own are compared one by one: both arms draw the same.
    """
    by_name = {
        (r.config["row"], r.config["budget"], r.extra["updates"], *training(r)): r for r in records
    }
    sentences = []
    for (row, *rest), r in by_name.items():
        arm = next((arm for arm in ARMS if arm in row), None)
        other = arm and by_name.get((row.replace(arm, ARMS[arm][0], 1), *rest))
        if not other:
            continue
        with_, without = r.final["test_error"], other.final["test_error"]
        paired = bool(r.config["training_cases"]) and len(with_) == len(without)
        change = difference(with_, without, paired=paired)
        if math.isfinite(change.mean):
            sentences.append(
                f"{row.replace(arm, '', 1).strip('_')}, {updates(r)} updates: with {ARMS[arm][1]} "
                f"the test error is {change.sentence()}."
            )
    return ["  \n".join(sentences)] if sentences else []


def reported_runs(results: Path, experiment: str) -> list[Record]:
    """The newest run of each row at each length that read the test set, shortest first.

    After more settings were compared on validation data, the run with the best of them takes the
    place of an earlier one, whose record stays.
    """
    runs = [r for r in record.read_all(experiment, results) if not r.config.get("validation")]
    runs = [r for r in runs if not r.config.get("quick")]
    records = {trials.group(r.config, DEFAULTS): r for r in runs}.values()
    return sorted(records, key=lambda r: (r.extra["updates"], r.config["row"], str(r.path)))


def published(name: str) -> Number:
    number = literature.PUBLISHED[name]
    return number.value, number.spread, number.stderr


def curve_points(name: str) -> dict[Any, Number]:
    """x -> a point of a published curve."""
    return {x: (error, spread, None) for x, error, spread in literature.CURVES[name].points}


def text(number: Number | None) -> str:
    if number is None:
        return "–"
    return f"{number[0]:.2f}" + ("" if number[1] is None else f" ± {number[1]:.2f}")


def ours(r: Record) -> str:
    return plus_minus(r.final["test_error"])


def network(r: Record) -> str:
    """784-1024-1024-10's hidden layers, and how many images where not all."""
    cases = r.config["training_cases"]
    return "-".join(map(str, r.config["hidden"])) + (f", {cases} images" if cases else "")


def updates(r: Record) -> str:
    return grouped(r.extra["updates"])


def grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")
