"""The benchmark of a small GPT's training, beside PyTorch. Standard library only."""

from pathlib import Path

from experiments.records.libraries import OURS, TORCH
from experiments.report.benchmark_rows import Row, suites_tables, unique
from experiments.report.markdown import markdown

# The aim: at most this share of PyTorch's time a network, five in one program.
AIM = 1 / 1.5


def table(results: Path) -> str:
    return suites_tables(results, {"gpt": gpt})


def gpt(rows: list[Row]) -> str:
    """A line a rate and kind of products: milliseconds an update of one network."""
    header = ["rate", "products", "PyTorch, ms an update", "ours, one network",
              "five side by side, each", "five in turn, each", "× PyTorch: one",
              f"side by side (aim ≤ {AIM:.2f})", "in turn"]  # fmt: skip
    body = []
    for rate, products in unique((row["rate"], row["products"]) for row in rows):
        found = {(row["library"], row["how"]): row for row in rows
                 if (row["rate"], row["products"]) == (rate, products)}  # fmt: skip
        ours = [found[OURS, how] for how in ("alone", "side by side", "in turn")]
        torch = found.get((TORCH, "alone"))
        body.append([
            f"{rate:g}", products,
            *(f"{row['median_ms']:.1f}" if row else "–" for row in (torch, *ours)),
            *(f"{row['median_ms'] / torch['median_ms']:.2f}" if torch else "–" for row in ours),
        ])  # fmt: skip
    return markdown(header, body)
