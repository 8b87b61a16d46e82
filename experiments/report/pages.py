"""Fill the tables and values of the pages from the committed records; --check only compares.

A table stands between `<!-- table:NAME -->` and `<!-- /table -->`, on lines of its own. A value
stands between `<!-- value:WHAT -->` and `<!-- /value -->` inside a sentence; `values.py` says what
WHAT can be. Standard library only, so that `scripts/make_tables` runs anywhere.
Exit code 0: all are as the records say. 1 (with --check): the named parts differ. 2: bad input.
"""

import argparse
import os
import posixpath
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.records.record import RESULTS, ROOT
from experiments.report import blocks
from experiments.report.values import value

MARKED = re.compile(
    r"<!-- (table|value):([^>]+) -->((?:(?!<!-- (?:table|value):).)*?)<!-- /\1 -->", re.DOTALL
)
START = re.compile(r"<!-- (?:table|value):[^>]* -->")
LINK = re.compile(r"(?<=\]\()[^):]+(?=\))")  # to a file, not to a page of the web


def regenerate(text: str, results: Path = RESULTS, folder: str = ".") -> tuple[str, list[str]]:
    """`text` with every marked part made anew, and the names of the parts that differed.

    Args:
      text: a page.
      results: the folder of records.
      folder: where the page lies, seen from the root: tables link from the root, a page from
        where it is.

    Raises:
      ValueError: for a table of an unknown name, a value that no record holds, or a mark that
        does not end.
    """
    differing = []

    def fill(found):
        kind, name, old = found.groups()
        new = value(name, results) if kind == "value" else f"\n{table(name, results, folder)}\n"
        if new != old:
            differing.append(f"{kind} {name}")
        return f"<!-- {kind}:{name} -->{new}<!-- /{kind} -->"

    whole = {found.start() for found in MARKED.finditer(text)}
    for start in START.finditer(text):
        if start.start() not in whole:
            raise ValueError(f"the mark {start.group()} does not end with its <!-- / -->")
    return MARKED.sub(fill, text), differing


def table(name: str, results: Path, folder: str) -> str:
    """A table with its links made relative to the folder of a page."""
    return LINK.sub(lambda to: posixpath.relpath(to[0], folder), blocks.table(name, results))


def main(argv: Sequence[str] | None = None) -> int:
    """The command `scripts/make_tables`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if one differs")
    parser.add_argument("--pages", type=Path, nargs="+", default=all_pages())
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)
    found = []
    try:
        for page in arguments.pages:
            folder = os.path.relpath(page.parent, ROOT)
            text = page.read_text(encoding="utf-8")
            made, differing = regenerate(text, arguments.results, folder)
            if not arguments.check and differing:
                page.write_text(made, encoding="utf-8")
            found += differing
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name in found:
        print(f"{name}: {'differs from the records' if arguments.check else 'made anew'}")
    return int(arguments.check and bool(found))


def all_pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
