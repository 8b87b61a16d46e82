"""Every method on the UCI sets: the column beside column table of `uci`."""

from pathlib import Path

from experiments.report import uci


def table(results: Path) -> str:
    return uci.columns(results)
