"""The tables of the paper's experiments: each row beside what was published, or plainly not run.

Functions from the folder of results to markdown. Standard library only, as in `tables`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.records import literature, stats
from experiments.records.markdown import NOT_RUN, device, link, markdown
from experiments.records.record import Record
from experiments.report.paper_rows import how, network, published, reported, table, text, updates

PAPER_BARS = "The paper does not say what its ± is."


def rows_of_tables() -> dict[str, tuple[str, dict[str, str | None]]]:
    """Experiment -> what it reproduces, and row -> the name of what was published, if anything."""
    nets = [
        "logistic_3x1024", "relu_3x1024", "relu_maxnorm_3x1024", "relu_maxnorm_3x2048",
        "relu_maxnorm_2x4096", "relu_maxnorm_2x8192", "maxnorm_maxout_2x5x240",
    ]  # fmt: skip
    arms = {f"{arm}_{net}": arm for net in nets for arm in ("dropout", "standard")}
    regularizers = ("l2", "l2_l1", "l2_kl_sparsity", "maxnorm", "dropout_l2", "dropout_maxnorm")
    noises = ("mnist_bernoulli", "mnist_gaussian")
    return {
        "mnist_table2": ("Table 2", {
            row: f"table2/{row}" if arm == "dropout" else None for row, arm in arms.items()
        }),
        "pylearn2_recipe": ("pylearn2", {"dropout_60k": "pylearn2/60k", "standard_60k": None}),
        "regularizers_table9": ("Table 9", {row: f"table9/{row}" for row in regularizers}),
        "gaussian_table10": ("Table 10", {row: f"table10/{row}" for row in noises}),
    }  # fmt: skip


def in_short(results: Path) -> str:
    """The longest run of every row that was published, a line each.

    Of runs as long as each other it is the one in float32, and not thinned.
    """
    lines, runs = [], 0
    for experiment, (where, rows) in rows_of_tables().items():
        found = reported(results, experiment)
        found.sort(key=lambda r: (r.extra["updates"], not how(r)))
        records = {r.config["row"]: r for r in found}
        runs += len(records)
        for row, name in rows.items():
            r = records.get(row)
            if name and r:
                theirs = literature.PUBLISHED[name].updates
                share = f" ({r.extra['updates'] / theirs:.1%})" if theirs else ""
                made = ", ".join([f"{updates(r)}{share}", *how(r)])
                ours = stats.plus_minus(r.final["test_error"])
                lines.append([where, row, text(published(name)), ours, made,
                              len(r.final["test_error"]), link(r.path)])  # fmt: skip
            elif name:
                lines.append([where, row, text(published(name)), "not run", "–", "–", "–"])
    header = ["of", "row", "published %", "ours %", "updates (of theirs)", "seeds", "run"]
    return markdown(header, lines) if runs else NOT_RUN


def mnist_table2(results: Path) -> str:
    """Dropout, max-norm, width and maxout."""
    return of_table(results, "mnist_table2", "Published: Table 2, after 1 000 000 updates.")


def pylearn2_recipe(results: Path) -> str:
    """The recipe of pylearn2, with dropout and without."""
    return of_table(results, "pylearn2_recipe", "Published: one run, after 264 000 updates.")


def regularizers_table9(results: Path) -> str:
    """Dropout against other regularisers."""
    return of_table(results, "regularizers_table9", "Published: Table 9.")


def gaussian_table10(results: Path) -> str:
    """Bernoulli's noise and Gauss's."""
    return of_table(results, "gaussian_table10", f"Published: Table 10. {PAPER_BARS}")


def of_table(results: Path, experiment: str, note: str) -> str:
    rows = rows_of_tables()[experiment][1]
    return table(results, experiment, {row: name and published(name) for row, name in rows.items()},
                 note)  # fmt: skip


def architectures_figure4(results: Path) -> str:
    """Six nets, with dropout and without."""
    rows = {
        f"{arm}_{layers}x{width}": None
        for width in (1024, 2048)
        for layers in (2, 3, 4)
        for arm in ("dropout", "standard")
    }
    ends = [literature.PUBLISHED[f"figure4/{arm}/{end}"].value
            for arm in ("dropout", "standard") for end in ("lowest", "highest")]  # fmt: skip
    note = (
        "Published: Figure 4, six nets of 1024 and 2048 units, {:.2f} to {:.2f} % with dropout and "
        "{:.2f} to {:.2f} % without after 990 000 updates; they are not told apart there."
    )
    return table(results, "architectures_figure4", rows, note.format(*ends))


def rate_figure9(results: Path) -> str:
    """The error against the rate."""
    rows = {
        f"{panel}_{rate:g}": (error, spread, None)
        for panel, curve in (("n_fixed", "figure9a/test"), ("pn_fixed", "figure9b/test"))
        for rate, error, spread in sorted(literature.CURVES[curve].points)
    }
    return table(results, "rate_figure9", rows, f"Published: Figure 9. {PAPER_BARS}")


def dataset_size_figure10(results: Path) -> str:
    """The error against the number of training images."""
    arms = ("dropout", "standard")
    rows = {
        f"{arm}_{cases}": (error, spread, None)
        for pair in zip(*(literature.CURVES[f"figure10/{arm}"].points for arm in arms), strict=True)
        for arm, (cases, error, spread) in zip(arms, pair, strict=True)
    }
    found = table(results, "dataset_size_figure10", rows, f"Published: Figure 10. {PAPER_BARS}")
    return "\n\n".join([found, *as_in_deepnet(reported(results, "dataset_size_figure10"))])


def as_in_deepnet(records: Sequence[Record]) -> list[str]:
    """Dropout with the authors' settings beside our nets without it, on the draws that both had."""
    longest, sentences = {r.config["row"]: r for r in records}, []
    for r in records:
        row, cases = r.config["row"], r.config["training_cases"]
        standard = longest.get(f"standard_{cases}")
        if not row.startswith("deepnet") or "dropout" not in row or standard is None:
            continue
        ours, theirs = r.final["test_error"], standard.final["test_error"]
        draws = min(len(ours), len(theirs))
        change = stats.difference(ours[:draws], theirs[:draws], paired=True)
        sentences.append(
            f"{', '.join([row, network(r), *how(r)])}, {updates(r)} updates: {change.points()} "
            f"than {standard.config['row']} ({network(standard)}, {updates(standard)} updates), "
            f"over {draws} draws of both."
        )
    return ["  \n".join(sentences)] if sentences else []


def past_the_paper(results: Path) -> str:
    """One mask of an image, or two that have to agree."""
    best = [literature.PUBLISHED[name].value for name in (
        "table2/dropout_relu_maxnorm_2x8192", "ma2017/2x8192_relu_maxnorm/expectation_linear",
    )]  # fmt: skip
    rows = dict.fromkeys(("dropout", "dropout_r_drop", "gaussian_r_drop"))
    note = "Published, of 2 layers of 8192: {:.2f} % (Table 2), {:.2f} % (Ma et al. 2017)."
    return table(results, "past_the_paper", rows, note.format(*best))


def monte_carlo_figure11(results: Path) -> str:
    """The error of k averaged passes, and of weight scaling."""
    scaling = literature.PUBLISHED["figure11/weight_scaling"]
    curve = {k: (error, sd) for k, error, sd in literature.CURVES["figure11/monte_carlo"].points}
    parts = []
    for r in reported(results, "monte_carlo_figure11"):
        rows = [["weight scaling", f"{scaling.value:.3f}", "–",
                 stats.plus_minus(r.final["test_error"], 3), "–"]]  # fmt: skip
        for k, sds in r.extra["sd_over_draws"].items():
            theirs = curve.get(int(k))
            rows.append([
                f"k = {k}", *([f"{theirs[0]:.3f}", f"{theirs[1]:.3f}"] if theirs else "––"),
                stats.plus_minus(r.final[f"mc_error_{k}"], 3),
                f"{stats.mean_and_stderr(sds)[0]:.3f}",
            ])  # fmt: skip
        header = ["passes", "published %", "sd over draws", "ours %", "sd over draws"]
        about = f"{network(r)}, {updates(r)} updates, {len(r.final['test_error'])} seeds"
        parts.append(
            f"{markdown(header, rows)}\n\n{about}, budget {r.config['budget']}, {device(r)}, "
            f"{link(r.path)}. Published: Figure 11."
        )
    return "\n\n".join(parts) or NOT_RUN


def features_figures7_8(results: Path) -> str:
    """The activities of an autoencoder's hidden units."""
    records = reported(results, "features_figures7_8")
    if not records:
        return NOT_RUN
    rows, names = [], ("mean_activity", "zero_percent", "test_reconstruction")
    for row in ("standard", "dropout"):
        found = [r for r in records if r.config["row"] == row]
        theirs = f"{literature.PUBLISHED[f'figure8/{row}'].value:.1f}"
        if not found:
            rows.append([row, theirs, "not run", *["–"] * 6])
        for r in found:
            rows.append([
                row, theirs, *(stats.plus_minus(r.final[name]) for name in names),
                updates(r), r.config["seeds"], device(r), link(r.path),
            ])  # fmt: skip
    header = ["arm", "mean activity, published", "ours", "activities that are 0, %",
              "squared error of a test image", "updates", "seeds", "device", "run"]  # fmt: skip
    note = (
        "Published: Figure 8, read in the text as about so much. The authors' code multiplies test "
        "activities by keep, so that the 0.7 may hold a factor of 0.5 that ours does not."
    )
    return f"{markdown(header, rows)}\n\n{note}"


TABLES: dict[str, Callable[[Path], str]] = {
    make.__name__: make
    for make in (
        in_short, mnist_table2, pylearn2_recipe, regularizers_table9, gaussian_table10,
        architectures_figure4, features_figures7_8, rate_figure9, dataset_size_figure10,
        monte_carlo_figure11, past_the_paper,
    )
}  # fmt: skip
