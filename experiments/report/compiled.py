"""What XLA makes of dropout for a GPU: kernels, bytes and operations of each library."""

import json
from pathlib import Path

from experiments.report.benchmark_rows import Row, joined, suite_link, unique
from experiments.report.markdown import NOT_RUN, markdown


def table(results: Path) -> str:
    """What XLA makes of each library, from the record of the suite `compiled`."""
    file = results / "benchmark" / "compiled.json"
    if not file.exists():
        return NOT_RUN
    record = json.loads(file.read_text(encoding="utf-8"))
    device, jax = record["rows"][0]["device"], record["provenance"]["versions"]["jax"]
    title = f"Compiled for an {device} (jax {jax}, {suite_link('compiled')}):"
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
