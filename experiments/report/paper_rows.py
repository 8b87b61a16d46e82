"""One row of the paper's tables: a run beside what was published, and how it came about.

A spread is the standard error of the mean over seeds; a difference is ours less the published,
counted in the standard errors of both where the paper gives its own, else in ours. It is given
where the protocol is the published one. Standard library only, as in `tables`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from experiments.records import literature, record, stats, trials
from experiments.records.markdown import NOT_RUN, device, link, markdown
from experiments.records.record import Record

Number = tuple[float, float | None, float | None]
"""A published value, its spread, and its standard error where the spread is one."""
HEADER = [
    "row", "published %", "ours %", "difference, s.e.", "train error %", "network", "updates",
    "budget", "seeds", "settings", "device", "run",
]  # fmt: skip
SETTINGS = (
    "Settings: lr, the first learning rate; c, each layer's max-norm. Both for activations that "
    "are divided by keep in training: the paper's are lr / keep² and c / keep."
)

HOW = ("life", "products")  # how a run was made; arms that differ in it are not compared
# The arm that a sentence is about, the one that it is compared with, and its name.
ARMS = {
    "_r_drop": ("", "R-Drop"),
    "dropout_": ("standard_", "dropout"),
    "gaussian": ("bernoulli", "Gaussian noise"),
}


def table(results: Path, experiment: str, rows: Mapping[str, Number | None], note: str) -> str:
    """Every row that was published or run, and what dropout changed.

    Args:
      results: the folder of results.
      experiment: its name.
      rows: row -> what was published, or None; in the order to be shown in.
      note: what stands under the table.
    """
    records = reported(results, experiment)
    if not records:
        return NOT_RUN
    every = record.read_all(experiment, results)
    names, shown = list(dict.fromkeys([*rows, *(r.config["row"] for r in records)])), []
    records.sort(key=lambda r: names.index(r.config["row"]))
    for row in names:
        number = rows.get(row)
        found = [r for r in records if r.config["row"] == row]
        shown += [line(r, number, every) for r in found]
        if not found:
            shown.append([row, text(number), "not run", *["–"] * (len(HEADER) - 3)])
    return "\n\n".join([markdown(HEADER, shown), f"{note} {SETTINGS}", *separations(records)])


def line(r: Record, number: Number | None, every: Sequence[Record]) -> list[object]:
    """One run beside what was published."""
    as_published = r.config["budget"] == "paper" or (
        r.experiment == "pylearn2_recipe" and r.config["budget"] == "cpu"
    )
    return [
        r.config["row"], beside(r, number), stats.plus_minus(r.final["test_error"]),
        difference(r.final["test_error"], number) if as_published else "–",
        stats.plus_minus(r.final["train_error"]), network(r), updates(r), r.config["budget"],
        len(r.final["test_error"]), f"{settings(r)}; {selection(r, every)}", device(r),
        link(r.path),
    ]  # fmt: skip


def settings(r: Record) -> str:
    """What a run was trained with, shortly."""
    config = r.config
    momentum = [v for v in (config["momentum_start"], config["momentum"]) if v is not None]
    factors = config.get("weight_factors")
    rates = [config["learning_rate"] * factor for factor in factors or (1,)]
    found = ["lr " + "/".join(f"{rate:g}" for rate in rates)]
    if factors:
        found.append(f"of biases {config['learning_rate']:g}")
    if config["max_norm"]:
        found.append("c " + "/".join(f"{c:g}" for c in config["max_norm"]))
    curved = " exponentially" if config.get("momentum_ramp") == "exponential" else ""
    found.append("momentum " + " to ".join(f"{v:g}" for v in momentum) + curved)
    names = {"l2": "L2", "l1": "L1", "kl_sparsity": "KL", "alpha": "alpha"}
    found += [f"{name} {config[field]:g}" for field, name in names.items() if config.get(field)]
    if config.get("init_deviations"):
        found.append("initial sd " + "/".join(f"{sd:.2g}" for sd in config["init_deviations"]))
    return ", ".join([*found, *how(r)])


def how(r: Record) -> list[str]:
    """What a run was made with that others were not: thinned networks, rounded products."""
    life, products = map(r.config.get, HOW)
    return [f"thinned, life {life}"] * bool(life) + [f"{products} products"] * bool(products)


def selection(r: Record, every: Sequence[Record]) -> str:
    """How a run's settings came about: they are those of the best of its trials, or not."""
    before = [t for t in every if t.provenance["utc"] < r.provenance["utc"]]
    compared = trials.trials_of(before, r.config)
    settings = trials.different(compared)
    if settings > 1 and trials.best(compared) == trials.tuned(r.config):
        at = r.config.get("tuned_at")
        shorter = f", after {grouped(at)} updates" if at else ""
        return f"best of {settings} on validation{shorter}"
    return "set beforehand"


def beside(r: Record, number: Number | None) -> str:
    """What was published, and what Figure 4's ReLU nets had reached by as many updates."""
    found = [] if number is None else [text(number)]
    at = literature.figure_4_range(bool(r.config["rate"]), r.extra["updates"])
    on_curve = r.experiment in ("mnist_table2", "architectures_figure4")
    alike = r.config["activation"] == "relu" and {*r.config["hidden"]} <= literature.FIGURE_4_WIDTHS
    if on_curve and alike and at:
        found.append(f"{at[1]:.2f} to {at[2]:.2f} at {at[0] // 1000}k (Figure 4)")
    return "; ".join(found) or "–"


def difference(ours: Sequence[float], number: Number | None) -> str:
    """Ours less the published, and how many standard errors that is."""
    mean, stderr = stats.mean_and_stderr(ours)
    if number is None or not math.isfinite(mean):
        return "–"
    less = mean - number[0]
    stderr = math.hypot(stderr or 0, number[2] or 0)
    return f"{less:+.2f}" + (f", {less / stderr:+.1f}" if stderr else "")


def separations(records: Iterable[Record]) -> list[str]:
    """A sentence for every pair of arms of as many updates: dropout_X and standard_X, for one.

    Seeds that draw images of their own are compared one by one: both arms draw the same.
    """
    by_name = {
        (r.config["row"], r.config["budget"], r.extra["updates"], *map(r.config.get, HOW)): r
        for r in records
    }
    sentences = []
    for (row, *rest), r in by_name.items():
        arm = next((arm for arm in ARMS if arm in row), None)
        other = arm and by_name.get((row.replace(arm, ARMS[arm][0], 1), *rest))
        if not other:
            continue
        with_, without = r.final["test_error"], other.final["test_error"]
        change = stats.difference(with_, without)
        if r.config["training_cases"] and len(with_) == len(without):
            change = stats.difference(with_, without, paired=True)
        if not math.isfinite(change.mean):
            continue
        sentences.append(
            f"{row.replace(arm, '', 1).strip('_')}, {updates(r)} updates: with {ARMS[arm][1]} the "
            f"test error is {change.sentence()}."
        )
    return ["  \n".join(sentences)] if sentences else []


def reported(results: Path, experiment: str) -> list[Record]:
    """The newest run of each row at each length that read the test set, shortest first.

    After more settings were compared on validation data, the run with the best of them takes the
    place of an earlier one, whose record stays.
    """
    runs = [r for r in record.read_all(experiment, results) if not r.config.get("validation")]
    records = {trials.fixed(r.config): r for r in runs if not r.config.get("quick")}.values()
    return sorted(records, key=lambda r: (r.extra["updates"], r.config["row"], str(r.path)))


def published(name: str) -> Number:
    number = literature.PUBLISHED[name]
    return number.value, number.spread, number.stderr


def text(number: Number | None) -> str:
    if number is None:
        return "–"
    return f"{number[0]:.2f}" + ("" if number[1] is None else f" ± {number[1]:.2f}")


def network(r: Record) -> str:
    """784-1024-1024-10's hidden layers, and how many images where not all."""
    cases = r.config["training_cases"]
    return "-".join(map(str, r.config["hidden"])) + (f", {cases} images" if cases else "")


def updates(r: Record) -> str:
    return grouped(r.extra["updates"])


def grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")
