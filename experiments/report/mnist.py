"""Dropout on MNIST, beside what was published at a like number of updates."""

from pathlib import Path

from experiments.records import literature
from experiments.records.config import dropout_rates
from experiments.records.record import Record
from experiments.report.dropout_arms import arms_table
from experiments.report.learning_curves import draw as draw
from experiments.report.learning_curves import with_curves

PICTURE, SIZE = "learning_curves_mnist.png", (5.5, 3.8)


def table(results: Path) -> str:
    """With and without dropout."""
    return arms_table(results, "mnist", {"published: error % (updates)": closest_published})


def records(results: Path) -> list[Record]:
    return with_curves("mnist", results)


def closest_published(r: Record) -> str:
    """Figure 4 at no more updates than ours, and the same network where one was published."""
    updates, hidden = r.extra.get("updates"), tuple(r.config.get("hidden", ()))
    if r.config.get("data", "mnist") != "mnist" or updates is None:
        return "–"
    found, names = [], []
    at = literature.figure_4_range(bool(dropout_rates(r)), updates)
    if at:
        found.append(f"{at[1]:.2f} to {at[2]:.2f} ({at[0] // 1000}k, Figure 4, six nets)")
    if dropout_rates(r) and len(set(hidden)) == 1:
        unit = r.config.get("activation", "relu") + ("_maxnorm" if r.config.get("max_norm") else "")
        names.append(f"table2/dropout_{unit}_{len(hidden)}x{hidden[0]}")
    if dropout_rates(r) and hidden == literature.PYLEARN2_RECIPE["hidden"]:
        names.append("pylearn2/60k")
    for number in (literature.PUBLISHED[name] for name in names if name in literature.PUBLISHED):
        where = number.where.split(",")[0] if number.source == literature.JMLR else number.source
        found.append(f"{number.value:.2f}{number.mark} ({number.updates // 1000}k, {where})")
    return "; ".join(found) or "–"
