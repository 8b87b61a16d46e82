"""Rows of the benchmark's records, found and printed. Standard library only."""

import json
from collections.abc import Mapping
from typing import Any

OURS, FLAX = "dropout_jax", "flax.nnx"
FLOORS = ("x * c", "no dropout")
Row = Mapping[str, Any]


def one(rows, library, shape, dtype, rate):
    """The row of one library and case, of many calls at a time; None where there is none."""
    found = [
        row
        for row in rows
        if (row["library"], row["shape"], row["dtype"], row["rate"])
        == (library, shape, dtype, rate)
        and repeated(row)
    ]
    return found[0] if found else None


def repeated(row):
    return row["mode"] != "single_call"


def pair(found, column):
    """A column of two rows: at two rates."""
    return " / ".join(
        f"{row[column]:.2f}" if row[column] < 10 else f"{row[column]:.0f}" for row in found
    )


def aim(sign, values):
    """What was aimed at for two rates."""
    return "–" if values is None else " / ".join(f"{sign} {value:g}" for value in values)


def joined(shape):
    return "x".join(map(str, shape))


def unique(values):
    """The values that differ, in order."""
    return [json.loads(text) for text in dict.fromkeys(json.dumps(value) for value in values)]
