"""Configs as records hold them: compared without the settings that are at their default.

So a Config may get a setting, which old records do not name, and lose one, which only they name.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.records.record import Record

# Settings that no Config has any more, with the one value that the code still stands for. A record
# that holds another value is run again at the commit that it names.
RETIRED = {"warm_up": 0, "l1_share": 0.25, "sparsity_target": 0.1}


def without_defaults(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a config that are not at their default: by these, configs are compared.

    >>> without_defaults({"rate": 0.5, "life": 0, "warm_up": 0}, {"life": 0})
    {'rate': 0.5}
    """
    known = {**RETIRED, **defaults}
    return {k: v for k, v in config.items() if k not in known or known[k] != v}


def dropout_rates(r: "Record") -> dict[str, float]:
    """The dropout rates of a run that are not 0, by the name of their config field or layer."""
    found = {}
    for name, value in r.config.items():
        if name == "rates":  # the input's, then each hidden layer's
            same = len(set(value[1:])) == 1
            layers = ["input", *("hidden" if same else f"hidden{i}" for i in range(1, len(value)))]
            found |= zip(layers, value, strict=True)
        elif is_rate(name):
            found[name.removesuffix("_rate")] = value
    return {name: rate for name, rate in found.items() if rate}


def is_rate(field: str) -> bool:
    return field in ("rate", "rates") or (field.endswith("_rate") and field != "learning_rate")
