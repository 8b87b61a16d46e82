"""Where dropout helps a small convnet: dense layer, feature maps, or both."""

from pathlib import Path

from experiments.records.record import Record
from experiments.records.stats import difference
from experiments.report.columns import ERRORS, RUN, newest, tabulate
from experiments.report.markdown import NOT_RUN


def table(results: Path) -> str:
    """A row an arm, with its change from the net without dropout."""
    records = newest(results, "convnet")
    if not records:
        return NOT_RUN
    records.sort(key=lambda r: (-r.config["examples"], str(_without_dropout(r)),
                                r.config["dense_rate"], r.config["maps"] != "none"))  # fmt: skip

    def change(r):
        alike = [p for p in records if _without_dropout(p) == _without_dropout(r)]
        none = [p for p in alike if not has_dropout(p)]
        if not none or not has_dropout(r):
            return "–"
        return difference(r.final["test_error"], none[0].final["test_error"]).signed()

    columns = {
        "dropout of feature maps": maps,
        "of the dense layer": dense,
        **ERRORS,
        "change from none": change,
        "training images (epochs)": lambda r: f"{r.config['examples']} ({r.config['epochs']})",
        **RUN,
    }
    return tabulate(records, columns)


def maps(r: Record) -> str:
    kind = r.config["maps"]
    return kind if kind == "none" else f"{kind} {r.config['maps_rate']:g}"


def dense(r: Record) -> str:
    return f"{r.config['dense_rate']:g}" if r.config["dense_rate"] else "none"


def has_dropout(r: Record) -> bool:
    return r.config["maps"] != "none" or r.config["dense_rate"] > 0


def _without_dropout(r):
    return {k: v for k, v in r.config.items() if k not in ("maps", "maps_rate", "dense_rate")}
