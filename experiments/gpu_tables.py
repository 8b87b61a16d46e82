"""The benchmark's table of a GPU: dropout beside a copy of the array. Standard library only."""

from experiments.benchmark_rows import FLAX, OURS, Row, joined, one, unique
from experiments.markdown import markdown

COPY, KERNEL = "copy", "dropout_jax.kernel"
# Shares of the copy's bandwidth, and times faster than flax.nnx, that were aimed at, and for what.
AIM_SHARE, AIM_FASTER = 0.85, 3
AIMED_AT = {("8192x8192", "bfloat16", rate) for rate in (0.1, 0.5)}


def masks(rows: list[Row]) -> str:
    """A line a case: how much of a copy's bandwidth, and how much faster than Flax."""
    names = [name for name in (OURS, KERNEL, FLAX) if any(r["library"] == name for r in rows)]
    header = ["forward", "rate", "copy µs", *(f"{n}: copy's bandwidth" for n in names), "aim",
              *(f"{n}: × faster than {FLAX}" for n in names if n != FLAX), "aim"]  # fmt: skip
    cases = unique((r["shape"], r["dtype"], r["rate"]) for r in rows if r["library"] == COPY)
    body = []
    for shape, dtype, rate in cases:
        found = {name: one(rows, name, shape, dtype, rate) for name in (COPY, *names)}
        copied, aimed = found[COPY]["median_us"], (joined(shape), dtype, rate) in AIMED_AT
        body.append([
            f"{joined(shape)} {dtype}", f"{rate:g}", f"{copied:.0f}",
            *(f"{100 * copied / found[name]['median_us']:.0f} %" for name in names),
            f"≥ {100 * AIM_SHARE:.0f} %" if aimed else "–",
            *(f"{found[name]['speedup_over_flax_nnx']:.2f}" for name in names if name != FLAX),
            f"≥ {AIM_FASTER}" if aimed else "–",
        ])  # fmt: skip
    return markdown(header, body)
