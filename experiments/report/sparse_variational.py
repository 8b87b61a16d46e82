"""LeNet-300-100 pruned by sparse variational dropout, under the published row."""

from collections.abc import Sequence
from pathlib import Path

from experiments.records import literature
from experiments.records.record import Record
from experiments.records.stats import plus_minus
from experiments.report.columns import RUN, final, newest
from experiments.report.markdown import NOT_RUN, link, markdown

# What the table calls it: (published row, column of ours).
COLUMNS = {
    "test error %": ("error", final("test_error")),
    "times fewer weights": ("compression", final("compression", 1)),
    "% pruned: layer 1": ("sparsity1", final("sparsity1", 1)),
    "layer 2": ("sparsity2", final("sparsity2", 1)),
    "layer 3": ("sparsity3", final("sparsity3", 1)),
}


def table(results: Path) -> str:
    """The published row, then a row a run."""
    every = newest(results, "sparse_variational")
    records = [r for r in every if "test_error" in r.final]
    if not records:
        return NOT_RUN
    numbers = [
        literature.PUBLISHED[f"molchanov2017/lenet300100/{row}"] for row, _ in COLUMNS.values()
    ]
    theirs = [f"{number.value:g}{number.mark}" for number in numbers]
    rows = [["published", *theirs, "–", "–", literature.MOLCHANOV]]
    cells = [run, *(cell for _, cell in COLUMNS.values()), *RUN.values()]
    rows += [[cell(r) for cell in cells] for r in records]
    return "\n\n".join([markdown(["LeNet", *COLUMNS, *RUN], rows), *trials(every)])


def run(r: Record) -> str:
    return f"{'-'.join(map(str, r.config['hidden']))}, {r.config['epochs']} epochs"


def trials(records: Sequence[Record]) -> list[str]:
    """How the number of epochs was chosen, where it was."""
    found = [
        f"{r.config['epochs']} epochs {plus_minus(r.final['val_error'])} % at "
        f"{plus_minus(r.final['compression'], 1)} times fewer weights ({link(r.path)})"
        for r in sorted(records, key=lambda r: r.config["epochs"])
        if "val_error" in r.final
    ]
    return ["On the last 10 000 training images: " + "; ".join(found) + "."] if found else []
