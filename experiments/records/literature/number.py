"""A published number or curve: its value, and where it was read. Standard library only.

The papers of the Toronto school write p for the probability of *keeping* a unit; `rate_of` turns it
into a rate, and `literature` is the only place where that happens. Gal's p is already the rate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# How a number came to us. V is exact to 0.005 points.
TAGS = {
    "P": "read in the paper",
    "V": "read off the coordinates of the paper's vector figure",
    "C": "read in public code or its stored output",
    "W": "read on a web page",
    "D": "derived by arithmetic",
    "M": "quoted from memory: the paper was not at hand",
}


@dataclass(frozen=True)
class Published:
    """One number as printed, with what its spread means ("" where the paper does not say)."""

    value: float
    spread: float | None
    source: str
    where: str
    tag: str
    unit: str = field(default="test error %", kw_only=True)
    spread_is: str = field(default="", kw_only=True)
    updates: int | None = field(default=None, kw_only=True)
    note: str = field(default="", kw_only=True)

    @property
    def mark(self) -> str:
        """What a table puts after the number: nothing where it was read exactly."""
        return {"W": "†", "M": "‡"}.get(self.tag, "")

    @property
    def stderr(self) -> float | None:
        """The spread, where the paper says that it is a standard error."""
        return self.spread if self.spread_is == "s.e." else None


@dataclass(frozen=True)
class Curve:
    """Points (x, value, spread or None) of a published figure."""

    points: tuple[tuple[float, float, float | None], ...]
    source: str
    where: str
    tag: str
    x: str
    unit: str = "test error %"
    spread_is: str = ""


def rate_of(p: float) -> float:
    """The rate of dropping that a paper's probability p of keeping means: 1 - p.

    >>> rate_of(0.8)
    0.2
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p is {p}; a probability of keeping a unit lies between 0 and 1")
    return round(1 - p, 10)  # 1 - 0.8 is 0.19999999999999996, and it is to name a config


def rows(
    prefix: str, source: str, where: str, tag: str, values: Mapping[str, Any], **common: Any
) -> dict[str, Published]:
    """One Published a row; a row is a value or (value, spread)."""
    pairs = {k: v if isinstance(v, tuple) else (v, None) for k, v in values.items()}
    return {
        f"{prefix}/{name}": Published(value, spread, source, where, tag, **common)
        for name, (value, spread) in pairs.items()
    }


JMLR = "Srivastava et al. 2014, JMLR 15"
