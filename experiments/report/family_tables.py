"""The tables of the dropout family's experiments, beside what was published. Standard library only.

As in `tables`: every number comes from a record, and a spread is the standard error of the mean
over seeds.
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.records import literature, record, stats
from experiments.records.markdown import NOT_RUN, device, link, markdown
from experiments.records.record import Record

CONCRETE = {  # metric: what the table calls it
    "rmse": "RMSE",
    "rate_input": "rate: input",
    "rate_hidden1": "hidden 1",
    "rate_hidden2": "hidden 2",
    "rate_mean": "mean",
    "rate_log_variance": "log variance",
    "aleatoric_sd": "aleatoric sd",
    "epistemic_sd": "epistemic sd",
}
SPARSE = {  # metric: published row, what the table calls it, digits
    "test_error": ("error", "test error %", 2),
    "compression": ("compression", "times fewer weights", 1),
    "sparsity1": ("sparsity1", "% pruned: layer 1", 1),
    "sparsity2": ("sparsity2", "layer 2", 1),
    "sparsity3": ("sparsity3", "layer 3", 1),
}


def family_errors(results: Path) -> str:
    """The members of the family at the rates chosen on validation data: error and time."""
    records = newest(results, "family")
    tested = [r for r in records if "test_error" in r.final]
    if not tested:
        return NOT_RUN
    header = ["member", "rate", "validation error % of the rates tried", "test error %",
              "train error %", "× time of dropout's update", "seeds", "device", "run"]  # fmt: skip
    rows = []
    for r in sorted(tested, key=lambda r: stats.mean_and_stderr(r.final["test_error"])[0]):
        tried = [c for c in records if "val_error" in c.final and _choice(c) == _choice(r)]
        tried.sort(key=lambda c: c.config["rate"])
        rows.append([
            r.config["method"], _rate(r),
            ", ".join(f"{c.config['rate']:g}: {stats.plus_minus(c.final['val_error'])}"
                      for c in tried) or "–",
            *(stats.plus_minus(r.final[name]) for name in ("test_error", "train_error")),
            f"{r.extra['step_to_dropout']:.2f}", len(r.final["test_error"]), device(r),
            link(r.path),
        ])  # fmt: skip
    return markdown(header, rows)


def concrete_synthetic(results: Path) -> str:
    """What concrete dropout learns from N examples, with the published value in brackets."""
    records = newest(results, "concrete_synthetic")
    if not records:
        return NOT_RUN
    rows = [
        [
            r.config["examples"],
            *(
                f"{stats.plus_minus(r.final[name], 3 if name.startswith('rate') else 2)}"
                f" ({_published('concrete/' + str(r.config['examples']), name)})"
                for name in CONCRETE
            ),
            len(r.final["rmse"]), device(r), link(r.path),
        ]
        for r in sorted(records, key=lambda r: r.config["examples"])
    ]  # fmt: skip
    text = markdown(["N", *CONCRETE.values(), "repetitions", "device", "run"], rows)
    note = literature.PUBLISHED["concrete/10/rmse"].note
    return f"{text}\n\nIn brackets: {literature.CONCRETE}, {note}."


def sparse_variational(results: Path) -> str:
    """LeNet-300-100 pruned by sparse variational dropout, under the published row."""
    every = newest(results, "sparse_variational")
    records = [r for r in every if "test_error" in r.final]
    if not records:
        return NOT_RUN
    published = [f"{_published('molchanov2017/lenet300100', row)}" for row, *_ in SPARSE.values()]
    rows = [["published", *published, "–", "–", f"{literature.MOLCHANOV}"]]
    for r in records:
        found = (stats.plus_minus(r.final[name], d) for name, (*_, d) in SPARSE.items())
        net = "-".join(map(str, r.config["hidden"]))
        rows.append([f"{net}, {r.config['epochs']} epochs", *found, len(r.final["test_error"]),
                     device(r), link(r.path)])  # fmt: skip
    header = ["LeNet", *(title for _, title, _ in SPARSE.values()), "seeds", "device", "run"]
    return "\n\n".join([markdown(header, rows), *sparse_trials(every)])


def sparse_trials(records: Sequence[Record]) -> list[str]:
    """How the number of epochs was chosen, where it was."""
    trials = [
        f"{r.config['epochs']} epochs {stats.plus_minus(r.final['val_error'])} % at "
        f"{stats.plus_minus(r.final['compression'], 1)} times fewer weights ({link(r.path)})"
        for r in sorted(records, key=lambda r: r.config["epochs"])
        if "val_error" in r.final
    ]
    return ["On the last 10 000 training images: " + "; ".join(trials) + "."] if trials else []


def convnet(results: Path) -> str:
    """Where dropout helps a small convnet: dense layer, feature maps, or both."""
    records = newest(results, "convnet")
    if not records:
        return NOT_RUN
    header = ["dropout of feature maps", "of the dense layer", "test error %", "train error %",
              "change from none", "training images (epochs)", "seeds", "device", "run"]  # fmt: skip
    records.sort(
        key=lambda r: (
            -r.config["examples"],
            str(_alike(r)),
            r.config["dense_rate"],
            r.config["maps"] != "none",
        )
    )
    rows = []
    for r in records:
        none = [p for p in records if _alike(p) == _alike(r) and not _dropped(p)]
        maps = r.config["maps"]
        rows.append([
            maps if maps == "none" else f"{maps} {r.config['maps_rate']:g}",
            f"{r.config['dense_rate']:g}" if r.config["dense_rate"] else "none",
            *(stats.plus_minus(r.final[name]) for name in ("test_error", "train_error")),
            _change(r, none[0]) if none and _dropped(r) else "–",
            f"{r.config['examples']} ({r.config['epochs']})",
            len(r.final["test_error"]), device(r), link(r.path),
        ])  # fmt: skip
    return markdown(header, rows)


def newest(results: Path, experiment: str) -> list[Record]:
    return record.newest(record.read_all(experiment, results))


def _choice(r: Record) -> dict:
    """What the runs among which a rate was chosen share with the run at that rate."""
    return {k: v for k, v in r.config.items() if k not in ("rate", "seeds", "validation")}


def _rate(r: Record) -> str:
    """The rate chosen; the mean over seeds of each layer's where it was learned."""
    learned: Sequence[Sequence[float]] = r.extra.get("learned_rates", ())
    if learned:
        means = (stats.mean_and_stderr(layer)[0] for layer in zip(*learned, strict=True))
        return f"learned: {', '.join(f'{mean:.3f}' for mean in means)}"
    return f"{r.config['rate']:g}" if r.config["rate"] else "–"


def _alike(r: Record) -> dict:
    return {k: v for k, v in r.config.items() if k not in ("maps", "maps_rate", "dense_rate")}


def _dropped(r: Record) -> bool:
    return r.config["maps"] != "none" or r.config["dense_rate"] > 0


def _change(r: Record, none: Record) -> str:
    """The difference of the mean test errors, with its standard error."""
    return stats.difference(r.final["test_error"], none.final["test_error"]).signed()


def _published(prefix: str, row: str) -> str:
    number = literature.PUBLISHED.get(f"{prefix}/{row}")
    return "–" if number is None else f"{number.value:g}{number.mark}"
