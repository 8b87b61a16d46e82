"""Fill the marked parts of a page from the records: tables and single values.

A table stands between `<!-- table:NAME -->` and `<!-- /table -->`, on lines of its own. A value
stands between `<!-- value:WHAT -->` and `<!-- /value -->` inside a sentence; `values.py` says what
WHAT can be. Standard library only, so that `scripts/make_tables` runs anywhere.
"""

import posixpath
import re
from pathlib import Path

from experiments.records.record import RESULTS
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
