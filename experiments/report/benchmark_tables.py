"""The benchmark's tables: what was measured, beside what was aimed at. Standard library only."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.records.markdown import NOT_RUN, markdown
from experiments.report import gpu_tables, workload_tables
from experiments.report.benchmark_rows import (
    FLOORS,
    OURS,
    Row,
    aim,
    joined,
    one,
    pair,
    repeated,
    unique,
)

# What was aimed at on two CPU cores: times the floor, and times faster than flax.nnx, at rates 0.5
# and 0.2.
AIMS = {
    ("4096x4096", "float32"): ((0.9, 1.5), (14, 8)),
    ("4096x4096", "bfloat16"): ((1.3, 2.0), (14, 9)),
    ("1024x1024", "float32"): ((2.5, 4), (9, 6)),
    ("128x1024", "float32"): ((3, 3), (6, 5)),
}
AIM_BACKWARD = 3
AIM_STEP = 1.03


def dropout(results: Path) -> str:
    """Dropout alone and in a training step, beside the aims: on a CPU, then alone on a GPU."""
    measured = {
        "masks": masks,
        "grad": lambda rows: f"{grad(rows)}\n\nAim: at least {AIM_BACKWARD}.",
        "train_step": lambda rows: f"{train_step(rows)}\n\nAim for ours: at most {AIM_STEP}.",
        "masks_gpu": gpu_tables.masks,
    }
    return tables(results, measured)


def more(results: Path) -> str:
    """Thinned training, the family, a transformer."""
    return tables(results, workload_tables.SUITES)


def more_gpu(results: Path) -> str:
    """What else was measured on a GPU."""
    suites = {"grad": grad, "train_step": train_step, **workload_tables.SUITES}
    return tables(results, {f"{name}_gpu": make for name, make in suites.items()})


def tables(results: Path, suites: Mapping[str, Callable[[list[Row]], str]]) -> str:
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
    link = f"[{name}.json](experiments/results/benchmark/{name}.json)"
    title = TITLES[measured["suite"]].format(how=HOW[measured["rows"][0]["mode"]])
    return f"{title} ({device}, jax {source['versions']['jax']}, {link}):"


def masks(rows: list[Row]) -> str:
    """Ours beside the aims, then every library at one size."""
    header = ["forward", "× time of `x * c`, rate 0.5 / 0.2", "aim",
              "× faster than flax.nnx, rate 0.5 / 0.2", "aim"]  # fmt: skip
    body = []
    for shape, dtype in unique((row["shape"], row["dtype"]) for row in rows):
        found = [one(rows, OURS, shape, dtype, rate) for rate in (0.5, 0.2)]
        if None in found:
            continue
        floor, faster = AIMS.get((joined(shape), dtype), (None, None))
        body.append([
            f"{joined(shape)} {dtype}",
            pair(found, "ratio_to_floor"), aim("≤", floor),
            pair(found, "speedup_over_flax_nnx"), aim("≥", faster),
        ])  # fmt: skip
    return f"{markdown(header, body)}\n\n{libraries(rows)}"


def libraries(rows: list[Row]) -> str:
    """Each library at each rate: times the floor, for the middle size in float32."""
    shapes = unique(row["shape"] for row in rows)
    shape = shapes[len(shapes) // 2]
    chosen = [r for r in rows if r["shape"] == shape and r["dtype"] == "float32" and repeated(r)]
    rates = unique(row["rate"] for row in chosen)
    names = [name for name in unique(row["library"] for row in chosen) if name not in FLOORS]
    body = [
        [name, *(f"{one(rows, name, shape, 'float32', r)['ratio_to_floor']:.1f}" for r in rates)]
        for name in names
    ]
    title = f"× time of `x * c`, {joined(shape)} float32"
    return markdown([title, *(f"rate {rate:g}" for rate in rates)], body)


def grad(rows: list[Row]) -> str:
    """Forward and backward: how much faster than Flax, and what is kept in between."""
    names = [name for name in unique(row["library"] for row in rows) if name not in FLOORS]
    header = ["forward + backward: × faster than flax.nnx, rate 0.5 / 0.2", *names]
    body = []
    for shape, dtype in unique((row["shape"], row["dtype"]) for row in rows):
        cells = []
        for name in names:
            found = [one(rows, name, shape, dtype, rate) for rate in (0.5, 0.2)]
            cells.append("–" if None in found else pair(found, "speedup_over_flax_nnx"))
        body.append([f"{joined(shape)} {dtype}", *cells])
    bits = []
    for name in names:
        kept = [r["residual_bits"] for r in rows if r["library"] == name]
        kept = [b for b in kept if b is not None]
        low, high = (
            (f"{edge(kept):.2f}".rstrip("0").rstrip(".") for edge in (min, max))
            if kept
            else ("–", "–")
        )
        bits.append(low if low == high else f"{low} to {high}")
    return markdown(header, [*body, ["bits an element kept for the backward pass", *bits]])


def train_step(rows: list[Row]) -> str:
    """A training step of 784-1024-1024-1024-10 relative to the same net without dropout."""
    header = ["library", "× time without dropout", "IQR", "median ms"]
    body = [
        [r["library"], f"{r['ratio_to_floor']:.3f}", f"{r['ratio_to_floor_iqr']:.3f}",
         f"{r['median_us'] / 1000:.2f}"]
        for r in rows
    ]  # fmt: skip
    return markdown(header, body)


HOW = {"chained": "chained in one program", "dispatched": "dispatched one behind the other"}
TITLES = {
    "masks": "Applying dropout, many applications {how}, medians",
    "grad": "Forward and backward, {how}, medians",
    "train_step": "A training step, {how}, 784-1024-1024-1024-10, batch 128, rates 0.2 and 0.5, "
    "float32",
    **workload_tables.TITLES,
}
