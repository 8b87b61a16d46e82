"""The sweep of `rate_advice` as a picture: the error by the rate."""

from collections.abc import Sequence
from typing import Any

from experiments.records.record import Record
from experiments.report import style
from experiments.report.columns import seeds
from experiments.report.curves import means_and_stderrs

LINES = {"val_error": ("validation", "o-", "full"), "train_error": ("train", "o--", "none")}


def draw(figure: Any, records: Sequence[Record]) -> None:
    """Validation and training error of the newest sweep, with bars of one standard error."""
    r, axis = records[-1], figure.subplots()
    rates = sorted(r.config["candidates"])
    for metric, (name, line, fill) in LINES.items():
        mean, stderr = means_and_stderrs(r.final[f"{metric}_{rate:g}"] for rate in rates)
        axis.errorbar(rates, mean, stderr, fmt=line, fillstyle=fill, ms=4, capsize=2, label=name,
                      color=style.DROPOUT)  # fmt: skip
    best = r.extra["best"]
    axis.axvline(best, color=style.PUBLISHED, lw=1, ls=":", label=f"the advice: {best:g}")
    data = style.DATA.get(r.config["data"], "your data")
    axis.set(xlabel="rate of the hidden layers", ylabel="error %", ylim=(0, None))
    axis.set_title(f"{data}, {seeds(r)} seeds a rate (bars: ± 1 s.e.)")
    axis.legend()
