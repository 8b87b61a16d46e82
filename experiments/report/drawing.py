"""Draw the figures anew from the committed records; --check only compares.

A figure carries the SHA-256 of the records that it was drawn from, and --check compares that:
pixels differ between versions of matplotlib and of the fonts, the records do not.
Exit code 0: all are as the records say. 1 (with --check): the named figures differ. 2: bad input.
"""

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib
from matplotlib.figure import Figure  # without pyplot: it needs no screen and keeps nothing
from PIL import Image

from experiments.records.record import RESULTS, Record
from experiments.report import blocks, style

SOURCE = "Source-SHA256"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if one differs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)
    differing = False
    try:
        for name, module in blocks.figures().items():
            path = arguments.results / "figures" / name
            files = sources(module, arguments.results)
            if source_of(path) == (digest(files) if files else None):
                continue
            differing = True
            if arguments.check:
                print(f"figure {name}: differs from the records")
            elif files:
                save(module, arguments.results, path)
                print(f"figure {name}: drawn anew")
            else:
                path.unlink()
                print(f"figure {name}: removed, its records are gone")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(arguments.check and differing)


def sources(module: ModuleType, results: Path) -> list[Path]:
    """The files that a figure is drawn from; none while something is missing."""
    records = module.records(results)
    more = module.more_sources(results) if hasattr(module, "more_sources") else []
    return [*(r.path for r in records), *more] if records and more is not None else []


def save(module: ModuleType, results: Path, path: Path) -> None:
    """Draw the figure of a report module."""
    picture(module.draw, module.records(results), path, sources(module, results), module.SIZE)


def picture(
    draw: Callable[[Any, Sequence[Record]], None],
    records: Sequence[Record],
    path: Path,
    files: Sequence[Path] = (),
    size: tuple[float, float] = (5.5, 3.8),
) -> None:
    """Draw records and write the picture, with the digest of the files that it was drawn from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(style.RC):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure, records)
        about = {SOURCE: digest(files or [r.path for r in records]), "Software": None}
        figure.savefig(path, dpi=150, metadata=about)


def source_of(path: Path) -> str | None:
    """The digest that a figure carries; None where there is no such figure."""
    if not path.exists():
        return None
    with Image.open(path) as image:
        return image.info.get(SOURCE)


def digest(files: Sequence[Path]) -> str:
    """SHA-256 of the names and contents of files, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()
