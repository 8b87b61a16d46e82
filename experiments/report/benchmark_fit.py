"""The benchmark of training runs: `fit`, Keras, PyTorch, a plain loop. Standard library only."""

from pathlib import Path

from experiments.records.libraries import KERAS, OURS, PLAIN_LOOP, TORCH
from experiments.report.benchmark_rows import Row, suites_tables, unique
from experiments.report.markdown import markdown

# What was aimed at, times the time of Keras.
AIMS = {"MLP": 0.5, "convnet": 0.8, "transformer": 0.8, "RNN": 0.8}


def table(results: Path) -> str:
    return suites_tables(results, {"fit": fit})


def fit(rows: list[Row]) -> str:
    """A line a model: an epoch of each library, then what two calls take until they train."""
    header = ["model", "seconds an epoch: `dj.fit`", "× plain loop (aim ≤ 1.1)", "× Keras (aim)",
              "× PyTorch", "first call, s: `dj.fit`", "plain loop", "Keras", "PyTorch",
              "second call, s before it trains: `dj.fit` (aim ≤ 0.1)", "Keras"]  # fmt: skip
    body = []
    for model in unique(row["model"] for row in rows):
        found = {row["library"]: row for row in rows if row["model"] == model}
        ours, plain, keras, torch = map(found.get, (OURS, PLAIN_LOOP, KERAS, TORCH))
        body.append([
            f"{model}, {ours['examples']} examples, batch {ours['batch']}",
            f"{ours['epoch_s']:.3f}", f"{ours['ratio_to_plain_loop']:.2f}",
            f"{_times(ours, keras)} (≤ {AIMS[model]})", _times(ours, torch),
            *(f"{row['first_call_s']:.1f}" if row else "–" for row in (ours, plain, keras, torch)),
            *(_before(row) for row in (ours, keras)),
        ])  # fmt: skip
    return markdown(header, body)


def _times(ours: Row, other: Row | None) -> str:
    """Our epoch in times of another library's."""
    return f"{ours['epoch_s'] / other['epoch_s']:.2f}" if other else "–"


def _before(row: Row | None) -> str:
    """A second call without its epoch; the noise of a clock may leave less than nothing."""
    return f"{max(row['second_call_s'] - row['epoch_s'], 0):.2f}" if row else "–"
