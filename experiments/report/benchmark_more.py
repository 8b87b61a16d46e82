"""The benchmark of thinned training, of the family and of a transformer. Standard library only."""

from pathlib import Path

from experiments.records.libraries import (
    ATTENTION_TOO,
    DROPOUT,
    FLAX_NNX,
    NO_DROPOUT,
    NORMAL,
    OURS,
    thinned,
)
from experiments.report.benchmark_rows import Row, joined, suites_tables, unique
from experiments.report.markdown import markdown

AIM_FAMILY, AIM_GPT = 1.2, 0.65
THINNED = thinned(10, 16)
TRANSFORMER = {
    NO_DROPOUT: "none",
    FLAX_NNX: "flax.nnx",
    OURS: "after `layers.replace_dropout(model)`",
    ATTENTION_TOO: "and with `layers.dot_product_attention`",
}


def table(results: Path) -> str:
    return suites_tables(results, SUITES)


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
        ours, plain = found[THINNED], found[NO_DROPOUT]
        hidden = f"{len(shape) - 3}x{shape[2]}"
        body.append([
            f"{hidden}, {shape[0]}",
            *(f"{found[name]['ratio_to_floor']:.2f}" if name in found else "–"
              for name in (OURS, FLAX_NNX, THINNED)),
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


def thin_transformer(rows: list[Row]) -> str:
    """Every network and rate: element-wise and thinned, beside the arithmetic that is left."""
    header = ["layers x width, heads, context", "batch", "rate",
              "× time without dropout: element-wise", "thinned", "IQR", "aim", "× arithmetic",
              "ms without dropout", "ms thinned"]  # fmt: skip
    body = []
    for shape, rate in unique((r["shape"], r["rate"]) for r in rows):
        case = [r for r in rows if (r["shape"], r["rate"]) == (shape, rate)]
        found = {r["library"]: r for r in case}
        batch, layers, heads, width, context = shape
        ours, plain = found[THINNED], found[NO_DROPOUT]
        body.append([
            f"{layers}x{width}, {heads}, {context}", batch, f"{rate:g}",
            f"{found[OURS]['ratio_to_floor']:.2f}", f"{ours['ratio_to_floor']:.2f}",
            f"{ours['ratio_to_floor_iqr']:.2f}",
            f"≤ {AIM_GPT}" if rate == 0.5 and width >= 256 else "–",
            f"{ours['arithmetic']:.2f}",
            *(f"{r['median_us'] / 1000:.1f}" for r in (plain, ours)),
        ])  # fmt: skip
    return markdown(header, body)


def family(rows: list[Row]) -> str:
    """Every member beside dropout with as many decisions, and beside Gaussian numbers."""
    dtypes = unique(row["dtype"] for row in rows)
    header = [
        f"member, {rows[0]['rate']:g} dropped", "array",
        *(f"× dropout, {dtype}" for dtype in dtypes),
        *(f"× `x * normal`, {dtype}" for dtype in dtypes),
    ]  # fmt: skip
    body = []
    members = [row for row in rows if row["library"] not in (DROPOUT, NORMAL)]
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
    flax = next(r for r in rows if r["library"] == FLAX_NNX)
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


SUITES = {
    "thin": thin,
    "thin_transformer": thin_transformer,
    "family": family,
    "transformer": transformer,
}
