"""Markdown tables, text that unfolds, and links to records."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.records.record import Record

NOT_RUN = "*Not run yet.*"


def markdown(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table, a line a row."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def folded(summary: str, text: str) -> str:
    """Text that a reader unfolds; `summary` is plain text."""
    return f'<details markdown="1"><summary>{summary}</summary>\n\n{text}\n\n</details>'


def device(r: Record) -> str:
    """What a run was made on: the model of the CPU, or the kind of the accelerator."""
    there = r.provenance["device"]
    return r.provenance["cpu"] if there["platform"] == "cpu" else there["kind"]


def link(path: Path) -> str:
    """A link to a record, from the README."""
    return f"[{path.stem}](experiments/results/{path.parent.name}/{path.name})"
