"""Write the results of a benchmark suite: a table, a JSON file, and a picture of the ratios."""

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.harness.cli import text_table
from experiments.records.libraries import COPY, FLAX_NNX, OURS, OURS_KERNEL, OURS_KEY

HEADER = (
    "library", "mode", "shape", "dtype", "rate", "median us", "iqr", "x floor", "iqr",
    "flax.nnx / it", "residual bits", "repeats",
)  # fmt: skip
Row = dict[str, Any]
COLOURS = {
    OURS: "#b2182b",
    OURS_KEY: "#f4a582",
    OURS_KERNEL: "#d6604d",
    FLAX_NNX: "#053061",
    COPY: "0.6",
}
TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
OTHERS = ("#2166ac", "#4393c3", "#92c5de", "#c9dfec")


def table(rows: Sequence[Row]) -> str:
    """One aligned line a row."""
    return text_table(HEADER, [_cells(row) for row in rows])


def _cells(row):
    bits, speedup = row["residual_bits"], row["speedup_over_flax_nnx"]
    return (
        row["library"],
        row["mode"],
        _joined("x", row["shape"]),
        row["dtype"],
        "" if row["rate"] is None else _joined("/", row["rate"]),
        _number(row["median_us"], 1),
        _number(row["iqr_us"], 1),
        _number(row["ratio_to_floor"]),
        _number(row["ratio_to_floor_iqr"]),
        _number(speedup),
        _number(bits),
        row["repeats"],
    )


def _number(value, digits=2):
    return "" if value is None else f"{value:.{digits}f}"


def _joined(mark, values):
    return mark.join(map(str, values if isinstance(values, (list, tuple)) else [values]))


def write(suite: str, rows: Sequence[Row], provenance: dict[str, Any], out: Path) -> str:
    """Write `out`/<suite>.json, strict JSON with a line a row, and <suite>.png beside it.

    The picture only where libraries are compared: thinned training is drawn beside its errors, by
    the study, and the family's members have other floors. What a GPU measured is <suite>_gpu: it
    does not take the place of a CPU's. Returns the name.
    """
    platform = provenance["device"]["platform"]
    name = suite if platform == "cpu" else f"{suite}_{platform}"
    out.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(_rounded(row), allow_nan=False) for row in rows)
    head = json.dumps({"suite": suite, "provenance": provenance}, allow_nan=False, indent=1)
    text = head.removesuffix("\n}") + f',\n "rows": [\n{lines}\n]\n}}\n'
    (out / f"{name}.json").write_text(text, encoding="utf-8")
    if suite in ("masks", "grad", "train_step"):
        picture(rows).savefig(out / f"{name}.png", dpi=110)
    return name


def _rounded(row):
    return {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in row.items()}


def picture(rows: Sequence[Row]) -> Figure:
    """Bars of times the floor on a log scale: a panel a size and dtype, a group a rate."""
    rows = [row for row in rows if row["mode"] != "single_call"]
    floor = rows[0]["library"]
    libraries = _unique(row["library"] for row in rows if row["library"] != floor)
    others = iter(OTHERS)
    colours = {name: COLOURS.get(name) or next(others, "0.7") for name in libraries}
    shapes = _unique(_joined("x", row["shape"]) for row in rows)
    dtypes = _unique(row["dtype"] for row in rows)
    top = 1.5 * max(2, *(row["ratio_to_floor"] + row["ratio_to_floor_iqr"] for row in rows))
    figure, axes = plt.subplots(
        len(dtypes),
        len(shapes),
        sharey=True,
        squeeze=False,
        figsize=(max(4.2 * len(shapes), 6.5), 2.9 * len(dtypes) + 0.9),
        layout="constrained",
    )
    for panel, (dtype, shape) in zip(axes.flat, itertools.product(dtypes, shapes), strict=True):
        inside = [r for r in rows if r["dtype"] == dtype and _joined("x", r["shape"]) == shape]
        rates = _unique(_joined("/", row["rate"]) for row in inside)
        width = 0.85 / len(libraries)
        for i, name in enumerate(libraries):
            bars = [row for row in inside if row["library"] == name]
            panel.bar(
                np.arange(len(bars)) + (i - (len(libraries) - 1) / 2) * width,
                [row["ratio_to_floor"] for row in bars],
                width,
                yerr=[row["ratio_to_floor_iqr"] / 2 for row in bars],
                error_kw={"linewidth": 0.6},
                color=colours[name],
                label=name,
            )
        panel.axhline(1, color="black", linewidth=0.8)
        panel.set(title=f"{shape} {dtype}", yscale="log", xlabel="rate")
        panel.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
        panel.minorticks_off()
        panel.set_ylim(0.5, top)
        panel.set_xticks(range(len(rates)), rates)
        panel.grid(axis="y", linewidth=0.3)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supylabel(f"time / time of {floor}", fontsize="medium")
    caption = "medians of paired ratios; lines: as long as their interquartile range"
    figure.suptitle(caption, fontsize="medium")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _unique(values: Iterable) -> list:
    return list(dict.fromkeys(values))
