"""A small GPT on Shakespeare's characters: what dropout does for a language model.

Claim (Karpathy's nanoGPT, README): the CPU network, without dropout, reaches a validation loss of
1.88 nats a character in 2000 updates of 12 windows; the GPU network, with a rate of 0.2 at four
places, 1.4697 in 5000 updates of 64, at its best evaluation.
The loss here is that of the whole last tenth of the text, in windows side by side; nanoGPT takes 20
batches at random. The best along a run is chosen on the text that it is reported on, as nanoGPT
does; the last is beside it.

Question: at how many passes over the text does dropout begin to pay, at which places, and when in
the run?

Command: python -m experiments.shakespeare                    (the CPU network, 5 seeds)
         python -m experiments.shakespeare --size gpu --rates 0 0.1 0.2 0.3 0.4
         python -m experiments.shakespeare --seeds 3 --updates 1000 --rates 0 0.1 0.2 0.4
             --shares 0.0078125 0.015625 0.0625 1   (--in-turn --products bfloat16: faster on a CPU)
Results: docs/results/shakespeare.md.
Data: DROPOUT_JAX_DATA/shakespeare/input.txt
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx

import dropout_jax as dj
from dropout_jax import train
from dropout_jax._checks import check_rate
from experiments.harness import cli
from experiments.harness.devices import divide_runs
from experiments.harness.launch import Columns, final, launch
from experiments.harness.training import seed_keys
from experiments.nets import bfloat16, gpt, text
from experiments.nets.gpt import GPT, PLACES, Place
from experiments.records import record

Schedule = Literal["constant", "early", "late", "linear"]


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
    """One network at one rate."""

    size: Literal["cpu", "gpu"] = "cpu"
    """nanoGPT's network for a CPU (4 layers of 128) or a GPU (6 of 384)"""
    rate: cli.Set[float] = 0.0
    """rate of dropping at the places"""
    places: tuple[Place, ...] = PLACES
    """where to drop"""
    schedule: cli.Set[Schedule] = "constant"
    """how the rate goes over the run"""
    share: cli.Set[float] = 1.0
    """which part of the training text to train on: the first so much"""
    updates: int | None = None
    """updates of the weights; not given: nanoGPT's"""
    products: Literal["float32", "bfloat16"] = "float32"
    """to what the factors of a layer's matrix products are rounded"""
    in_turn: bool = False
    """the seeds take turns, 250 updates each, in place of advancing together: faster on a CPU"""
    prompt: str = field(default="", metadata=record.NOT_RECORDED)
    """after training, continue this text with the first seed's network, and print it"""


@dataclass(frozen=True)
class Study:
    """Every rate and schedule on every share of the text."""

    runs: Annotated[Config, tyro.conf.OmitArgPrefixes] = Config()
    rates: tuple[float, ...] = (0.0,)
    """rates of dropping at the places"""
    schedules: tuple[Schedule, ...] = ("constant",)
    """how the rate goes: constant; early, to 0 in half of the run; late, from the half on; linear,
    from 0 to the rate at the end"""
    shares: tuple[float, ...] = (1.0,)
    """which parts of the training text to train on: the first so much"""
    apart: bool = False
    """drop at each of the places alone, a run each, in place of at all of them"""


def configs(study: Study) -> list[Config]:
    places = [(place,) for place in study.runs.places] if study.apart else [study.runs.places]
    return [
        replace(study.runs, share=share, places=where, rate=check_rate(rate), schedule=schedule)
        for share in study.shares
        for where in places
        for rate in study.rates
        for schedule in study.schedules
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


def rate_of(config: Config, updates: int) -> gpt.Rate:
    """The rate, or its schedule over so many updates."""
    schedules = {
        "constant": config.rate,
        "early": dj.rates.early(config.rate, updates / 2),
        "late": dj.rates.late(config.rate, updates / 2),
        "linear": dj.rates.linear(0.0, config.rate, updates),
    }
    return schedules[config.schedule]


def network(config: Config, setting: Setting, symbols: str) -> train.Build:
    rates = dict.fromkeys(config.places, rate_of(config, setting.updates))

    def build(rngs, hyper):
        model = GPT(len(symbols), setting.size, rates, rngs=rngs)
        if config.products == "bfloat16":
            model.set_attributes(nnx.Linear, dot_general=bfloat16.dot_general)
        return model

    return build


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
    characters = setting.evaluate_every * setting.batch_size * setting.size.context
    keys, splits = divide_runs(config.devices, seed_keys(config.seeds), splits)
    init = jax.jit(jax.vmap(loop.init, (0, None, None)))
    state, history = train.run(
        loop,
        init(keys, {}, splits),
        splits,
        epochs=setting.updates // setting.evaluate_every,
        evaluate=("val",),
        checkpoint_dir=checkpoint_dir,
        in_turn=config.in_turn,
        measure=pace(config.seeds * characters),
        progress=sys.stderr.isatty(),
        label=f"{label(config)}, {setting.evaluate_every} updates each",
    )
    if config.prompt:
        print(sample(config, words, jax.tree.map(lambda leaf: leaf[0], state).model()))
    losses = np.asarray(history["val_loss"], np.float64).T
    seen = characters * setting.updates // setting.evaluate_every
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


def pace(characters: int) -> Callable[[train.State], dict[str, float]]:
    """A metric for the bar: characters a second, of all seeds, since the last evaluation."""
    last = time.perf_counter()

    def measure(state):
        nonlocal last
        since, last = last, time.perf_counter()
        return {"characters_a_second": characters / (last - since)}

    return measure


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
    parts = [config.size, f"share {config.share:g}", f"rate {config.rate:g}"]
    if config.schedule != "constant":
        parts.append(config.schedule)
    if config.rate and config.places != PLACES:
        parts.append(" ".join(config.places))
    return ", ".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    study = cli.cli(Study, __doc__, argv)
    with cli.user_errors():
        launch("shakespeare", configs(study), run, label=label, columns=COLUMNS)


if __name__ == "__main__":
    main()
