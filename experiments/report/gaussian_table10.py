"""Table 10: Gaussian noise in place of Bernoulli noise."""

from pathlib import Path

from experiments.report.mlp_rows import PAPER_BARS, mlp_table, published

WHERE = "Table 10"
ROWS = {row: f"table10/{row}" for row in ("mnist_bernoulli", "mnist_gaussian")}


def table(results: Path) -> str:
    rows = {row: published(name) for row, name in ROWS.items()}
    return mlp_table(results, "gaussian_table10", rows, f"Published: Table 10. {PAPER_BARS}")
