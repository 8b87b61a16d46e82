"""Print runs side by side that differ in their dropout: errors, gaps, and what dropout changes."""

from collections.abc import Sequence

from experiments.harness.cli import text_table
from experiments.records.config import dropout_rates
from experiments.records.record import Record
from experiments.records.stats import difference, plus_minus


def comparison(records: Sequence[Record]) -> str:
    """A table of the runs, and a sentence for each that tells its change from the first."""
    held_out = "val" if "val_error" in records[0].final else "test"
    rows, sentences = [], []
    for r in records:
        found, train = r.final[f"{held_out}_error"], r.final["train_error"]
        gap = [a - b for a, b in zip(found, train, strict=True)]
        rows.append([dropout_of(r), *map(plus_minus, (found, train, gap)), len(found)])
        if r is not records[0]:
            change = difference(found, records[0].final[f"{held_out}_error"])
            sentences.append(
                f"{held_out} error: {change.points()} with {dropout_of(r)} than with "
                f"{dropout_of(records[0])}"
            )
    header = ["arm", f"{held_out} error %", "train error %", "gap", "seeds"]
    return "\n".join([text_table(header, rows), "(± standard error of the mean)", *sentences])


def dropout_of(r: Record) -> str:
    """The dropout of a run in words: "dropout input 0.2, hidden 0.5", or "no dropout"."""
    rates = ", ".join(f"{name} {rate:g}" for name, rate in dropout_rates(r).items())
    return f"dropout {rates}" if rates else "no dropout"
