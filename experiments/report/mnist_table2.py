"""Table 2: dropout, max-norm, width and maxout."""

from pathlib import Path

from experiments.report.mlp_rows import mlp_table, published

WHERE = "Table 2"
NETS = (
    "logistic_3x1024",
    "relu_3x1024",
    "relu_maxnorm_3x1024",
    "relu_maxnorm_3x2048",
    "relu_maxnorm_2x4096",
    "relu_maxnorm_2x8192",
    "maxnorm_maxout_2x5x240",
)
ROWS = {
    f"{arm}_{net}": f"table2/dropout_{net}" if arm == "dropout" else None
    for net in NETS
    for arm in ("dropout", "standard")
}
"""Row -> the name of what was published, if anything."""


def table(results: Path) -> str:
    rows = {row: name and published(name) for row, name in ROWS.items()}
    return mlp_table(results, "mnist_table2", rows, "Published: Table 2, after 1 000 000 updates.")
