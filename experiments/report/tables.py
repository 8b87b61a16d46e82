"""The tables of the pages: each a function from the folder of results to markdown.

Every number comes from a record and links to it; a spread is the standard error of the mean over
seeds. Records made with --quick and records that a newer run of the same config replaces are left
out. Standard library only, so that `scripts/make_tables` runs anywhere.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.records import literature, record, stats
from experiments.records.config import dropout_rates, is_rate
from experiments.records.markdown import NOT_RUN, device, link, markdown
from experiments.records.record import Record
from experiments.report import (
    benchmark_tables,
    family_table,
    family_tables,
    gpu_tables,
    paper_tables,
    thinned_tables,
    uci,
)


def mnist(results: Path) -> str:
    """With and without dropout on MNIST, next to what was published at a like number of updates."""
    header = ["published: error % (updates)"]
    return errors(results, "mnist", header, lambda r: [closest_published(r)])


def quickstart(results: Path) -> str:
    """The first network a user trains, with and without dropout."""
    return errors(results, "quickstart", [], lambda r: [])


def errors(results: Path, experiment: str, more_header: list[str], more: Callable) -> str:
    """Test error, training error and their gap, a row a record, and what dropout changes."""
    records = record.newest(record.read_all(experiment, results))
    records = [r for r in records if "test_error" in r.final]  # not those that chose the settings
    if not records:
        return NOT_RUN
    records.sort(key=lambda r: (str(alike(r)), sum(dropout_rates(r).values()), str(r.path)))
    header = ["network", "dropout rate", "test error %", "train error %", "gap", "seeds",
              "epochs (updates)", *more_header, "device", "run"]  # fmt: skip
    rows = []
    for r in records:
        test, train = r.final["test_error"], r.final["train_error"]
        gap = [a - b for a, b in zip(test, train, strict=True)]
        rows.append([
            network(r), ", ".join(f"{k} {v:g}" for k, v in dropout_rates(r).items()) or "none",
            *map(stats.plus_minus, (test, train, gap)), len(test), epochs(r), *more(r),
            device(r), link(r.path),
        ])  # fmt: skip
    return "\n\n".join([markdown(header, rows), *comparisons(records)])


def comparisons(records: Sequence[Record]) -> list[str]:
    """A sentence for each pair of runs that differ in the dropout alone."""
    sentences = []
    for plain in records:
        for dropped in records:
            if (
                not dropout_rates(plain)
                and dropout_rates(dropped)
                and alike(plain) == alike(dropped)
            ):
                without, with_ = plain.final["test_error"], dropped.final["test_error"]
                change = stats.difference(with_, without)
                sentences.append(
                    f"{network(plain)}: with dropout ({link(dropped.path)}) the test error is "
                    f"{change.points()} than without ({link(plain.path)})."
                )
    return sentences


def closest_published(r: Record) -> str:
    """Figure 4 at no more updates than ours, and the same network where one was published."""
    updates, hidden = r.extra.get("updates"), tuple(r.config.get("hidden", ()))
    if r.config.get("data", "mnist") != "mnist" or updates is None:
        return "–"
    found, names = [], []
    at = literature.figure_4_range(bool(dropout_rates(r)), updates)
    if at:
        found.append(f"{at[1]:.2f} to {at[2]:.2f} ({at[0] // 1000}k, Figure 4, six nets)")
    if dropout_rates(r) and len(set(hidden)) == 1:
        unit = r.config.get("activation", "relu") + ("_maxnorm" if r.config.get("max_norm") else "")
        names.append(f"table2/dropout_{unit}_{len(hidden)}x{hidden[0]}")
    if dropout_rates(r) and hidden == literature.PYLEARN2_RECIPE["hidden"]:
        names.append("pylearn2/60k")
    for number in (literature.PUBLISHED[name] for name in names if name in literature.PUBLISHED):
        where = number.where.split(",")[0] if number.source == literature.JMLR else number.source
        found.append(f"{number.value:.2f}{number.mark} ({number.updates // 1000}k, {where})")
    return "; ".join(found) or "–"


def keras_example(results: Path) -> str:
    """The Keras example beside the accuracy that its docstring gives."""
    number = literature.PUBLISHED["keras/mnist_mlp/test_accuracy"]
    source = f"{number.source}, {number.note}"
    note = f"Published for a larger net: {number.value:.2f} % test accuracy ({source})."
    return metrics(results, "keras_example", note)


def thinned(results: Path) -> str:
    """What thinner networks save, beside what was claimed for methods of the kind."""
    found = thinned_tables.methods(results)
    return found if found == NOT_RUN else f"{found}\n\n{claims()}"


def claims() -> str:
    found = [
        ("Song et al. 2019, MLP, speed-up", "approximate_random_dropout/mlp"),
        ("Sarma et al. 2021, LSTM, speed-up", "sisrt/lstm"),
        ("Notin et al. 2020, % of time saved", "sliceout"),
    ]
    published = literature.PUBLISHED
    texts = [
        f"{label} {published[f'{name}/lowest'].value:g} to {published[f'{name}/highest'].value:g}"
        f"{published[f'{name}/lowest'].mark}"
        for label, name in found
    ]
    arms = ("dense", "dropout", "sparsedrop")
    minutes = ", ".join(f"{arm} {published[f'sparsedrop/{arm}/minutes'].value:g}" for arm in arms)
    texts.append(f"Lo 2024, MLP, minutes of training: {minutes}")
    read_in = "(† read in an abstract or on a page about the paper)"
    return f"Claimed elsewhere: {'; '.join(texts)}. {read_in}"


def metrics(results: Path, experiment: str, note: str) -> str:
    """A row a record: the config fields that vary, then every metric."""
    records = record.newest(record.read_all(experiment, results))
    if not records:
        return NOT_RUN
    fields = [
        name
        for name in dict.fromkeys(name for r in records for name in r.config)
        if name != "quick" and len({str(r.config.get(name)) for r in records}) > 1
    ]
    names = list(dict.fromkeys(name for r in records for name in r.final))
    rows = [
        [
            *(r.config.get(name, "–") for name in fields),
            *(shown(r.final[name]) if name in r.final else "–" for name in names),
            max(map(len, r.final.values())),
            device(r),
            link(r.path),
        ]  # fmt: skip
        for r in sorted(records, key=lambda r: str([r.config.get(name) for name in fields]))
    ]
    header = [name.replace("_", " ") for name in fields + names] + ["seeds", "device", "run"]
    return markdown(header, rows) + f"\n\n{note}"


def alike(r: Record) -> dict:
    """The config without its dropout rates: the same for the two arms of a comparison."""
    return {k: v for k, v in r.config.items() if not is_rate(k)}


def network(r: Record) -> str:
    return "-".join(map(str, r.config.get("hidden", []))) or r.experiment


def epochs(r: Record) -> str:
    updates = r.extra.get("updates")
    chosen = r.extra.get("epoch_chosen", "last")
    return f"{r.config.get('epochs', '–')}{f' ({updates})' if updates else ''}, {chosen}"


def shown(values: Sequence[float]) -> str:
    """Mean ± standard error, with two significant digits of the latter."""
    mean, stderr = stats.mean_and_stderr(values)
    if not stderr or not math.isfinite(stderr):
        return f"{mean:.4g}"
    return stats.plus_minus(values, digits=max(0, 1 - math.floor(math.log10(stderr))))


TABLES: dict[str, Callable[[Path], str]] = {
    "mnist": mnist,
    "quickstart": quickstart,
    "keras_example": keras_example,
    "benchmark": benchmark_tables.dropout,
    "benchmark_more": benchmark_tables.more,
    "benchmark_gpu": benchmark_tables.more_gpu,
    "compiled": gpu_tables.compiled,
    "thinned": thinned,
    "thinned_studies": thinned_tables.studies,
    "family": lambda results: family_table.table(),  # of the code, not of records
    "family_errors": family_tables.family_errors,
    "concrete_synthetic": family_tables.concrete_synthetic,
    "sparse_variational": family_tables.sparse_variational,
    "convnet": family_tables.convnet,
    **paper_tables.TABLES,
    **uci.TABLES,
}
