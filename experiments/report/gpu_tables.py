"""Tables of a GPU: what was timed on one, and what would run there. Standard library only."""

import json
from pathlib import Path

from experiments.records.markdown import NOT_RUN, markdown
from experiments.report.benchmark_rows import FLAX, FLOORS, OURS, Row, joined, one, unique

COPY, KERNEL = "copy", "dropout_jax.kernel"
NAMES = (FLOORS[0], OURS, KERNEL, FLAX)
AIM = (
    "Aim, for bfloat16 at rates of 0.1 and 0.5: at least 85 % of the copy's bandwidth, and 3 times "
    f"as fast as {FLAX}."
)


def masks(rows: list[Row]) -> str:
    """A line a case: how much of a copy's bandwidth, and how much faster than Flax."""
    names = [name for name in NAMES if any(r["library"] == name for r in rows)]
    faster = [name for name in names if name not in (FLOORS[0], FLAX)]
    header = ["forward", "rate", "copy µs", f"% of its bandwidth: {names[0]}", *names[1:],
              f"× faster than {FLAX}: {faster[0]}", *faster[1:]]  # fmt: skip
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
    return f"{markdown(header, body)}\n\n{AIM}"


def compiled(results: Path) -> str:
    """What XLA makes of each library, from the record of the suite `compiled`."""
    file = results / "benchmark" / "compiled.json"
    if not file.exists():
        return NOT_RUN
    record = json.loads(file.read_text(encoding="utf-8"))
    device, jax = record["rows"][0]["device"], record["provenance"]["versions"]["jax"]
    link = f"[{file.name}](experiments/results/benchmark/{file.name})"
    title = f"Compiled for an {device} (jax {jax}, {link}):"
    return f"{title}\n\n{compiled_rows(record['rows'])}"


def compiled_rows(rows: list[Row]) -> str:
    """A line a library; two numbers are those of the two rates."""
    rates, works = (unique(row[column] for row in rows) for column in ("rate", "work"))
    array = f"{joined(rows[0]['shape'])} {rows[0]['dtype']}"
    header = [f"{array}, rate {' / '.join(f'{rate:g}' for rate in rates)}"]
    header += [f"{work}: {what}" for work in works
               for what in ("kernels", "bytes an element", "operations an element")]  # fmt: skip
    body = []
    for name in unique(row["library"] for row in rows):
        found = {(r["work"], r["rate"]): r for r in rows if r["library"] == name}
        body.append([name])
        for work in works:
            for column in ("kernels", "bytes", "operations"):
                values = [found[work, rate][column] for rate in rates]
                known = None not in values
                body[-1].append(" / ".join(f"{v:.3g}" for v in values) if known else "–")
    return markdown(header, body)
