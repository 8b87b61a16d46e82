"""The quickstart: 300 digits learned with dropout and without."""

from pathlib import Path

from experiments.records.record import Record
from experiments.report.dropout_arms import arms_table
from experiments.report.learning_curves import draw as draw
from experiments.report.learning_curves import with_curves

PICTURE, SIZE = "learning_curves_quickstart.png", (5.5, 3.8)


def table(results: Path) -> str:
    """With and without dropout."""
    return arms_table(results, "quickstart")


def records(results: Path) -> list[Record]:
    return with_curves("quickstart", results)
