"""What thinned training saves and what it costs, from the study's records and the benchmark."""

import json
from collections.abc import Sequence
from pathlib import Path

from experiments.records import record, stats
from experiments.records.markdown import NOT_RUN, folded, link, markdown
from experiments.records.record import Record

ELEMENT = "element"
NAMES = {"none": "no dropout", "element": "dropout, element-wise", "flax": "flax.nnx.Dropout"}
LIBRARY = {"none": "no dropout", "element": "dropout_jax", "flax": "flax.nnx"}


def methods(results: Path) -> str:
    """The methods side by side, and the long run."""
    runs, times = study(results), update_times(results)
    parts = titled(runs, times, "compare", "headline")
    if "compare" in runs:
        parts.insert(1, catch_up(runs["compare"], times))
    return "\n\n".join(filter(None, parts)) or NOT_RUN


def studies(results: Path) -> str:
    """Lives, blocks, the noise of the gradient, and how the settings were chosen."""
    runs = study(results)
    parts = titled(runs, update_times(results), "life", "block")
    parts += [noise(results), settings(runs.get("tune", []))]
    return "\n\n".join(filter(None, parts)) or NOT_RUN


def titled(runs: dict[str, list[Record]], times: dict[str, float], *parts: str) -> list[str]:
    return [f"{TITLES[part]}\n\n{errors(runs[part], times)}" for part in parts if part in runs]


TITLES = {
    "compare": "784-1024-1024-1024-10 on MNIST, each method with its own learning rate:",
    "headline": "The same network for longer:",
    "life": "The number of updates in the life of a sub-network:",
    "block": "The number of units that are kept or dropped together:",
}


def study(results: Path) -> dict[str, list[Record]]:
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


def errors(records: Sequence[Record], times: dict[str, float]) -> str:
    header = ["method", "learning rate", "max-norm", "test error %", "train error %", "gap",
              "epochs (updates)", "× time an update", "seeds", "run"]  # fmt: skip
    rows = []
    for r in records:
        test, train = r.final["test_error"], r.final["train_error"]
        gap = [a - b for a, b in zip(test, train, strict=True)]
        share = times.get(key(r))
        rows.append([
            name(r), f"{r.config['learning_rate']:g}", f"{r.config['max_norm']:g}",
            *map(stats.plus_minus, (test, train, gap)),
            f"{r.config['epochs']} ({r.extra['updates']})",
            "–" if share is None else f"{share:.2f}",
            len(test), link(r.path),
        ])  # fmt: skip
    return markdown(header, rows)


def catch_up(records: Sequence[Record], times: dict[str, float]) -> str:
    """When each method is first at or under the last error of element-wise dropout."""
    element = [r for r in records if r.config["method"] == ELEMENT]
    if not element or LIBRARY[ELEMENT] not in times:
        return ""
    (aim, _), epochs = (
        stats.mean_and_stderr(element[0].final["test_error"]),
        element[0].config["epochs"],
    )
    sentences = []
    for r in records:
        if r is element[0] or key(r) not in times:
            continue
        change = stats.difference(r.final["test_error"], element[0].final["test_error"])
        text = (
            f"{name(r)}: last test error {change.points('below', 'above')} element-wise dropout's"
        )
        first, its_own = (
            next((epoch for epoch, error in curve(x) if error <= round(aim, 9)), None)
            for x in (r, element[0])
        )
        whole = times[key(r)] * r.config["epochs"] / (times[LIBRARY[ELEMENT]] * epochs)
        if first is None:
            text += f", which its test curve does not reach in {whole:.2f} of the time"
        else:
            share = times[key(r)] * first / times[LIBRARY[ELEMENT]]
            text += (
                f", which its test curve first reaches at epoch {first} and element-wise dropout's "
                f"at epoch {its_own}: in {share / its_own:.2f} of that time, "
                f"{share / epochs:.2f} of the whole run's"
            )
        sentences.append(text)
    return "; ".join(sentences) + "."


def noise(results: Path) -> str:
    """What masks that are shared do to the noise of the gradient."""
    parts = []
    for r in record.newest(record.read_all("thinned_noise", results)):
        noises = {n.removeprefix("noise_"): v for n, v in r.final.items() if n.startswith("noise_")}
        rows = []
        for life, values in noises.items():
            pairs = zip(values, noises[ELEMENT], strict=True)
            to_signal = zip(values, r.final[f"signal_{life}"], strict=True)
            rows.append([
                NAMES.get(life, f"thinned, {life} updates a life, blocks of {r.config['block']}"),
                stats.plus_minus([a / b for a, b in pairs], 1),
                stats.plus_minus([a / b for a, b in to_signal], 3),
                len(values), link(r.path),
            ])  # fmt: skip
        header = ["method", "noise / element-wise noise", "noise / signal", "seeds", "run"]
        title = (
            f"The noise that masks give the mean gradient of {r.config['window']} updates (its "
            "variance, summed over the weights), weights fixed:"
        )
        parts.append(f"{title}\n\n{markdown(header, rows)}")
    return "\n\n".join(parts)


def settings(records: Sequence[Record]) -> str:
    """How learning rates and max-norms were chosen: on validation images alone."""
    if not records:
        return ""
    header = ["tried on the last 10 000 training images", "learning rate", "max-norm", "epochs",
              "validation error %", "run"]  # fmt: skip
    rows = [
        [name(r), f"{r.config['learning_rate']:g}", f"{r.config['max_norm']:g}",
         r.config["epochs"], stats.plus_minus(r.final["val_error"]), link(r.path)]
        for r in sorted(records, key=lambda r: (r.config["epochs"], order(r)))
    ]  # fmt: skip
    return folded("How learning rates and max-norms were chosen", markdown(header, rows))


def curve(r: Record, metric: str = "test_error") -> list[tuple[int, float]]:
    """(epoch, mean over seeds) at each evaluation."""
    by_epoch = zip(*r.by_epoch[metric], strict=True)
    # Errors are counts over 10 000 or so: what a float adds is not an error.
    means = [round(stats.mean_and_stderr(values)[0], 9) for values in by_epoch]
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
    """What the benchmark calls it."""
    steps, block = r.config["steps"], r.config["block"]
    return LIBRARY.get(r.config["method"], f"thin {steps}/{block}")


def name(r: Record) -> str:
    steps, block = r.config["steps"], r.config["block"]
    return NAMES.get(r.config["method"], f"thinned, {steps} updates a life, blocks of {block}")
