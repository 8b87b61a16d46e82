"""The recipe of pylearn2, with dropout and without."""

from pathlib import Path

from experiments.report.mlp_rows import mlp_table, published

WHERE = "pylearn2"
ROWS = {"dropout_60k": "pylearn2/60k", "standard_60k": None}


def table(results: Path) -> str:
    rows = {row: name and published(name) for row, name in ROWS.items()}
    note = "Published: one run, after 264 000 updates."
    return mlp_table(results, "pylearn2_recipe", rows, note)
