"""Numbers in the prose of a page, read from the records: the text of a value marker to the number.

A page writes `<!-- value:mnist_table2/627ba1c201 test_error --><!-- /value -->`, and
`scripts/make_tables` fills it. A marker is one of

    RUN METRIC              mean ± standard error over the seeds; also METRIC@UPDATES along the way
    RUN METRIC lowest       of the seeds; or highest, or mean
    RUN minutes             that the run took; or seconds, or updates
    HIGHER - LOWER METRIC   difference of two runs ± its standard error; never negative
    HIGHER - LOWER METRIC sigmas    the difference in standard errors
    HIGHER / LOWER METRIC   ratio of the two means
    published NAME          a number of `records/literature.py`
    benchmark SUITE COLUMN LIBRARY NAME=VALUE ...   a measured time; or lowest, highest of several

where a RUN is `experiment/name of its file`, and `digits=1` after it changes the decimals.
Standard library only.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from experiments.records import literature, record, stats
from experiments.records.record import Record

PICKED = {"lowest": min, "highest": max}


def value(marker: str, results: Path = record.RESULTS) -> str:
    """The number that a marker asks for, as a page shows it.

    Raises:
      ValueError: the marker is not understood, or asks for a run or metric that is not there.

    >>> value("published table2/dropout_relu_maxnorm_3x1024")
    '1.06'
    """
    words = [word for word in marker.split() if not word.startswith("digits=")]
    given = [int(word[len("digits=") :]) for word in marker.split() if word.startswith("digits=")]
    digits = given[0] if given else None
    try:
        match words:
            case ["published", name]:
                return published(name)
            case ["benchmark", suite, column, *asked]:
                return measured(results, suite, column, asked, digits)
            case [run, "minutes" | "seconds" | "updates" as what]:
                return amount(_read(results, run), what, digits)
            case [run, metric]:
                return stats.plus_minus(_metric(_read(results, run), metric), _or(digits, 2))
            case [run, metric, "lowest" | "highest" | "mean" as which]:
                pick = PICKED.get(which, lambda values: math.fsum(values) / len(values))
                return f"{pick(_metric(_read(results, run), metric)):.{_or(digits, 2)}f}"
            case [higher, "-" | "/" as sign, lower, metric, *rest]:
                pair = [_metric(_read(results, run), metric) for run in (higher, lower)]
                return compared(sign, *pair, in_errors=rest == ["sigmas"], digits=digits)
    except (KeyError, IndexError, OSError) as error:
        raise ValueError(f"value:{marker} asks for what is not there: {error}") from error
    raise ValueError(f"value:{marker} is not understood; see experiments/report/values.py")


def published(name: str) -> str:
    """A printed number, with its spread where the paper gives one."""
    number = literature.PUBLISHED[name]
    return f"{number.value:g}" if number.value >= 10 else f"{number.value:.2f}"


def amount(r: Record, what: str, digits: int | None) -> str:
    """How long a run took, or how many updates it made."""
    if what == "updates":
        return f"{r.extra['updates']:,}".replace(",", " ")
    taken = r.provenance["wall_seconds"] / (60 if what == "minutes" else 1)
    return f"{taken:.{_or(digits, 0)}f}"


def compared(
    sign: str, higher: Sequence[float], lower: Sequence[float], *, in_errors: bool, digits
) -> str:
    """Difference or ratio of the means of two runs."""
    a, b = (stats.mean_and_stderr(values)[0] for values in (higher, lower))
    if sign == "/":
        return f"{a / b:.{_or(digits, 1)}f}"
    if a < b:
        raise ValueError(f"a difference is negative, {a - b:.3f}: turn the sentence round")
    stderr = stats.difference(higher, lower).stderr
    if in_errors:
        return f"{(a - b) / stderr:.{_or(digits, 1)}f}"
    shown = f"{a - b:.{_or(digits, 2)}f}"
    return shown if stderr is None else f"{shown} ± {stderr:.{_or(digits, 2)}f}"


def measured(results: Path, suite: str, column: str, asked: Sequence[str], digits) -> str:
    """A column of a benchmark's row, or its lowest or highest over the rows that fit.

    `asked` is the library, what the row's other entries are (`shape=1024x1024`, `rate=0.5`), and
    perhaps lowest or highest.
    """
    which = [word for word in asked if word in PICKED]
    wanted = dict(word.split("=", 1) for word in asked if "=" in word)
    wanted["library"] = " ".join(word for word in asked if word not in which and "=" not in word)
    rows = json.loads((results / "benchmark" / f"{suite}.json").read_text("utf-8"))["rows"]
    found = [row[column] for row in rows if row.get("mode") != "single_call" and _fits(row, wanted)]
    if len(found) != 1 and not which or not found:
        raise ValueError(f"{len(found)} rows of {suite} fit {wanted}, and one is to be shown")
    picked = PICKED[which[0]](found) if which else found[0]
    return f"{picked:.{_or(digits, 2 if picked < 10 else 0)}f}"


def _read(results: Path, run: str) -> Record:
    return record.read(results / f"{run}.json")


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
