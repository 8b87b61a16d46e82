"""A small GPT on Shakespeare's characters: what dropout does for a language model.

Claim (Karpathy's nanoGPT, README): the CPU network, without dropout, reaches a validation loss of
1.88 nats a character in 2000 updates of 12 windows; the GPU network, with a rate of 0.2 at four
places, 1.4697 in 5000 updates of 64, at its best evaluation.
The loss here is that of the whole last tenth of the text, in windows side by side; nanoGPT takes 20
batches at random. The best along a run is chosen on the text that it is reported on, as nanoGPT
does; the last is beside it.

Command: python -m experiments.shakespeare                    (the CPU network, 5 seeds)
         python -m experiments.shakespeare --size gpu --rates 0 0.1 0.2 0.3 0.4
         python -m experiments.shakespeare --shares 0.015625 0.0625 0.25 1 --rates 0 0.1 0.2 0.4
Data: DROPOUT_JAX_DATA/shakespeare/input.txt
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dropout_jax import train
from dropout_jax._checks import check_rate
from experiments.harness import cli
from experiments.harness.devices import divide_runs
from experiments.harness.launch import Columns, final, launch
from experiments.harness.training import seed_keys
from experiments.nets import gpt, text
from experiments.nets.gpt import GPT, PLACES, Place
from experiments.records import record


class Setting(NamedTuple):
    """A network of nanoGPT, with its batch, updates, and updates between evaluations."""

    size: gpt.Size
    batch_size: int
    updates: int
    evaluate_every: int


SETTINGS = {
    "cpu": Setting(gpt.Size(layers=4, heads=4, width=128, context=64), 12, 2000, 250),
    "gpu": Setting(gpt.Size(layers=6, heads=6, width=384, context=256), 64, 5000, 250),
}
QUICK = Setting(gpt.Size(layers=2, heads=2, width=32, context=16), 4, 20, 10)
QUICK_CHARACTERS = 2000


@dataclass(frozen=True)
class Config(cli.Divided):
    """One network at one rate; its seeds are trained in one program."""

    size: Literal["cpu", "gpu"] = "cpu"
    """nanoGPT's network for a CPU (4 layers of 128) or a GPU (6 of 384)"""
    rate: cli.Rate = 0.0
    """rate of dropping at the places"""
    places: tuple[Place, ...] = PLACES
    """where to drop"""
    share: float = 1.0
    """which part of the training text to train on: the first so much"""
    updates: int | None = None
    """updates of the weights; not given: nanoGPT's"""
    prompt: str = field(default="", metadata=record.NOT_RECORDED)
    """after training, continue this text with the first seed's network, and print it"""


@dataclass(frozen=True)
class Study(cli.Divided):
    """Every rate on every share of the text."""

    size: Literal["cpu", "gpu"] = "cpu"
    """nanoGPT's network for a CPU (4 layers of 128) or a GPU (6 of 384)"""
    rates: tuple[float, ...] = (0.0,)
    """rates of dropping at the places"""
    places: tuple[Place, ...] = PLACES
    """where to drop"""
    shares: tuple[float, ...] = (1.0,)
    """which parts of the training text to train on: the first so much"""
    updates: int | None = None
    """updates of the weights; not given: nanoGPT's"""
    prompt: str = field(default="", metadata=record.NOT_RECORDED)
    """after training, continue this text with the first seed's network, and print it"""


def configs(study: Study) -> list[Config]:
    same = {name: getattr(study, name) for name in ("size", "places", "updates", "prompt")}
    return [
        Config(**cli.shared(study), **same, rate=check_rate(rate), share=share)
        for share in study.shares
        for rate in study.rates
    ]


def setting_of(config: Config) -> Setting:
    setting = QUICK if config.quick else SETTINGS[config.size]
    if config.updates is None or config.quick:
        return setting
    if config.updates % setting.evaluate_every or config.updates < 1:
        raise ValueError(
            f"--updates is {config.updates}; write a multiple of {setting.evaluate_every}"
        )
    return setting._replace(updates=config.updates)


def network(config: Config, setting: Setting, symbols: str) -> train.Build:
    rates = dict.fromkeys(config.places, config.rate)
    return lambda rngs, hyper: GPT(len(symbols), setting.size, rates, rngs=rngs)


def splits_of(config: Config, setting: Setting, words: text.Text) -> train.Data:
    if not 0 < config.share <= 1:
        raise ValueError(f"--share is {config.share}; write a share above 0, and 1 for all")
    training = words.train[: int(config.share * len(words.train))]
    validation = words.val[: QUICK_CHARACTERS if config.quick else None]
    return {
        "train": (jnp.asarray(training[:-1]), jnp.asarray(training[1:])),
        "val": text.windows(validation, setting.size.context),
    }


def run(config: Config, checkpoint_dir: Path | None = None) -> dict[str, Any]:
    """Train the seeds, side by side or in turn."""
    setting, words = setting_of(config), text.load_shakespeare(config.data_dir)
    splits = splits_of(config, setting, words)
    optimizer = gpt.adamw(setting.updates)
    build = network(config, setting, words.symbols)
    loop = text.text_loop(
        build,
        lambda hyper: optimizer,
        batch_size=setting.batch_size,
        context=setting.size.context,
        updates=setting.evaluate_every,
    )
    keys, splits = divide_runs(config.devices, seed_keys(config.seeds), splits)
    init = jax.jit(jax.vmap(loop.init, (0, None, None)))
    state, history = train.run(
        loop,
        init(keys, {}, splits),
        splits,
        epochs=setting.updates // setting.evaluate_every,
        evaluate=("val",),
        checkpoint_dir=checkpoint_dir,
        progress=sys.stderr.isatty(),
        label=f"{config.size}, rate {config.rate:g}, {setting.evaluate_every} updates each",
    )
    if config.prompt:
        print(sample(config, words, jax.tree.map(lambda leaf: leaf[0], state).model()))
    losses = np.asarray(history["val_loss"], np.float64).T
    seen = setting.updates * setting.batch_size * setting.size.context
    return {
        "final": {
            "val_loss": losses[:, -1],
            "best_val_loss": losses.min(axis=1),
            "train_loss": np.asarray(history["loss"], np.float64)[-1],
        },
        "by_epoch": {"val_loss": losses, "train_loss": np.asarray(history["loss"]).T},
        "extra": {
            "updates": setting.updates,
            "evaluated_at": history.epochs * setting.evaluate_every,
            "passes_over_the_text": seen / len(splits["train"][0]),
            "seconds": history.seconds,
            "seconds_per_update": float(np.median(history.seconds)) / setting.evaluate_every,
        },
    }


def sample(config: Config, words: text.Text, model: GPT, length: int = 400) -> str:
    """The config's prompt, continued by the model."""
    unknown = sorted(set(config.prompt) - set(words.symbols))
    if unknown:
        raise ValueError(f"--prompt has {unknown[0]!r}, which the text does not have")
    prompt = jnp.array([words.symbols.index(c) for c in config.prompt])
    written = gpt.generate(jax.random.key(0), model, prompt, length)
    return "".join(words.symbols[i] for i in written.tolist())


COLUMNS: Columns = {
    "passes over the text": lambda r: f"{r.extra['passes_over_the_text']:.1f}",
    "validation loss": final("val_loss", 3),
    "best along the run": final("best_val_loss", 3),
    "training loss": final("train_loss", 3),
    "seconds an update": lambda r: f"{r.extra['seconds_per_update']:.3f}",
}


def label(config: Config) -> str:
    return f"{config.size}, rate {config.rate:g}, share {config.share:g}"


def main(argv: Sequence[str] | None = None) -> None:
    study = cli.cli(Study, __doc__, argv)
    with cli.user_errors():
        launch("shakespeare", configs(study), run, label=label, columns=COLUMNS)


if __name__ == "__main__":
    main()
