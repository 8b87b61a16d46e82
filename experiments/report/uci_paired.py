"""MC dropout on the UCI sets beside the authors', split by split."""

from pathlib import Path

from experiments.report import uci


def table(results: Path) -> str:
    return uci.paired(results)
