"""Turned images: the error, and how sure the network is, against the angle."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.records import record, stats
from experiments.records.record import Record
from experiments.report import style
from experiments.report.curves import means_and_stderrs
from experiments.report.markdown import NOT_RUN, device, link, markdown

PICTURE, SIZE = "calibration.png", (9.5, 6.4)
METRICS = {  # what is drawn, and what its panel is called
    "error": "wrong answers, %",
    "entropy": "how unsure it says it is: entropy, nats",
    "ece": "confidence and accuracy apart: ECE",
    "log_likelihood": "log-likelihood of the label, nats",
}
WAYS = {  # of predicting: the method, its key in a record, name, colour and line
    ("none", "scaled"): ("no dropout", style.NO_DROPOUT, "-"),
    ("dropout", "scaled"): ("weight scaling", style.DROPOUT, "--"),
    ("dropout", "mc"): ("MC dropout", style.DROPOUT, "-"),
    ("concrete", "mc"): ("concrete dropout", style.MORE[0], "-"),
}


def records(results: Path) -> list[Record]:
    """The run of each way of training on MNIST; none while one is missing."""
    runs = record.newest(record.read_all("calibration", results))
    runs = [r for r in runs if r.config["task"] == "turned" and r.config["data"] == "mnist"]
    by_method = {r.config["method"]: r for r in runs}
    wanted = dict.fromkeys(method for method, _ in WAYS)
    return [by_method[m] for m in wanted] if set(wanted) <= set(by_method) else []


def table(results: Path) -> str:
    """The scores of upright images, and of images turned by 90 degrees."""
    runs = {r.config["method"]: r for r in records(results)}
    if not runs:
        return NOT_RUN
    header = ["predicted by"]
    for angle in (0, 90):
        header += [
            f"{name} at {angle}°" for name in ("error %", "entropy", "ECE", "log-likelihood")
        ]
    rows = []
    for (method, way), (name, *_) in WAYS.items():
        r = runs[method]
        row = [name]
        for angle in (0, 90):
            column = r.extra["angles"].index(angle)
            for metric in METRICS:
                values = [seed[column] for seed in r.extra["by_angle"][way][metric]]
                row.append(stats.plus_minus(values, 1 if metric == "error" else 3))
        rows.append([*row, len(r.final[f"{way}_error"]), device(r), link(r.path)])
    return markdown([*header, "seeds", "device", "run"], rows)


def draw(figure: Any, runs: Sequence[Record]) -> None:
    """A panel a score, a line a way of predicting, a band of one standard error."""
    by_method = {r.config["method"]: r for r in runs}
    axes = figure.subplots(2, 2, sharex=True).ravel()
    for axis, (metric, title) in zip(axes, METRICS.items(), strict=True):
        for (method, way), (name, colour, line) in WAYS.items():
            r = by_method[method]
            angles = r.extra["angles"]
            columns = zip(*r.extra["by_angle"][way][metric], strict=True)
            mean, stderr = means_and_stderrs(columns)
            axis.plot(angles, mean, line, color=colour, label=name)
            low = [m - s for m, s in zip(mean, stderr, strict=True)]
            high = [m + s for m, s in zip(mean, stderr, strict=True)]
            axis.fill_between(angles, low, high, color=colour, alpha=0.15, lw=0)
        axis.set(title=title, xticks=range(0, 181, 45))
    for axis in axes[2:]:
        axis.set_xlabel("images turned by, degrees")
    axes[0].legend()
    figure.suptitle("MNIST, turned test images (bands: ± 1 s.e. of the seeds)")
