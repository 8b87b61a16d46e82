"""The crossing: what dropout gains a language model, by how often it reads its text."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.records.record import Record
from experiments.records.stats import Difference, mean_and_stderr
from experiments.report import style
from experiments.report.columns import RUN, final, newest, setting, tabulate
from experiments.report.curves import points
from experiments.report.markdown import NOT_RUN

PICTURE, SIZE = "shakespeare.png", (10, 3.8)
FOUR = ["embedding", "attention", "attention_out", "mlp_out"]
COLOURS = {
    0: style.NO_DROPOUT,
    0.1: style.MORE[3],
    0.2: style.DROPOUT,
    0.4: style.MORE[4],
}
UPDATES = 1000
LAST, BEST = "val_loss", "best_val_loss"


def table(results: Path) -> str:
    """A line a run, and where the gain changes its sign."""
    runs = records(results)
    columns = {
        "epochs": lambda r: f"{epochs(r):.1f}",
        "rate": setting("rate"),
        "validation loss": final(LAST, 3),
        "gain": lambda r: gain_text(r, runs, LAST),
        "best along the run": final(BEST, 3),
        "gain of the best": lambda r: gain_text(r, runs, BEST),
        "training loss": final("train_loss", 3),
        "seeds": RUN["seeds"],
        "run": RUN["run"],
    }
    return f"{tabulate(runs, columns)}\n\n{sentences(runs)}" if runs else NOT_RUN


def records(results: Path) -> list[Record]:
    """The runs of the crossing: constant rates at nanoGPT's places, on parts of the text."""
    found = [r for r in short_runs(results) if as_nanogpt(r)]
    return sorted(found, key=lambda r: (epochs(r), r.config["rate"]))


def short_runs(results: Path) -> list[Record]:
    """All runs of the network for a CPU that are as long as those of the crossing."""
    found = newest(results, "shakespeare")
    return [r for r in found if r.config["size"] == "cpu" and r.config["updates"] == UPDATES]


def as_nanogpt(r: Record) -> bool:
    """A constant rate, at nanoGPT's places."""
    return schedule(r) == "constant" and r.config["places"] == FOUR


def schedule(r: Record) -> str:
    return r.config.get("schedule", "constant")


def epochs(r: Record) -> float:
    return r.extra["passes_over_the_text"]


def gains(r: Record, none: Record, metric: str = LAST) -> list[float]:
    """How much lower the loss is than without dropout, seed by seed.

    A seed has the same first weights and the same batches in both.
    """
    return [b - a for a, b in zip(r.final[metric], none.final[metric], strict=False)]


def without_dropout(r: Record, runs: Sequence[Record]) -> Record | None:
    """The run without dropout on the same text."""
    found = [p for p in runs if not p.config["rate"] and p.config["share"] == r.config["share"]]
    return found[0] if found else None


def gain(r: Record, runs: Sequence[Record], metric: str = LAST) -> Difference | None:
    none = without_dropout(r, runs)
    if none is None or none is r:
        return None
    return Difference(*mean_and_stderr(gains(r, none, metric)))


def gain_text(r: Record, runs: Sequence[Record], metric: str) -> str:
    found = gain(r, runs, metric)
    if found is None:
        return "–"
    return f"{found.mean:+.3f}" + ("" if found.stderr is None else f" ± {found.stderr:.3f}")


def crossing(runs: Sequence[Record], rate: float) -> Difference | None:
    """At how many epochs dropout begins to pay, ± its standard error over seeds.

    Between two runs the gain of a seed is a line in log epochs. The mean over seeds is of the log,
    and its error is carried over to epochs. None where the gain of a seed does not cross 0.
    """
    pairs = [(r, without_dropout(r, runs)) for r in runs if r.config["rate"] == rate]
    curve = [(math.log(epochs(r)), gains(r, none)) for r, none in pairs if none]
    seeds = min((len(values) for _, values in curve), default=0)
    found = [_first_zero([(x, values[seed]) for x, values in curve]) for seed in range(seeds)]
    if not found or None in found:
        return None
    mean, stderr = mean_and_stderr([x for x in found if x is not None])
    at = math.exp(mean)
    return Difference(at, None if stderr is None else at * stderr)


def _first_zero(curve: Sequence[tuple[float, float]]) -> float | None:
    """Where a broken line first rises through 0."""
    for (x, y), (next_x, next_y) in itertools.pairwise(curve):
        if y <= 0 < next_y:
            return x + (next_x - x) * y / (y - next_y)
    return None


def crossing_text(at: Difference, digits: int = 1) -> str:
    return f"{at.mean:.{digits}f}" + ("" if at.stderr is None else f" ± {at.stderr:.{digits}f}")


def sentences(runs: Sequence[Record]) -> str:
    """Where each rate begins to pay."""
    found = {rate: crossing(runs, rate) for rate in sorted({r.config["rate"] for r in runs} - {0})}
    return "  \n".join(
        f"By the last loss a rate of {rate:g} begins to pay at {crossing_text(at)} epochs."
        for rate, at in found.items()
        if at
    )


def draw(figure: Any, records: Sequence[Record]) -> None:
    """The loss by rate, and beside it the gain of each rate over none."""
    loss, change = figure.subplots(1, 2)
    for rate in sorted({r.config["rate"] for r in records}):
        runs = [r for r in records if r.config["rate"] == rate]
        x = [epochs(r) for r in runs]
        options = {"color": COLOURS.get(rate, style.PUBLISHED), "fmt": "o-"}
        points(loss, x, runs, LAST, **options, label=f"rate {rate:g}" if rate else "no dropout")
        found = [(epochs(r), gain(r, records)) for r in runs]
        found = [(at, value) for at, value in found if value is not None]
        if found:
            means, bars = [g.mean for _, g in found], [g.stderr or 0.0 for _, g in found]
            change.errorbar([at for at, _ in found], means, bars, ms=4, capsize=2, **options)
    change.axhline(0, color=style.NO_DROPOUT, lw=1.4)
    change.text(0.02, 0.97, "dropout helps", transform=change.transAxes, va="top")
    change.text(0.98, 0.03, "dropout hurts", transform=change.transAxes, ha="right")
    ticks = sorted({epochs(r) for r in records})
    for axis in (loss, change):
        axis.set(xscale="log", xlabel="times that the text is read (epochs)")
        axis.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
        axis.minorticks_off()
    loss.set_ylabel("validation loss, nats a character")
    change.set_ylabel("gain over no dropout")
    loss.legend()
    figure.suptitle(
        f"A small GPT on Shakespeare, {UPDATES} updates "
        f"(bars: ± 1 s.e., {min(RUN['seeds'](r) for r in records)} seeds)"
    )
