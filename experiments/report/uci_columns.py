"""Every method on the UCI sets, a column each."""

from pathlib import Path

from experiments.report import uci


def table(results: Path) -> str:
    return uci.columns(results)
