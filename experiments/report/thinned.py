"""Thinned training: errors and times of the methods side by side, and the long run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.records import literature, record
from experiments.records.record import Record
from experiments.records.stats import difference, mean_and_stderr
from experiments.report import style
from experiments.report.columns import ERRORS, RUN, gap, setting, tabulate
from experiments.report.curves import curve
from experiments.report.markdown import NOT_RUN

PICTURE, SIZE = "thinned.png", (10, 3.8)
ELEMENT = "element"
NAMES = {"none": "no dropout", "element": "dropout, element-wise", "flax": "flax.nnx.Dropout"}
LIBRARY = {"none": "no dropout", "element": "dropout_jax", "flax": "flax.nnx"}
COLOURS = {
    "none": style.NO_DROPOUT,
    "element": style.DROPOUT,
    "flax": style.FLAX,
    "thin": style.THINNED,
}
TITLES = {
    "compare": "784-1024-1024-1024-10 on MNIST, each method with its own learning rate:",
    "headline": "The same network for longer:",
    "life": "The number of updates in the life of a sub-network:",
    "block": "The number of units that are kept or dropped together:",
}


def table(results: Path) -> str:
    """The methods side by side and the long run, beside what was claimed for other methods."""
    runs, times = runs_by_study(results), update_times(results)
    parts = titled(runs, times, "compare", "headline")
    if "compare" in runs:
        parts.insert(1, catch_up(runs["compare"], times))
    return "\n\n".join(filter(None, [*parts, claims()])) if parts else NOT_RUN


def titled(runs: dict[str, list[Record]], times: dict[str, float], *parts: str) -> list[str]:
    """The tables of some parts of the study, each under its title."""
    columns = {
        "method": name,
        "learning rate": setting("learning_rate"),
        "max-norm": setting("max_norm"),
        **ERRORS,
        "gap": gap,
        "epochs (updates)": lambda r: f"{r.config['epochs']} ({r.extra['updates']})",
        "× time an update": lambda r: f"{times[key(r)]:.2f}" if key(r) in times else "–",
        "seeds": RUN["seeds"],
        "run": RUN["run"],
    }
    return [f"{TITLES[part]}\n\n{tabulate(runs[part], columns)}" for part in parts if part in runs]


def claims() -> str:
    """What was claimed for methods of the kind."""
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


def runs_by_study(results: Path) -> dict[str, list[Record]]:
    """The newest records by the part of the study that they belong to."""
    runs: dict[str, list[Record]] = {}
    for r in record.newest(record.read_all("thinned", results)):
        runs.setdefault(r.config["study"], []).append(r)
    for found in runs.values():
        found.sort(key=lambda r: (*order(r), r.config["max_norm"], r.config["learning_rate"]))
    return runs


def order(r: Record) -> tuple[int, int, int]:
    known = ["none", "element", "flax", "thin"]
    return known.index(r.config["method"]), r.config["steps"] or 0, r.config["block"] or 0


def catch_up(records: Sequence[Record], times: dict[str, float]) -> str:
    """When each method is first at or under the last error of element-wise dropout."""
    element = next((r for r in records if r.config["method"] == ELEMENT), None)
    if element is None or LIBRARY[ELEMENT] not in times:
        return ""
    others = [r for r in records if r is not element and key(r) in times]
    return "; ".join(_catch_up(r, element, times) for r in others) + "."


def _catch_up(r: Record, element: Record, times: dict[str, float]) -> str:
    change = difference(r.final["test_error"], element.final["test_error"])
    text = f"{name(r)}: last test error {change.points('below', 'above')} element-wise dropout's"
    aim, epochs = mean_and_stderr(element.final["test_error"])[0], element.config["epochs"]
    first, its_own = (
        next((epoch for epoch, error in test_curve(x) if error <= round(aim, 9)), None)
        for x in (r, element)
    )
    share = times[key(r)] / times[LIBRARY[ELEMENT]]
    if first is None:
        whole = share * r.config["epochs"] / epochs
        return text + f", which its test curve does not reach in {whole:.2f} of the time"
    return text + (
        f", which its test curve first reaches at epoch {first} and element-wise dropout's at "
        f"epoch {its_own}: in {share * first / its_own:.2f} of that time, "
        f"{share * first / epochs:.2f} of the whole run's"
    )


def test_curve(r: Record) -> list[tuple[int, float]]:
    """(epoch, mean over seeds) at each evaluation."""
    by_epoch = zip(*r.by_epoch["test_error"], strict=True)
    # Errors are counts over 10 000 or so: what a float adds is not an error.
    means = [round(mean_and_stderr(values)[0], 9) for values in by_epoch]
    return list(zip(r.extra["evaluated_at"], means, strict=True))


def update_times(results: Path) -> dict[str, float]:
    """Time an update on the study's network, with no dropout's as 1, by the benchmark's names."""
    file = benchmark_file(results)
    if not file.exists():
        return {}
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    shape = [100, 784, 1024, 1024, 1024, 10]
    rows = [r for r in rows if r["shape"] == shape]
    most = max((r["updates"] for r in rows), default=0)
    return {r["library"]: r["ratio_to_floor"] for r in rows if r["updates"] == most}


def benchmark_file(results: Path) -> Path:
    return results / "benchmark" / "thin.json"


def key(r: Record) -> str:
    """The benchmark's name of the method of a run."""
    steps, block = r.config["steps"], r.config["block"]
    return LIBRARY.get(r.config["method"], f"thin {steps}/{block}")


def name(r: Record) -> str:
    steps, block = r.config["steps"], r.config["block"]
    return NAMES.get(r.config["method"], f"thinned, {steps} updates a life, blocks of {block}")


def records(results: Path) -> list[Record]:
    return runs_by_study(results).get("compare", [])


def more_sources(results: Path) -> list[Path] | None:
    times = benchmark_file(results)
    return [times] if times.exists() else None


def draw(figure: Any, records: Sequence[Record]) -> None:
    """Two panels of the same curves; the unit of time is that of a whole run without dropout."""
    times = update_times(records[0].path.parents[1])
    by_epoch, by_time = figure.subplots(1, 2, sharey=True)
    for r in records:
        options = {"color": COLOURS[r.config["method"]], "label": name(r)}
        epochs = r.extra["evaluated_at"]
        curve(by_epoch, epochs, r, "test_error", **options)
        if key(r) in times:
            clock = [epoch / r.config["epochs"] * times[key(r)] for epoch in epochs]
            curve(by_time, clock, r, "test_error", **options)
    last = [mean_and_stderr(r.final["test_error"])[0] for r in records]
    by_epoch.set(xlabel="epoch", ylabel="test error %", ylim=(0.9, 2.2 * max(last)))
    by_time.set(xlabel="time, in runs without dropout")
    seeds = RUN["seeds"](records[0])
    figure.suptitle(f"MNIST, 784-1024-1024-1024-10, {seeds} seeds (band: ± 1 s.e.)")
    by_epoch.legend()
