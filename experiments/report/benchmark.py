"""The benchmark of dropout: alone, with its backward pass, and in a training step, beside the aims.

Standard library only.
"""

from pathlib import Path

from experiments.records.libraries import COPY, FLAX_NNX, FLOOR, FLOORS, OURS, OURS_KERNEL
from experiments.report.benchmark_rows import (
    Row,
    joined,
    one,
    pair,
    repeated,
    suites_tables,
    unique,
)
from experiments.report.markdown import markdown

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
AIM_GPU = (
    "Aim, for bfloat16 at rates of 0.1 and 0.5: at least 85 % of the copy's bandwidth, and 3 times "
    f"as fast as {FLAX_NNX}."
)
NAMES_GPU = (FLOOR, OURS, OURS_KERNEL, FLAX_NNX)


def table(results: Path) -> str:
    """Dropout alone and in a training step, beside the aims: on a CPU, then alone on a GPU."""
    measured = {
        "masks": masks,
        "grad": lambda rows: f"{grad(rows)}\n\nAim: at least {AIM_BACKWARD}.",
        "train_step": lambda rows: f"{train_step(rows)}\n\nAim for ours: at most {AIM_STEP}.",
        "masks_gpu": masks_on_a_gpu,
    }
    return suites_tables(results, measured)


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
    return f"{markdown(header, body)}\n\n{by_library(rows)}"


def by_library(rows: list[Row]) -> str:
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


def masks_on_a_gpu(rows: list[Row]) -> str:
    """A line a case: how much of a copy's bandwidth, and how much faster than Flax."""
    names = [name for name in NAMES_GPU if any(r["library"] == name for r in rows)]
    faster = [name for name in names if name not in (FLOOR, FLAX_NNX)]
    header = ["forward", "rate", "copy µs", f"% of its bandwidth: {names[0]}", *names[1:],
              f"× faster than {FLAX_NNX}: {faster[0]}", *faster[1:]]  # fmt: skip
    cases = unique((r["shape"], r["dtype"], r["rate"]) for r in rows if r["library"] == COPY)
    body = []
    for shape, dtype, rate in cases:
        found = {name: one(rows, name, shape, dtype, rate) for name in (COPY, *names)}
        copied = found[COPY]["median_us"]
        body.append([
            f"{joined(shape)} {dtype}", f"{rate:g}", f"{copied:.0f}",
            *(f"{100 * copied / found[name]['median_us']:.0f}" for name in names),
            *(f"{found[name]['speedup_over_flax_nnx']:.2f}" for name in faster),
        ])  # fmt: skip
    return f"{markdown(header, body)}\n\n{AIM_GPU}"


def aim(sign: str, values) -> str:
    """What was aimed at for two rates."""
    return "–" if values is None else " / ".join(f"{sign} {value:g}" for value in values)
