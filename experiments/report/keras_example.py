"""The textbook Keras model beside the same in dropout_jax."""

import math
from collections.abc import Sequence
from pathlib import Path

from experiments.records import literature, stats
from experiments.report.columns import RUN, newest, tabulate
from experiments.report.markdown import NOT_RUN


def table(results: Path) -> str:
    """A row a record: the settings that vary, then every metric."""
    records = newest(results, "keras_example")
    if not records:
        return NOT_RUN
    fields = [
        name
        for name in dict.fromkeys(name for r in records for name in r.config)
        if name != "quick" and len({str(r.config.get(name)) for r in records}) > 1
    ]
    metrics = dict.fromkeys(name for r in records for name in r.final)
    columns = {
        **{_title(name): lambda r, name=name: r.config.get(name, "–") for name in fields},
        **{_title(name): lambda r, name=name: _metric(r.final.get(name)) for name in metrics},
        **RUN,
    }
    records.sort(key=lambda r: str([r.config.get(name) for name in fields]))
    number = literature.PUBLISHED["keras/mnist_mlp/test_accuracy"]
    return (
        f"{tabulate(records, columns)}\n\nPublished for a larger net: {number.value:.2f} % test "
        f"accuracy ({number.source}, {number.note})."
    )


def _title(name):
    return name.replace("_", " ")


def _metric(values: Sequence[float] | None) -> str:
    """Mean ± standard error, with two significant digits of the latter."""
    if values is None:
        return "–"
    mean, stderr = stats.mean_and_stderr(values)
    if not stderr or not math.isfinite(stderr):
        return f"{mean:.4g}"
    return stats.plus_minus(values, digits=max(0, 1 - math.floor(math.log10(stderr))))
