"""The dropout rates in a record's config."""

from experiments.records.record import Record


def dropout_rates(r: Record) -> dict[str, float]:
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
