"""The tables of MC dropout on the UCI sets, beside what was published. Standard library only."""

import math
from collections.abc import Sequence
from pathlib import Path

from experiments.records import record, stats
from experiments.records.literature.uci import PUBLISHED_2016, PUBLISHED_2018, Spread
from experiments.records.literature.uci_splits import BY_SPLIT
from experiments.records.record import Record
from experiments.report.markdown import NOT_RUN, link, markdown

COLUMNS = {  # what a column is called: the method that was trained, and its metrics
    "one pass": ("dropout", "single_rmse", None),
    "weight scaling": ("dropout", "scaled_rmse", "scaled_ll"),
    "MC dropout": ("dropout", "rmse", "ll"),
    "moments": ("dropout", "moments_rmse", "moments_ll"),
    "two layers": ("two_layers", "rmse", "ll"),
    "concrete dropout": ("concrete", "rmse", "ll"),
    "ensemble of 5": ("ensemble", "rmse", "ll"),
}
METRICS = {"rmse": "RMSE", "ll": "log-likelihood"}
PUBLISHED = (PUBLISHED_2016, PUBLISHED_2018)


def table(results: Path) -> str:
    """MC dropout of ours beside that of the authors, a row a set."""
    records = runs(results, "dropout")
    if not records:
        return NOT_RUN
    header = ["set", "cases", "features", "splits", "epochs"]
    for name in METRICS.values():
        header += [f"{name}: 2016", "2018", "ours", "away from 2018, in s.e."]
    rows = []
    for r in records:
        name = r.config["dataset"]
        row = [name, r.extra["cases"], r.extra["features"], len(r.final["ll"]), r.config["epochs"]]
        for metric in METRICS:
            old, new = (p[name]._asdict()[metric] if name in p else None for p in PUBLISHED)
            digits = digits_of(r.final[metric])
            ours = stats.mean_and_stderr(r.final[metric])
            row += [shown(old, 2), shown(new, digits), shown(ours, digits), away(ours, new)]
        rows.append([*row, minutes(seconds(r)), cpu_minutes(r), link(r.path)])
    text = markdown([*header, "minutes", "CPU minutes", "run"], rows)
    total = f"{minutes(sum(map(seconds, records)))} minutes on the clock"
    if all("cpu_seconds" in r.extra for r in records):
        total += f" and {minutes(sum(r.extra['cpu_seconds'] for r in records))} CPU minutes"
    return (
        f"{text}\n\n± is the standard error over the splits. All of it took {total}. "
        "The difference from 2018 is in standard errors of two independent means."
    )


def columns(results: Path) -> str:
    """Other ways to predict and to train, under the same protocol: RMSE and log-likelihood."""
    by_method = {method: runs(results, method) for method, *_ in COLUMNS.values()}
    found = {m: {r.config["dataset"]: r for r in records} for m, records in by_method.items()}
    if not found["dropout"]:
        return NOT_RUN
    parts = []
    for i, title in enumerate(METRICS.values()):
        rows = []
        for name in found["dropout"]:
            published = PUBLISHED_2018[name].single_rmse if name in PUBLISHED_2018 else None
            row = [name, *([published or "–"] if i == 0 else [])]
            for method, *metrics in COLUMNS.values():
                r, metric = found[method].get(name), metrics[i]
                have = r is not None and metric in r.final
                row.append(shown_values(r.final[metric]) if have else "–")
            rows.append(row)
        more = ["one pass, 2018"] if i == 0 else []
        parts.append(markdown([title, *more, *COLUMNS], rows))
    return "\n\n".join(parts)


def paired(results: Path) -> str:
    """The differences from the authors split by split, where they have published them."""
    header = ["set", "", "authors", "ours", "difference", "in its s.e."]
    rows = []
    for r in runs(results, "dropout"):
        name = r.config["dataset"]
        for metric, title in METRICS.items():
            if (name, metric) not in BY_SPLIT:
                continue
            theirs = BY_SPLIT[name, metric][: len(r.final[metric])]
            ours = r.final[metric][: len(theirs)]
            differences = [a - b for a, b in zip(ours, theirs, strict=True)]
            mean, stderr = stats.mean_and_stderr(differences)
            away = f"{mean / stderr:+.1f}" if stderr else "–"
            rows.append([name, title, *map(shown_values, (theirs, ours, differences)), away])
    return markdown(header, rows) if rows else NOT_RUN


def runs(results: Path, method: str) -> list[Record]:
    """The run of each set with the most epochs, the smallest set first."""
    records = record.newest(record.read_all("uci", results))
    records = [r for r in records if r.config["method"] == method]
    # The last of a set stays: with the most epochs, and a network for each tau.
    records.sort(key=lambda r: (r.config["epochs"], not r.config.get("shared_tau", False)))
    best = {r.config["dataset"]: r for r in records}
    return sorted(best.values(), key=lambda r: r.extra["cases"])


def digits_of(values: Sequence[float]) -> int:
    """So many that the standard error has two."""
    stderr = stats.mean_and_stderr(values)[1]
    return max(2, 1 - math.floor(math.log10(stderr))) if stderr else 2


def shown(value: Spread | None, digits: int) -> str:
    if value is None:
        return "–"
    mean, stderr = value
    return f"{mean:.{digits}f}" + ("" if stderr is None else f" ± {stderr:.{digits}f}")


def shown_values(values: Sequence[float]) -> str:
    return stats.plus_minus(values, digits_of(values))


def away(ours: Spread, published: Spread | None) -> str:
    if published is None or None in (ours[1], published[1]):
        return "–"
    return f"{(ours[0] - published[0]) / math.hypot(ours[1], published[1]):+.1f}"


def seconds(r: Record) -> float:
    return r.provenance["wall_seconds"]


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f}"


def cpu_minutes(r: Record) -> str:
    """Of all cores together; other work on the machine does not count. Older records lack it."""
    return minutes(r.extra["cpu_seconds"]) if "cpu_seconds" in r.extra else "–"
