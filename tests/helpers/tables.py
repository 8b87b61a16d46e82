"""Read a Markdown table, and import a script that has no .py in its name."""

import importlib.machinery
import importlib.util

from experiments.records.record import ROOT


def script(name):
    path = str(ROOT / "scripts" / name)
    loader = importlib.machinery.SourceFileLoader(name, path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def rows(markdown):
    """The table's rows as {column: cell}."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    header, _, *body = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    return [dict(zip(header, line, strict=True)) for line in body]
