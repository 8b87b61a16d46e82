"""Read the numbers in the prose of a page from the records: from a value marker to its number.

A page writes `<!-- value:mnist_table2/dropout_relu_3x1024@12000 --><!-- /value -->`, and
`scripts/make_tables` fills it. A marker is one of

    RUN                 mean ± standard error of the test error over the seeds
    RUN METRIC          of another metric; METRIC@UPDATES on the way there
    RUN METRIC lowest   of the seeds; or highest, or mean
    RUN minutes         that the run took; or seconds, or updates
    HIGHER - LOWER      difference of two runs ± its standard error; also METRIC; never negative
    HIGHER - LOWER sigmas    the difference in standard errors
    HIGHER / LOWER      ratio of the two means; also METRIC
    RUN METRIC / METRIC ratio of the means of two metrics of one run
    crossing RATE       epochs at which that rate begins to pay in experiments.shakespeare
    published NAME      a number of `records/literature/`; or CURVE@X, a point of a curve there
    benchmark SUITE COLUMN LIBRARY NAME=VALUE ...   a measured time; or lowest, highest of several

where a RUN is `experiment/name of its file` or `experiment/row@updates`, and `digits=1` anywhere
changes the decimals. Standard library only.
"""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from experiments.records import literature, record, stats, trials
from experiments.records.record import Record
from experiments.report import shakespeare
from experiments.report.mlp_settings import DEFAULTS

PICKED = {
    "lowest": min,
    "highest": max,
    "mean": lambda values: math.fsum(values) / len(values),
}
PAIRED = ("shakespeare", "thinned_gpt")
AMOUNTS = ("minutes", "seconds", "updates")


def value(marker: str, results: Path = record.RESULTS) -> str:
    """The number that a marker asks for, as a page shows it.

    Raises:
      ValueError: the marker is not understood, or asks for a run or metric that is not there.

    >>> value("published table2/dropout_relu_maxnorm_3x1024")
    '1.06'
    """
    digits = re.search(r" digits=(\d)\b", marker)
    words = re.sub(r" digits=\d\b", "", marker).split()
    try:
        return _value(words, results, int(digits[1]) if digits else None)
    except (KeyError, IndexError, OSError, ValueError) as error:
        raise ValueError(f"value:{marker}: {error}") from error


def _value(words: list[str], results: Path, digits: int | None) -> str:
    match words:
        case ["published", name]:
            return published(name)
        case ["crossing", rate]:
            return crossing(results, float(rate), digits)
        case ["benchmark", suite, column, *asked]:
            return measured(results, suite, column, asked, digits)
        case [higher, "-" | "/" as sign, lower, *rest]:
            metric, how = _how(rest, ("sigmas",))
            runs = [found(results, run) for run in (higher, lower)]
            return compared(sign, *runs, metric, in_errors=how == "sigmas", digits=digits)
        case [run, metric, "/", other]:
            over, under = (_metric(found(results, run), name) for name in (metric, other))
            return f"{sum(over) / sum(under):.{_or(digits, 1)}f}"
        case [run, *rest]:
            r, (metric, how) = found(results, run), _how(rest, (*PICKED, *AMOUNTS))
            if how in AMOUNTS:
                return amount(r, how, digits)
            if how in PICKED:
                return f"{PICKED[how](_metric(r, metric)):.{_or(digits, 2)}f}"
            return stats.plus_minus(_metric(r, metric), _or(digits, 2))
    raise ValueError("is not understood; see experiments/report/values.py")


def _how(words, known) -> tuple[str, str]:
    """The metric that the rest of a marker names, and how it is to be shown."""
    how = [word for word in words if word in known]
    metric = [word for word in words if word not in known]
    if len(how) > 1 or len(metric) > 1:
        raise ValueError("is not understood; see experiments/report/values.py")
    return (metric or ["test_error"])[0], (how or [""])[0]


def found(results: Path, run: str) -> Record:
    """The record of a file, or the newest of a row (after so many updates) that read the test set.

    As in the tables, a run with settings that were chosen later takes the place of an earlier one.
    """
    if (file := results / f"{run}.json").exists():
        return record.read(file)
    experiment, _, name = run.partition("/")
    row, _, updates = name.partition("@")
    same = {
        trials.group(r.config, DEFAULTS): r
        for r in record.newest(record.read_all(experiment, results))
        if r.config.get("row") == row and not r.config.get("validation")
        if not updates or r.config.get("updates") == int(updates)
    }.values()
    if len(same) != 1:
        names = ", ".join(f"{r.path.stem} ({r.config['updates']} updates)" for r in same)
        raise ValueError(f"{len(same)} runs are called {run}{names and f': {names}'}")
    return next(iter(same))


def published(name: str) -> str:
    """A printed number; of Figure 4, the lowest and highest of its nets after so many updates."""
    curve, _, x = name.partition("@")
    if curve in ("figure4/dropout", "figure4/standard"):
        _, lowest, highest = literature.figure_4_range(curve.endswith("dropout"), int(x))
        return f"{lowest:.2f} to {highest:.2f}"
    if x:
        return f"{next(y for at, y, _ in literature.CURVES[curve].points if at == float(x)):.2f}"
    number = literature.PUBLISHED[name]
    return f"{number.value:g}" if number.value >= 10 else f"{number.value:.2f}"


def crossing(results: Path, rate: float, digits: int | None) -> str:
    """At how many epochs dropout begins to pay, and its standard error."""
    at = shakespeare.crossing(shakespeare.records(results), rate)
    if at is None:
        raise ValueError("dropout does not cross from harm to gain in every seed")
    return shakespeare.crossing_text(at, _or(digits, 1))


def amount(r: Record, what: str, digits: int | None) -> str:
    """How long a run took, or how many updates it made."""
    if what == "updates":
        return f"{r.extra['updates']:,}".replace(",", " ")
    taken = r.provenance["wall_seconds"] / (60 if what == "minutes" else 1)
    return f"{taken:.{_or(digits, 0)}f}"


def compared(
    sign: str, higher: Record, lower: Record, metric: str, *, in_errors: bool, digits: int | None
) -> str:
    """Difference or ratio of the means of two runs.

    Seeds that draw training cases of their own are compared one by one: both runs draw the same. So
    are those that share their first weights and batches.
    """
    ours, theirs = _metric(higher, metric), _metric(lower, metric)
    a, b = (stats.mean_and_stderr(values)[0] for values in (ours, theirs))
    if sign == "/":
        return f"{a / b:.{_or(digits, 1)}f}"
    if a < b:
        raise ValueError(f"a difference is negative, {a - b:.3f}: turn the sentence round")
    alike = higher.config.get("training_cases") or higher.experiment in PAIRED
    paired = bool(alike) and len(ours) == len(theirs)
    stderr = stats.difference(ours, theirs, paired=paired).stderr
    if in_errors:
        return f"{(a - b) / stderr:.{_or(digits, 1)}f}"
    shown = f"{a - b:.{_or(digits, 2)}f}"
    return shown if stderr is None else f"{shown} ± {stderr:.{_or(digits, 2)}f}"


def measured(results: Path, suite: str, column: str, asked: Sequence[str], digits) -> str:
    """A column of a benchmark's row, or its lowest or highest over the rows that fit.

    `asked` is the library, what the row's other entries are (`shape=1024x1024`, `rate=0.5`), and
    perhaps lowest or highest.
    """
    which = [word for word in asked if word in PICKED and word != "mean"]
    wanted = dict(word.split("=", 1) for word in asked if "=" in word)
    wanted["library"] = " ".join(word for word in asked if word not in which and "=" not in word)
    rows = json.loads((results / "benchmark" / f"{suite}.json").read_text("utf-8"))["rows"]
    fitting = [
        row[column] for row in rows if row.get("mode") != "single_call" and _fits(row, wanted)
    ]
    if len(fitting) != 1 and not which or not fitting:
        raise ValueError(f"{len(fitting)} rows of {suite} fit {wanted}, and one is to be shown")
    picked = PICKED[which[0]](fitting) if which else fitting[0]
    return f"{picked:.{_or(digits, 2 if picked < 10 else 0)}f}"


def _metric(r: Record, metric: str) -> list[float]:
    name, _, updates = metric.partition("@")
    if not updates:
        return r.final[name]
    place = r.extra["evaluated_at"].index(int(updates))
    return [curve[place] for curve in r.by_epoch[name]]


def _fits(row, wanted) -> bool:
    return all(_shown(row.get(name)) == text for name, text in wanted.items())


def _shown(entry) -> str:
    return "x".join(map(str, entry)) if isinstance(entry, list) else str(entry)


def _or(digits: int | None, default: int) -> int:
    return default if digits is None else digits
