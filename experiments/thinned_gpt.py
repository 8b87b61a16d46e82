"""A thinned GPT: smaller sub-networks of a transformer, against dropout that multiplies by 0.

Question: leaving out half of the MLPs' hidden units and half of the heads for ten updates at a time
saves about half of a GPT's arithmetic; where a text is read many times, so that dropout helps, is
the loss as good as with dropout element by element at the same places, and in what time?
Method: nanoGPT's CPU network on the first 1/64 of tiny Shakespeare, its optimizer and settings, of
which none is tuned. Each method makes as many updates; thinned training also as many as fit into
their time, with the learning rate's schedule drawn out. The loss is that of the whole last tenth of
the text; the best along the run is chosen on the text that it is reported on.

Command: python -m experiments.thinned_gpt
Time: about a quarter of an hour of two cores; times to compare are those of
`scripts/benchmark --suites thin_transformer`.
Data: DROPOUT_JAX_DATA/shakespeare/input.txt
Results: docs/results/thinned_gpt.md.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import dropout_jax as dj
from dropout_jax import train
from experiments.harness import cli
from experiments.harness.devices import divide_runs
from experiments.harness.launch import Columns, final, launch
from experiments.harness.training import seed_keys
from experiments.nets import gpt, text, thinning
from experiments.nets.thinning import Method

SIZE, BATCH, EVERY = gpt.Size(layers=4, heads=4, width=128, context=64), 12, 200
QUICK = gpt.Size(layers=1, heads=4, width=32, context=16)
QUICK_CHARACTERS = 2000


@dataclass(frozen=True)
class Config(cli.Divided):
    """One method at one rate; its seeds are trained in one program."""

    seeds: int = 2
    method: cli.Set[Method] = "thin"
    """no dropout, ours element-wise, or thinned sub-networks"""
    rate: cli.Set[float] = 0.5
    """rate at the MLPs' hidden units and at the heads"""
    updates: cli.Set[int] = 1000
    """updates of the weights"""
    share: float = 1 / 64
    """which part of the training text to train on: the first so much"""
    steps: int = 10
    """updates in the life of a sub-network"""
    block: int = 16
    """hidden units kept or dropped together"""


@dataclass(frozen=True)
class Study:
    """Every method at every rate, and thinned training for longer."""

    runs: Annotated[Config, tyro.conf.OmitArgPrefixes] = Config()
    methods: tuple[Method, ...] = ("none", "element", "thin")
    """which methods"""
    rates: tuple[float, ...] = (0.2, 0.5)
    """rates of element-wise dropout and of thinned training"""
    updates: int = 1000
    """updates of each run"""
    longer: int = 1800
    """updates of one more thinned run, at the highest rate; 0: none"""


def configs(study: Study) -> list[Config]:
    """The runs that a study consists of."""
    base = replace(study.runs, updates=study.updates)
    found = [
        replace(base, method=method, rate=rate)
        for method in study.methods
        for rate in ((0.0,) if method == "none" else study.rates)
    ]
    if study.longer:
        found.append(replace(base, rate=max(study.rates), updates=study.longer))
    return found


def run(config: Config, checkpoint_dir: Path | None = None) -> dict[str, Any]:
    """Train the seeds of one method side by side."""
    if not 0 < config.share <= 1:
        raise ValueError(f"--share is {config.share}; write a share above 0, and 1 for all")
    if config.updates % EVERY or config.updates < 1:
        raise ValueError(f"{config.updates} updates; write a multiple of {EVERY}")
    size = QUICK if config.quick else SIZE
    updates, every = (20, 10) if config.quick else (config.updates, EVERY)
    words = text.load_shakespeare(config.data_dir)
    training = words.train[: int(config.share * len(words.train))]
    validation = words.val[: QUICK_CHARACTERS if config.quick else None]
    splits = {
        "train": (jnp.asarray(training[:-1]), jnp.asarray(training[1:])),
        "val": text.windows(validation, size.context),
    }
    optimizer, symbols = gpt.adamw(updates), len(words.symbols)
    loop = text.text_loop(
        lambda rngs, hyper: thinning.gpt_network(config.method, symbols, size, config.rate, rngs),
        lambda hyper: optimizer,
        batch_size=BATCH,
        context=size.context,
        updates=every,
        thin=dj.Thin(config.steps, config.block, pairs=thinning.PAIRS)
        if config.method == "thin"
        else None,
    )
    keys, splits = divide_runs(config.devices, seed_keys(config.seeds), splits)
    init = jax.jit(jax.vmap(loop.init, (0, None, None)))
    _, history = train.run(
        loop,
        init(keys, {}, splits),
        splits,
        epochs=updates // every,
        evaluate=("val",),
        checkpoint_dir=checkpoint_dir,
        progress=sys.stderr.isatty(),
        label=label(config),
    )
    losses = np.asarray(history["val_loss"], np.float64).T
    return {
        "final": {
            "val_loss": losses[:, -1],
            "best_val_loss": losses.min(axis=1),
            "train_loss": np.asarray(history["loss"], np.float64)[-1],
        },
        "by_epoch": {"val_loss": losses, "train_loss": np.asarray(history["loss"]).T},
        "extra": {
            "updates": updates,
            "text_sha256": words.sha256,
            "evaluated_at": history.epochs * every,
            "passes_over_the_text": updates * BATCH * size.context / len(training),
            "arithmetic": thinning.gpt_arithmetic(symbols, size, config.rate)
            if config.method == "thin"
            else 1.0,
            "seconds": history.seconds,
            "seconds_per_update": float(np.median(history.seconds)) / every,
        },
    }


COLUMNS: Columns = {
    "validation loss": final("val_loss", 3),
    "best along the run": final("best_val_loss", 3),
    "training loss": final("train_loss", 3),
    "seconds an update": lambda r: f"{r.extra['seconds_per_update']:.4f}",
}


def label(config: Config) -> str:
    return f"{config.method}, rate {config.rate:g}, {config.updates} updates"


def main(argv: Sequence[str] | None = None) -> None:
    study = cli.cli(Study, __doc__, argv)
    with cli.user_errors():
        launch("thinned_gpt", configs(study), run, label=label, columns=COLUMNS)


if __name__ == "__main__":
    main()
