"""Table 9: dropout against other regularisers."""

from pathlib import Path

from experiments.report.mlp_rows import mlp_table, published

WHERE = "Table 9"
NAMES = ("l2", "l2_l1", "l2_kl_sparsity", "maxnorm", "dropout_l2", "dropout_maxnorm")
ROWS = {row: f"table9/{row}" for row in NAMES}


def table(results: Path) -> str:
    rows = {row: published(name) for row, name in ROWS.items()}
    return mlp_table(results, "regularizers_table9", rows, "Published: Table 9.")
