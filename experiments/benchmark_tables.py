"""The benchmark's tables: what was measured, beside what was aimed at. Standard library only."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments import gpu_tables
from experiments.benchmark_rows import (
    FLAX,
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
from experiments.markdown import NOT_RUN, markdown

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
AIM_FAMILY = 1.2


def dropout(results: Path) -> str:
    """Dropout alone and in a training step, on a CPU and on a GPU."""
    of_gpu = {f"{name}_gpu": make for name, make in {**DROPOUT, "masks": gpu_tables.masks}.items()}
    return tables(results, {**DROPOUT, **of_gpu})


def more(results: Path) -> str:
    """Thinned training, the family, a transformer."""
    return tables(results, {**MORE, **{f"{name}_gpu": make for name, make in MORE.items()}})


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
    header = ["forward + backward: × faster than flax.nnx, rate 0.5 / 0.2 "
              f"(aim ≥ {AIM_BACKWARD})", *names]  # fmt: skip
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
    return f"{markdown(header, body)}\n\nAim for ours: at most {AIM_STEP}."


def thin(rows: list[Row]) -> str:
    """Every net and batch, then what lives and blocks cost on one of them."""
    header = ["hidden layers, batch", "× time without dropout: element-wise", "flax.nnx", "thinned",
              "aim", "× arithmetic", "× flax.nnx (aim ≤ 0.33)", "× peak memory"]  # fmt: skip
    body = []
    cases = unique((r["shape"], r["updates"]) for r in rows if r["library"] == THINNED)
    for shape, updates in cases:
        case = [r for r in rows if (r["shape"], r["updates"]) == (shape, updates)]
        found = {r["library"]: r for r in case}
        if len({r["library"] for r in case if r["library"].startswith("thin")}) > 1:
            continue
        ours, plain = found[THINNED], found[FLOORS[1]]
        hidden = f"{len(shape) - 3}x{shape[2]}"
        body.append([
            f"{hidden}, {shape[0]}",
            *(f"{found[name]['ratio_to_floor']:.2f}" if name in found else "–"
              for name in (OURS, FLAX, THINNED)),
            _thin_aim(hidden, shape[0], ours["arithmetic"]),
            f"{ours['arithmetic']:.2f}",
            f"{1 / ours['speedup_over_flax_nnx']:.2f}",
            f"{ours['peak_mib'] / plain['peak_mib']:.2f}",
        ])  # fmt: skip
    return f"{markdown(header, body)}\n\n{lives(rows)}"


def lives(rows: list[Row]) -> str:
    """Lives of a sub-network, in updates, and sizes of a block, on one net."""
    most = max(r["updates"] for r in rows)
    chosen = [r for r in rows if r["updates"] == most and r["library"].startswith("thin")]
    shape = chosen[0]["shape"]
    body = [
        [*r["library"].removeprefix("thin ").split("/"), f"{r['ratio_to_floor']:.2f}",
         f"{r['ratio_to_floor_iqr']:.2f}", f"{r['median_us'] / 1000:.2f}"]
        for r in chosen
    ]  # fmt: skip
    title = f"updates in a life ({len(shape) - 3}x{shape[2]}, batch {shape[0]})"
    return markdown([title, "block", "× time without dropout", "IQR", "median ms"], body)


def family(rows: list[Row]) -> str:
    """Every member beside dropout with as many decisions, and beside Gaussian numbers."""
    dtypes = unique(row["dtype"] for row in rows)
    header = [
        f"member, {rows[0]['rate']:g} dropped", "array",
        *(f"× dropout, {dtype}" for dtype in dtypes),
        *(f"× `x * normal`, {dtype}" for dtype in dtypes),
    ]  # fmt: skip
    body = []
    members = [row for row in rows if row["library"] not in FAMILY_FLOORS]
    for name in unique(row["library"] for row in members):
        found = [row for row in members if row["library"] == name]
        by_dtype = {row["dtype"]: row for row in found}
        body.append([
            name, joined(found[0]["shape"]),
            *(_times(by_dtype, dtype, "ratio_to_floor") for dtype in dtypes),
            *(_times(by_dtype, dtype, "ratio_to_normal") for dtype in dtypes),
        ])  # fmt: skip
    note = (
        f"Aim: at most {AIM_FAMILY} times dropout with the same `broadcast_dims`. It is out of "
        "reach where the law needs a logarithm or a Gaussian number an element: there the last "
        "columns show the time beside that of one multiplication by `jax.random.normal`. "
        "`standout` computes and compares a probability for every element, `dropout` one for all."
    )
    return f"{markdown(header, body)}\n\n{note}"


def transformer(rows: list[Row]) -> str:
    """A training step of a Flax transformer block, its dropout replaced."""
    flax = next(r for r in rows if r["library"] == FLAX)
    header = [
        "dropout",
        "× time with flax.nnx",
        "× time without dropout",
        "IQR",
        "median ms",
    ]
    body = [
        [TRANSFORMER[r["library"]], f"{1 / r['speedup_over_flax_nnx']:.2f}",
         f"{r['ratio_to_floor']:.2f}", f"{r['ratio_to_floor_iqr']:.2f}",
         f"{r['median_us'] / 1000:.1f}"]
        for r in rows
    ]  # fmt: skip
    batch, length, width = flax["shape"]
    note = f"Batch {batch}, {length} positions, width {width}, rate {flax['rate']:g}, float32."
    return f"{markdown(header, body)}\n\n{note}"


def _times(by_dtype, dtype, column):
    ratio = by_dtype[dtype][column] if dtype in by_dtype else None
    return "–" if ratio is None else f"{ratio:.2f}"


def _thin_aim(hidden: str, batch: int, arithmetic: float) -> str:
    if hidden == "3x1024" and 100 <= batch <= 128:
        return "≤ 0.35"
    return f"≤ {1.1 * arithmetic:.2f}" if hidden in {"3x2048", "2x4096"} else "–"


THINNED = "thin 10/16"
TRANSFORMER = {
    "no dropout": "none",
    FLAX: "flax.nnx",
    OURS: "after `layers.replace_dropout(model)`",
    "dropout_jax, attention too": "and with `layers.dot_product_attention`",
}
FAMILY_FLOORS = ("dropout", "x * normal")
HOW = {"chained": "chained in one program", "dispatched": "dispatched one behind the other"}
TITLES = {
    "masks": "Applying dropout, many applications {how}, medians",
    "grad": "Forward and backward, {how}, medians",
    "train_step": "A training step, {how}, 784-1024-1024-1024-10, batch 128, rates 0.2 and 0.5, "
    "float32",
    "thin": "An update inside a training epoch, thinned: 10 updates a life, blocks of 16, rates "
    "0.2 and 0.5, max-norm, float32; medians, beside the same net without dropout",
    "family": "The family's forward pass, {how}, medians, beside dropout with as many decisions",
    "transformer": "A training step of a Flax transformer block, {how}, medians",
}
DROPOUT: dict[str, Callable[[list[Row]], str]] = {
    "masks": masks,
    "grad": grad,
    "train_step": train_step,
}
MORE: dict[str, Callable[[list[Row]], str]] = {
    "thin": thin,
    "family": family,
    "transformer": transformer,
}
