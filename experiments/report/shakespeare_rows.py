"""nanoGPT's networks on the whole text, beside its published losses."""

from pathlib import Path

from experiments.records.literature import PUBLISHED
from experiments.report.columns import RUN, final, newest, setting, tabulate
from experiments.report.markdown import NOT_RUN
from experiments.report.shakespeare import BEST, LAST, as_nanogpt

PUBLISHED_AT = {("cpu", 0.0): "nanogpt/cpu", ("gpu", 0.2): "nanogpt/gpu"}


def table(results: Path) -> str:
    """A line a rate; the best along the run is chosen on the text that it is reported on."""
    runs = [
        r
        for r in newest(results, "shakespeare")
        if as_nanogpt(r) and r.config["share"] == 1 and r.config["updates"] is None
    ]
    runs.sort(key=lambda r: (r.config["size"], r.config["rate"]))

    def published(r):
        name = PUBLISHED_AT.get((r.config["size"], r.config["rate"]))
        return f"{PUBLISHED[name].value:g}" if name else "–"

    columns = {
        "network": lambda r: r.config["size"].upper(),
        "rate": setting("rate"),
        "published (best)": published,
        "best": final(BEST, 3),
        "last": final(LAST, 3),
        "updates": lambda r: r.extra["updates"],
        **RUN,
    }
    return tabulate(runs, columns) if runs else NOT_RUN
