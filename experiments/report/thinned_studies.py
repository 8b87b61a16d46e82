"""Thinned training in detail: lives, blocks, noise of the gradient, how settings were chosen."""

from collections.abc import Sequence
from pathlib import Path

from experiments.records import record
from experiments.records.record import Record
from experiments.records.stats import plus_minus
from experiments.report.columns import RUN, final, setting, tabulate
from experiments.report.markdown import NOT_RUN, folded, link, markdown
from experiments.report.thinned import (
    ELEMENT,
    NAMES,
    name,
    order,
    runs_by_study,
    titled,
    update_times,
)


def table(results: Path) -> str:
    runs = runs_by_study(results)
    parts = titled(runs, update_times(results), "life", "block")
    parts += [noise(results), settings(runs.get("tune", []))]
    return "\n\n".join(filter(None, parts)) or NOT_RUN


def noise(results: Path) -> str:
    """How much noise shared masks give the gradient, beside a mask for every example."""
    parts = []
    for r in record.newest(record.read_all("thinned_noise", results)):
        noises = {n.removeprefix("noise_"): v for n, v in r.final.items() if n.startswith("noise_")}
        rows = []
        for life, values in noises.items():
            pairs = zip(values, noises[ELEMENT], strict=True)
            to_signal = zip(values, r.final[f"signal_{life}"], strict=True)
            rows.append([
                NAMES.get(life, f"thinned, {life} updates a life, blocks of {r.config['block']}"),
                plus_minus([a / b for a, b in pairs], 1),
                plus_minus([a / b for a, b in to_signal], 3),
                len(values), link(r.path),
            ])  # fmt: skip
        header = ["method", "noise / element-wise noise", "noise / signal", "seeds", "run"]
        title = (
            f"The noise that masks give the mean gradient of {r.config['window']} updates (its "
            "variance, summed over the weights), weights fixed:"
        )
        parts.append(f"{title}\n\n{markdown(header, rows)}")
    return "\n\n".join(parts)


def settings(records: Sequence[Record]) -> str:
    """How learning rates and max-norms were chosen: on validation images alone."""
    if not records:
        return ""
    columns = {
        "tried on the last 10 000 training images": name,
        "learning rate": setting("learning_rate"),
        "max-norm": setting("max_norm"),
        "epochs": lambda r: r.config["epochs"],
        "validation error %": final("val_error"),
        "run": RUN["run"],
    }
    records = sorted(records, key=lambda r: (r.config["epochs"], order(r)))
    return folded("How learning rates and max-norms were chosen", tabulate(records, columns))
