"""All published rows in short: the longest run of each beside what was published."""

from pathlib import Path

from experiments.records import literature
from experiments.records.record import Record
from experiments.report import gaussian_table10, mnist_table2, pylearn2_recipe, regularizers_table9
from experiments.report.columns import RUN, tabulate
from experiments.report.markdown import NOT_RUN
from experiments.report.mlp_rows import Row, ours, published, reported_runs, text, updates
from experiments.report.mlp_settings import how_trained

TABLES = (mnist_table2, pylearn2_recipe, regularizers_table9, gaussian_table10)


def table(results: Path) -> str:
    """A line a row that was published. Of runs as long as each other, the usual one is shown:
    float32 and not thinned."""
    lines, runs = [], 0
    for module in TABLES:
        found = reported_runs(results, module.__name__.rpartition(".")[2])
        found.sort(key=lambda r: (r.extra["updates"], not how_trained(r)))
        records = {r.config["row"]: r for r in found}
        runs += len(records)
        lines += [
            (module.WHERE, Row(row, published(name), records.get(row)), name)
            for row, name in module.ROWS.items()
            if name
        ]

    def of_run(cell, missing="–"):
        return lambda line: cell(line[1].run) if line[1].run else missing

    columns = {
        "of": lambda line: line[0],
        "row": lambda line: line[1].name,
        "published %": lambda line: text(line[1].number),
        "ours %": of_run(ours, "not run"),
        "updates (of theirs)": lambda line: share(line[1].run, line[2]) if line[1].run else "–",
        "seeds": of_run(RUN["seeds"]),
        "run": of_run(RUN["run"]),
    }
    return tabulate(lines, columns) if runs else NOT_RUN


def share(r: Record, name: str) -> str:
    """The updates of a run, as a share of the published run's, and how it was trained."""
    theirs = literature.PUBLISHED[name].updates
    percentage = f" ({r.extra['updates'] / theirs:.1%})" if theirs else ""
    return ", ".join([f"{updates(r)}{percentage}", *how_trained(r)])
