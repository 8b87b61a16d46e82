"""The ladder network's supervised baseline: what noise alone reaches, and the noises compared."""

import math
from collections.abc import Sequence
from pathlib import Path

from experiments.records import literature, record
from experiments.records.record import Record
from experiments.records.stats import mean_and_stderr
from experiments.report.columns import ERRORS, RUN, final, setting, tabulate
from experiments.report.markdown import NOT_RUN
from experiments.report.mlp_rows import selection, updates

PUBLISHED = "ladder/supervised_baseline"
LAWS = {
    "additive": "additive Gaussian",
    "gaussian": "Gaussian factors",
    "bernoulli": "Bernoulli factors",
}


def table(results: Path) -> str:
    """The tested runs, then the trials on validation data, the best first."""
    every = record.read_all("ladder_baseline", results)
    runs = record.newest(every)
    tested = [r for r in runs if "test_error" in r.final]
    if not tested:
        return NOT_RUN
    number = literature.PUBLISHED[PUBLISHED]
    columns = {
        "row": lambda r: r.config["row"],
        **NOISE,
        **ERRORS,
        "test error with the statistics of training %": final("noisy_statistics_test_error"),
        "updates": updates,
        "minutes": lambda r: f"{math.fsum(r.extra['seconds']) / 60:.0f}",
        "settings": lambda r: selection(r, every),
        **RUN,
    }
    note = (
        f"Published: {number.value:.2f} ± {number.spread:.2f}{number.mark} %. The noise on a layer "
        "and on the input is the standard deviation where it is added, and the rate of the dropout "
        "of the same variance where it multiplies. EMA: the decay of the weights' average. "
        "(‡ quoted from memory: the paper was not at hand)"
    )
    trials = trials_table([r for r in runs if "val_error" in r.final])
    return "\n\n".join([tabulate(tested, columns), note, *trials])


def trials_table(trials: Sequence[Record]) -> list[str]:
    """All trials, best first; nothing where there are none."""
    columns = {
        **NOISE,
        "validation error %": final("val_error"),
        "train error %": ERRORS["train error %"],
        "updates": updates,
        "seeds": RUN["seeds"],
        "run": RUN["run"],
    }
    best_first = sorted(trials, key=lambda r: mean_and_stderr(r.final["val_error"])[0])
    caption = "Trials on the last 10 000 training images:"
    return [caption, tabulate(best_first, columns)] if trials else []


def of_network(r: Record) -> str:
    """The law of the noise, and the width where it is not the paper's."""
    wide = r.config["hidden"]
    other = "" if wide == [1000, 500, 250, 250, 250] else f", {'-'.join(map(str, wide))}"
    return LAWS[r.config["law"]] + other


NOISE = {
    "noise": of_network,
    "on a layer": setting("amount"),
    "on the input": setting("input_amount"),
    "EMA": lambda r: f"{r.config['ema']:g}" if r.config["ema"] else "–",
}
