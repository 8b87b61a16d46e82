"""The figures of the paper's experiments, drawn from records with the published points beside them.

Ours in colour, with bars of one standard error over seeds; the paper's in grey, with its own bars,
of which it does not say what they are. In Figure 11 both are the standard deviation over draws. A
picture carries the digest of its records.
"""

import base64
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.records import literature, stats
from experiments.records.record import Record
from experiments.report.figures import save
from experiments.report.paper_rows import how, reported, updates

COLOURS = {"dropout": "C0", "standard": "C1"}
TOP = 7.0  # error % of Figure 9's axis, so that its middle can be read
GREY = {"color": "0.45", "fmt": "s:", "ms": 3, "lw": 0.8, "capsize": 2, "zorder": 1}


def figure_4(records: Sequence[Record], figure: Figure) -> None:
    """The test error by updates, a panel a width; in grey the range of the paper's six nets."""
    last = max(r.extra["updates"] for r in records)
    ends = [stats.mean_and_stderr(r.final["test_error"])[0] for r in records]
    widths = sorted({r.config["hidden"][0] for r in records})
    axes = figure.subplots(1, len(widths), sharey=True, squeeze=False)[0]
    for axis, width in zip(axes, widths, strict=True):
        paper_s_range(axis, last)
        found = [r for r in records if r.config["hidden"][0] == width]
        for r in sorted(found, key=lambda r: r.config["row"]):
            arm, net = r.config["row"].split("_")
            mean, stderr = mean_and_bars(zip(*r.by_epoch["test_error"], strict=True))
            x, colour = r.extra["evaluated_at"], COLOURS[arm]
            style = {2: "-", 3: "--", 4: ":"}[len(r.config["hidden"])]
            axis.plot(x, mean, color=colour, lw=1, ls=style, label=f"{arm}, {net}")
            axis.fill_between(x, mean - stderr, mean + stderr, color=colour, alpha=0.2, lw=0)
        axis.set(xlabel="updates", ylim=(0.8, max(2.7, 1.5 * max(ends))))
        axis.legend(frameon=False, ncols=2, loc="lower left")
    axes[0].set_ylabel("test error %")
    figure.suptitle("grey: range of the paper's six nets (bars: dotted without dropout)")


def paper_s_range(axis: Axes, last: int) -> None:
    """Two grey bands, up to so many updates."""
    at = [10_000 * i for i in range(1, last // 10_000 + 1)]
    for dropout in (True, False):
        ranges = [literature.figure_4_range(dropout, n)[1:] for n in at]
        low, high = np.reshape(ranges, (-1, 2)).T
        axis.fill_between(at, low, high, color="0.6", alpha=0.4, lw=0)
        if len(at) < 10:  # a band of a point or two hardly shows
            axis.vlines(at, low, high, color="0.6", lw=3, ls="-" if dropout else ":")


def figures_7_8(records: Sequence[Record], figure: Figure) -> None:
    """Filters of each arm; counts of units by mean activity, and of activities."""
    ratios = (2, 1, 1)
    axes = figure.subplots(3, len(records), squeeze=False, sharex="row", height_ratios=ratios)
    for column, r in zip(axes.T, sorted(records, key=lambda r: r.config["row"]), strict=True):
        column[0].imshow(mosaic(r.extra["filters"]), cmap="gray", vmin=-127, vmax=127)
        column[0].set_axis_off()
        column[0].set_title(f"{r.config['row']}, {updates(r)} updates")
        for axis, name in zip(column[1:], ("unit_means", "activities"), strict=True):
            axis.stairs(r.extra[name], r.extra[f"{name}_edges"], fill=True)
            axis.set(xlabel={"unit_means": "mean activity of a unit"}.get(name, "activity"))
            axis.set(ylabel="count", xlim=(0, max(largest(r, name) for r in records)))


def largest(r: Record, name: str) -> float:
    """Where the last bin of a histogram ends that is not empty."""
    return r.extra[f"{name}_edges"][int(np.flatnonzero(r.extra[name])[-1]) + 1]


def figure_9(records: Sequence[Record], figure: Figure) -> None:
    """The error against the rate, n fixed and pn fixed; what is over TOP is a number."""
    for axis, panel, curve in zip(
        figure.subplots(1, 2, sharey=True), ("n_fixed", "pn_fixed"), ("9a", "9b"), strict=True
    ):
        theirs = {"n_fixed": "2048-2048-2048", "pn_fixed": "pn = 256-256-512"}[panel]
        published(axis, f"figure{curve}/test", f"paper, Figure {curve}, {theirs}")
        for label, group in by_budget(r for r in records if r.config["row"].startswith(panel)):
            group.sort(key=lambda r: r.config["rate"])
            for metric, style in (("test_error", "o-"), ("train_error", "o--")):
                bars(axis, group, "rate", metric, style, f"{metric.split('_')[0]}, {label}")
            for r in group:
                error = stats.mean_and_stderr(r.final["test_error"])[0]
                if error > TOP:
                    at = (r.config["rate"], TOP)
                    axis.annotate(f"{error:.0f} %", at, ha="center", va="top", fontsize="small")
        axis.set(xlabel="rate", title={"n_fixed": "n fixed", "pn_fixed": "pn fixed"}[panel])
        axis.legend(frameon=False, fontsize="small", loc="upper left")
        axis.set_ylim(0, min(TOP, axis.get_ylim()[1]))
    figure.axes[0].set_ylabel("error %")


def figure_10(records: Sequence[Record], figure: Figure) -> None:
    """The error against the number of training images, both arms, and deepnet's dropout.

    Runs that are shorter than their budget's are left to the table.
    """
    axis = figure.subplots()
    budgets = (r.config["updates"] for r in records if r.config["budget"] != "own")
    full = min(budgets, default=0)
    records = [r for r in records if r.config["updates"] >= full]
    for arm, colour in COLOURS.items():
        label = f"paper, {arm}, 1024-1024-2048"
        published(axis, f"figure10/{arm}", label, marker="s" if arm == "dropout" else "^")
        groups = by_budget(r for r in records if r.config["row"].startswith(arm))
        styles = itertools.cycle((("o-", 3), ("D--", 6), ("^-.", 6)))
        for (label, group), (style, size) in zip(groups, styles, strict=False):
            group.sort(key=lambda r: r.config["training_cases"])
            bars(axis, group, "training_cases", "test_error", style, f"{arm}, {label}",
                 color=colour, ms=size)  # fmt: skip
    deepnet_s = (("deepnet_dropout", "line", "C2"), ("deepnet_exp_dropout", "curve", "C5"))
    for name, ramp, colour in deepnet_s:
        deepnet = [r for r in records if r.config["row"].startswith(name)]
        markers = itertools.cycle("v^<>")
        for (label, group), marker in zip(by_budget(deepnet), markers, strict=False):
            group.sort(key=lambda r: r.config["training_cases"])
            label = label.removeprefix("ours, ").replace("own budget, ", "")
            bars(axis, group, "training_cases", "test_error", f"{marker}-.", color=colour, ms=6,
                 label=f"dropout as in deepnet, momentum in a {ramp}, {label}")  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel="training images", ylabel="test error %")
    figure.legend(frameon=False, fontsize="small", loc="outside lower center", ncols=2)


def figure_11(records: Sequence[Record], figure: Figure) -> None:
    """The error of k averaged passes, bars of one sd over draws, and lines of weight scaling."""
    axis = figure.subplots()
    published(axis, "figure11/monte_carlo", "paper, Monte Carlo")
    scaling = literature.PUBLISHED["figure11/weight_scaling"].value
    axis.axhline(scaling, color="0.45", lw=0.8, label="paper, weight scaling")
    for i, (label, group) in enumerate(by_budget(records)):
        for r in group:
            passes = sorted(map(int, r.extra["sd_over_draws"]))
            mean = [stats.mean_and_stderr(r.final[f"mc_error_{k}"])[0] for k in passes]
            sds = [stats.mean_and_stderr(r.extra["sd_over_draws"][str(k)])[0] for k in passes]
            axis.errorbar(passes, mean, sds, fmt="o-", ms=3, color=f"C{i}", capsize=2,
                          label=f"Monte Carlo, {label}")  # fmt: skip
            scaled, stderr = mean_and_bars([r.final["test_error"]])
            axis.axhline(scaled[0], color=f"C{i}", lw=1, label=f"weight scaling, {label}")
            low, high = scaled[0] - stderr[0], scaled[0] + stderr[0]
            axis.axhspan(low, high, color=f"C{i}", alpha=0.2, lw=0)
    axis.set(xscale="log", xlabel="k, passes averaged", ylabel="test error %")
    axis.legend(frameon=False)


def bars(
    axis: Axes, group: Sequence[Record], x: str, metric: str, style: str, label: str, **options
) -> None:
    """A point a record, with one standard error over its seeds."""
    mean, stderr = mean_and_bars(r.final[metric] for r in group)
    options = {"ms": 3, "capsize": 2, **options}
    axis.errorbar([r.config[x] for r in group], mean, stderr, fmt=style, label=label, **options)


def published(axis: Axes, curve: str, label: str, marker: str = "s") -> None:
    """The paper's points, with its bars where it gives any."""
    x, error, spread = zip(*literature.CURVES[curve].points, strict=True)
    spread = [s or 0 for s in spread]
    axis.errorbar(x, error, spread, label=label, **{**GREY, "fmt": f"{marker}:"})


def mean_and_bars(values: Iterable[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Means over seeds and their standard errors; 0 for a single seed, which has no bar."""
    pairs = [stats.mean_and_stderr(v) for v in values]
    return np.array([m for m, _ in pairs]), np.array([s or 0 for _, s in pairs])


def by_budget(records: Iterable[Record]) -> list[tuple[str, list[Record]]]:
    """Records of one budget and as many updates, under a name that says so, and which nets."""
    groups: dict[str, list[Record]] = {}
    for r in records:
        name = f"ours, {r.config['budget']} budget, {r.config['updates']} updates"
        name = ", ".join([name, *how(r)])
        groups.setdefault(name, []).append(r)
    return [(f"{name},\n{nets(group)}", group) for name, group in sorted(groups.items())]


def nets(group: Sequence[Record]) -> str:
    """The hidden layers of a group, or the units that each keeps; how many images where alike."""
    prefix, layers = "", {tuple(r.config["hidden"]) for r in group}
    if len(layers) > 1:
        prefix = "pn = "
        layers = {tuple(round(n * (1 - r.config["rate"])) for n in r.config["hidden"])
                  for r in group}  # fmt: skip
    cases = {r.config["training_cases"] for r in group}
    images = f", {cases.pop()} images" if len(cases) == 1 and None not in cases else ""
    return prefix + " or ".join("-".join(map(str, net)) for net in sorted(layers)) + images


def mosaic(filters: str) -> np.ndarray:
    """Filters, as `features_figures7_8` packs them, side by side in a square, a pixel apart."""
    flat = np.frombuffer(base64.b64decode(filters), np.int8)
    count = next(n for n in (64, 32, 16, 1) if flat.size % n == 0 and is_square(flat.size // n))
    side = round((flat.size // count) ** 0.5)
    images = np.pad(flat.reshape(count, side, side), ((0, 0), (0, 1), (0, 1)))
    columns = round(count**0.5)
    rows = [np.hstack(images[i : i + columns]) for i in range(0, count - columns + 1, columns)]
    return np.vstack(rows)


def is_square(n: int) -> bool:
    return round(n**0.5) ** 2 == n


class Drawing(NamedTuple):
    """The figure of an experiment: what it is drawn from, and how."""

    experiment: str
    picture: Callable[[Sequence[Record], Figure], None]
    size: tuple[float, float]

    def sources(self, results: Path) -> list[Path]:
        return [r.path for r in reported(results, self.experiment)]

    def draw(self, results: Path, path: Path) -> None:
        figure = Figure(figsize=self.size, layout="constrained")
        self.picture(reported(results, self.experiment), figure)
        save(figure, path, self.sources(results))


FIGURES: dict[str, Drawing] = {
    "figure_4.png": Drawing("architectures_figure4", figure_4, (9, 4.2)),
    "figures_7_8.png": Drawing("features_figures7_8", figures_7_8, (8, 8)),
    "figure_9.png": Drawing("rate_figure9", figure_9, (10, 4)),
    "figure_10.png": Drawing("dataset_size_figure10", figure_10, (9, 7)),
    "figure_11.png": Drawing("monte_carlo_figure11", figure_11, (6, 4)),
}
