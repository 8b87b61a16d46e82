"""The benchmark of attention with dropout: time and memory by length. Standard library only."""

from pathlib import Path

from experiments.records.libraries import CAUSAL, FLAX_NNX, NO_DROPOUT, OURS, WEIGHTS_HELD
from experiments.report.benchmark_rows import Row, suites_tables, unique
from experiments.report.markdown import markdown

NAMES = {
    NO_DROPOUT: "`jax.nn`, no dropout",
    FLAX_NNX: "Flax, dropout",
    WEIGHTS_HELD: "`attention_dropout` on held weights",
    OURS: "`dj.dot_product_attention`",
    CAUSAL: "the same, causal",
}
AIM = (
    "Aims: memory at 4096 at most 1/16 of that of `jax.nn` and twice as much for twice the length; "
    "time from 1024 on at most 1.05 times that of `jax.nn`, causal 0.65."
)


def table(results: Path) -> str:
    """Memory, then times, a line a length."""
    return suites_tables(results, {"attention": attention})


def attention(rows: list[Row]) -> str:
    memory = markdown(
        ["memory of temporaries, MiB: length", *NAMES.values()],
        lines(rows, lambda row: f"{row['temporaries_mib']:.0f}"),
    )
    times = markdown(
        ["× time of `jax.nn` (IQR), median ms: length", *NAMES.values()],
        lines([row for row in rows if row["median_us"] is not None], time),
    )
    batch, _, heads, depth = rows[0]["shape"]
    rate = next(row["rate"] for row in rows if row["rate"])
    note = f"Batch {batch}, {heads} heads, depth {depth}, rate {rate:g}, float32."
    return f"{memory}\n\n{times}\n\n{note} {AIM}"


def lines(rows: list[Row], cell) -> list[list[str]]:
    """A line a length and a cell a variant; a dash for what was not measured."""
    body = []
    for shape in unique(row["shape"] for row in rows):
        found = {row["library"]: row for row in rows if row["shape"] == shape}
        body.append([
            str(shape[1]), *(cell(found[name]) if name in found else "–" for name in NAMES)
        ])  # fmt: skip
    return body


def time(row: Row) -> str:
    taken = f"{row['median_us'] / 1000:.0f}"
    return f"{row['ratio_to_floor']:.2f} ({row['ratio_to_floor_iqr']:.2f}), {taken}"
