"""Group the runs of a figure by budget, and name their nets in a legend."""

from collections.abc import Iterable, Sequence

from experiments.records.record import Record
from experiments.report.mlp_rows import updates
from experiments.report.mlp_settings import how_trained


def by_budget(records: Iterable[Record]) -> list[tuple[str, list[Record]]]:
    """Records of one budget and as many updates, under a name that says so, and which nets."""
    groups: dict[tuple, list[Record]] = {}
    for r in records:
        key = (r.config["budget"], r.config["updates"], *how_trained(r))
        groups.setdefault(key, []).append(r)
    return [
        (", ".join([nets(group), f"{updates(group[0])} updates", *how_trained(group[0])]), group)
        for _, group in sorted(groups.items())
    ]


def nets(group: Sequence[Record]) -> str:
    """The hidden layers of a group, or the units that each keeps; how many images where alike."""
    prefix, layers = "", {tuple(r.config["hidden"]) for r in group}
    if len(layers) > 1:
        prefix = "pn = "
        layers = {tuple(round(n * (1 - r.config["rate"])) for n in r.config["hidden"])
                  for r in group}  # fmt: skip
    cases = {r.config["training_cases"] for r in group}
    images = f", {cases.pop()} images" if len(cases) == 1 and None not in cases else ""
    return prefix + " or ".join("-".join(map(str, net)) for net in sorted(layers)) + images
