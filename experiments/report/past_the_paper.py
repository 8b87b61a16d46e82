"""One mask of an image, or two that have to agree (R-Drop)."""

from pathlib import Path

from experiments.records import literature
from experiments.report.mlp_rows import mlp_table


def table(results: Path) -> str:
    best = [literature.PUBLISHED[name].value for name in (
        "table2/dropout_relu_maxnorm_2x8192", "ma2017/2x8192_relu_maxnorm/expectation_linear",
    )]  # fmt: skip
    rows = dict.fromkeys(("dropout", "dropout_r_drop", "gaussian_r_drop"))
    note = "Published, of 2 layers of 8192: {:.2f} % (Table 2), {:.2f} % (Ma et al. 2017)."
    return mlp_table(results, "past_the_paper", rows, note.format(*best))
