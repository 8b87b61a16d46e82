"""What concrete dropout learns from N examples, beside the authors' values."""

from pathlib import Path

from experiments.records import literature
from experiments.records.stats import plus_minus
from experiments.report.columns import RUN, newest, tabulate
from experiments.report.markdown import NOT_RUN

METRICS = {
    "RMSE": "rmse",
    "rate: input": "rate_input",
    "hidden 1": "rate_hidden1",
    "hidden 2": "rate_hidden2",
    "mean": "rate_mean",
    "log variance": "rate_log_variance",
    "aleatoric sd": "aleatoric_sd",
    "epistemic sd": "epistemic_sd",
}


def table(results: Path) -> str:
    """A row a number of examples, with the published value in brackets."""
    records = newest(results, "concrete_synthetic")
    if not records:
        return NOT_RUN
    columns = {
        "N": lambda r: r.config["examples"],
        **{title: beside_published(metric) for title, metric in METRICS.items()},
        "repetitions": RUN["seeds"],
        "device": RUN["device"],
        "run": RUN["run"],
    }
    text = tabulate(sorted(records, key=lambda r: r.config["examples"]), columns)
    note = literature.PUBLISHED["concrete/10/rmse"].note
    return f"{text}\n\nIn brackets: {literature.CONCRETE}, {note}."


def beside_published(metric: str):
    """A column: ours, and in brackets what was published for as many examples."""
    digits = 3 if metric.startswith("rate") else 2

    def cell(r):
        number = literature.PUBLISHED.get(f"concrete/{r.config['examples']}/{metric}")
        theirs = "–" if number is None else f"{number.value:g}{number.mark}"
        return f"{plus_minus(r.final[metric], digits)} ({theirs})"

    return cell
