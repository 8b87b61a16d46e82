"""The arms of a comparison, runs that differ in dropout alone: their errors and what it does."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dropout_jax.data import Dataset, split_validation
from dropout_jax.train import Split
from dropout_jax.train.runner import History
from dropout_jax.typing import Array
from experiments.harness.cli import text_table
from experiments.records import record
from experiments.records.config import dropout_rates
from experiments.records.record import Record


def check_counts(**counts: int) -> None:
    """Raise for a count below 1, by the name of its flag."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {count}; write 1 or more")


def keys_of(seeds: int) -> Array:
    """The keys of the seeds 0 to seeds - 1."""
    return jax.vmap(jax.random.key)(jnp.arange(seeds))


def splits(dataset: Dataset, validation: int, most: int | None = None) -> dict[str, Split]:
    """What to train on, and what to report: "test" or, with the test set unread, "val".

    Args:
      dataset: as loaded.
      validation: how many of the last training cases to set aside as "val"; 0 for none.
      most: only the first so many cases of each.
    """
    name, held_out = "test", (dataset.test_x, dataset.test_y)
    if validation:
        name = "val"
        dataset, held_out = split_validation(dataset, validation)
    pairs = {"train": (dataset.train_x, dataset.train_y), name: held_out}
    return {name: (jnp.asarray(x[:most]), jnp.asarray(y[:most])) for name, (x, y) in pairs.items()}


def errors(history: History, runs: slice = slice(None)) -> dict[str, dict[str, np.ndarray]]:
    """The errors of some of the runs of a history in percent, as a result's final and by_epoch."""
    percent = {  # rounded to what float32 holds: 1.45, not 1.4499999582
        name: np.round(100 * values.T[runs].astype(np.float64), 4)
        for name, values in history.metrics.items()
        if name.endswith("_error")
    }
    return {"final": {name: values[:, -1] for name, values in percent.items()}, "by_epoch": percent}


def report(records: Sequence[Record]) -> str:
    """A table of the arms; a sentence for each that follows the first, with its change from it."""
    held_out = "val" if "val_error" in records[0].final else "test"
    rows, sentences = [], []
    for r in records:
        found, train = r.final[f"{held_out}_error"], r.final["train_error"]
        gap = [a - b for a, b in zip(found, train, strict=True)]
        rows.append([arm(r), *map(record.plus_minus, (found, train, gap)), len(found)])
        if r is not records[0]:
            first = records[0].final[f"{held_out}_error"]
            change = record.mean_and_stderr(found)[0] - record.mean_and_stderr(first)[0]
            stderr = record.difference_stderr(found, first)
            spread = "" if stderr is None else f" ± {stderr:.2f}"
            sentences.append(
                f"{held_out} error: {abs(change):.2f}{spread} points "
                f"{'lower' if change < 0 else 'higher'} with {arm(r)} than with {arm(records[0])}"
            )
    header = ["arm", f"{held_out} error %", "train error %", "gap", "seeds"]
    return "\n".join([text_table(header, rows), "(± standard error of the mean)", *sentences])


def arm(r: Record) -> str:
    """What a table calls it: "dropout input 0.2, hidden 0.5"."""
    rates = ", ".join(f"{name} {rate:g}" for name, rate in dropout_rates(r).items())
    return f"dropout {rates}" if rates else "no dropout"
