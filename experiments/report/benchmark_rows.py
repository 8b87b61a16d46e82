"""Rows of the benchmark's records, found and shown. Standard library only."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.report.markdown import NOT_RUN

Row = Mapping[str, Any]
HOW = {
    "chained": "chained in one program",
    "dispatched": "dispatched one behind the other",
    "in_turn": "one call after the other, the variants in turn",
}
TITLES = {
    "masks": "Applying dropout, many applications {how}, medians",
    "grad": "Forward and backward, {how}, medians",
    "train_step": "A training step, {how}, 784-1024-1024-1024-10, batch 128, rates 0.2 and 0.5, "
    "float32",
    "thin": "An update inside a training epoch, thinned: 10 updates a life, blocks of 16, rates "
    "0.2 and 0.5, max-norm, float32; medians, beside the same net without dropout",
    "thin_transformer": "An update of a GPT inside a training epoch, the hidden units of the MLPs "
    "and the heads thinned: 10 updates a life, AdamW, float32; medians, beside the same net "
    "without dropout",
    "family": "The family's forward pass, {how}, medians, beside dropout with as many decisions",
    "fit": "Training small models with dropout and Adam on random data, in turn, medians; PyTorch "
    "runs eagerly on the CPU; the second call is of a new model in `dj.fit`, and of the same model "
    "in Keras",
    "gpt": "An update of a small GPT (4 layers, width 128, context 64, batch 12), {how}, medians; "
    "AdamW, clipping and batches included",
    "transformer": "A training step of a Flax transformer block, {how}, medians",
    "attention": "Attention, forward and backward, {how}, medians",
}


def suites_tables(results: Path, suites: Mapping[str, Callable[[list[Row]], str]]) -> str:
    """Every suite that has been run, each under a line that says how."""
    parts = []
    for name, make in suites.items():
        file = results / "benchmark" / f"{name}.json"
        if file.exists():
            measured = json.loads(file.read_text(encoding="utf-8"))
            parts.append(f"{head(measured, name)}\n\n{make(measured['rows'])}")
    return "\n\n".join(parts) or NOT_RUN


def head(measured: Mapping[str, Any], name: str) -> str:
    source = measured["provenance"]
    there = source["device"]
    device = source["cpu"] if there["platform"] == "cpu" else there["kind"]
    title = TITLES[measured["suite"]].format(how=HOW[measured["rows"][0]["mode"]])
    return f"{title} ({device}, jax {source['versions']['jax']}, {suite_link(name)}):"


def suite_link(name: str) -> str:
    return f"[{name}.json](experiments/results/benchmark/{name}.json)"


def one(rows, library, shape, dtype, rate) -> Row | None:
    """The row of one library and case, of many calls at a time; None where there is none."""
    found = [
        row
        for row in rows
        if (row["library"], row["shape"], row["dtype"], row["rate"])
        == (library, shape, dtype, rate)
        and repeated(row)
    ]
    return found[0] if found else None


def repeated(row: Row) -> bool:
    return row["mode"] != "single_call"


def pair(found, column: str) -> str:
    """A column of two rows: at two rates."""
    return " / ".join(
        f"{row[column]:.2f}" if row[column] < 10 else f"{row[column]:.0f}" for row in found
    )


def joined(shape) -> str:
    return "x".join(map(str, shape))


def unique(values) -> list:
    """The values that differ, in order."""
    return [json.loads(text) for text in dict.fromkeys(json.dumps(value) for value in values)]
