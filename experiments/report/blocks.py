"""Find the table or the figure of a name: block NAME of a page is `report/NAME.py`.

A module with a function `table(results)` makes the block of its name, and one with a constant
PICTURE draws the figure of that file name. Nothing is listed by hand: a new file is found. Only
what is asked for is imported, so that a page without figures needs no matplotlib.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parent


def table(name: str, results: Path) -> str:
    """The markdown of a block. Raises ValueError for a name that no module has."""
    if name not in tables():
        raise ValueError(f"no table is called {name!r}; choose one of {', '.join(tables())}")
    return _module(name).table(results)


def figures() -> dict[str, ModuleType]:
    """File name of a picture -> the module that draws it."""
    found = map(_module, sorted(_modules_with("\nPICTURE, SIZE = ")))
    return {module.PICTURE: module for module in found}


def tables() -> list[str]:
    """The names of all blocks."""
    return sorted(_modules_with("\ndef table(results: Path)"))


def _modules_with(text: str) -> Iterator[str]:
    for path in FOLDER.glob("*.py"):
        if text in path.read_text(encoding="utf-8"):
            yield path.stem


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"experiments.report.{name}")
