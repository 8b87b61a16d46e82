"""Thinned training on MNIST: sub-networks that are smaller, against dropout that multiplies by 0.

Question: drawing half of the units of each hidden layer for a few steps, and training only them,
does about a third of the arithmetic; what does it do to the time, and to the test error?
Method: 784-1024-1024-1024-10 ReLU, rates 0.2 on the input and 0.5 on the hidden layers, max-norm on
the hidden layers, SGD with momentum 0.9, learning rate warmed up over one epoch and decayed as half
a cosine. The last epoch is reported. `--study tune` compares learning rates and max-norms on the
last 10 000 training images; the learning rates below are those that it chose. The life of 10
updates and the blocks of 16 were not chosen so: they come from a first trial.

Command: python -m experiments.thinned --study compare    (also tune, life, block, headline)
Time: at 100 epochs and five seeds, half an hour of one core thinned, an hour and a half
element-wise; times to compare are those of `scripts/benchmark --suites thin`.
Results: docs/results/thinned.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import optax
import tyro

import dropout_jax as dj
from dropout_jax._checks import check_rate
from experiments.harness import cli
from experiments.harness.launch import ERRORS, file_name, launch
from experiments.harness.splits import load_splits
from experiments.harness.training import epochs_of, train_seeds
from experiments.nets import thinning
from experiments.nets.thinning import Method

# Chosen by `--study tune` on validation data; flax has that of the same dropout of ours.
LEARNING_RATES: dict[str, float] = {"none": 0.1, "element": 0.05, "flax": 0.05, "thin": 0.02}
LIVES, BLOCKS = (1, 3, 10, 30, 100), (1, 16, 64)


@dataclass(frozen=True)
class Config(cli.Divided):
    """One method with its settings."""

    seeds: int = 3
    data: Annotated[Literal["mnist", "fashion_mnist"], tyro.conf.arg(name="dataset")] = "mnist"
    """which images"""
    study: cli.Set[str] = "compare"
    """what the run belongs to"""
    method: cli.Set[Method] = "thin"
    """no dropout, ours element-wise, flax.nnx.Dropout, or thinned sub-networks"""
    steps: cli.Set[int | None] = None
    """updates in the life of a sub-network; thin alone"""
    block: cli.Set[int | None] = None
    """units kept or dropped together; thin alone"""
    hidden: tuple[int, ...] = (1024, 1024, 1024)
    """units of each hidden layer (ReLU)"""
    rate: cli.Rate = 0.5
    """rate of every hidden layer"""
    input_rate: cli.Rate = 0.2
    """rate of the input, element-wise in every method"""
    max_norm: float = 3.0
    """longest incoming weight vector of a hidden unit; for thin, as the sub-network sees it"""
    epochs: int = 100
    """passes over the training images"""
    batch_size: int = 100
    """images an update"""
    learning_rate: cli.Set[float] = 0.02
    """of SGD with momentum 0.9, at its highest"""
    validation: cli.Set[int] = 0
    """training images set aside: report the error on the last so many, not on the test set"""


@dataclass(frozen=True)
class Study:
    """Which of the study's tables to fill."""

    runs: Annotated[Config, tyro.conf.OmitArgPrefixes] = Config()
    study: Literal["compare", "tune", "life", "block", "headline"] = "compare"
    """the methods side by side; settings on validation; lives of 1 to 100; blocks of 1 to 64; a
    long run of the paper's network"""
    methods: tuple[Method, ...] = ("none", "element", "thin")
    """which methods, for compare and tune"""
    learning_rates: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1)
    """what tune tries"""
    steps: int = 10
    """updates in the life of a sub-network, but for life"""
    block: int = 16
    """units kept or dropped together, but for block"""


def run(config: Config, checkpoint_dir: Path | None = None) -> dict[str, Any]:
    """Train one method, its seeds side by side in one program."""
    check_rate(config.rate)
    split, epochs = load_splits(config), epochs_of(config)
    (held_out,) = split.keys() - {"train"}
    examples, inputs = split["train"][0].shape
    rates = (config.input_rate, *[config.rate] * len(config.hidden))

    def build(rngs, hyper):
        return thinning.network(config.method, (inputs, *config.hidden, 10), rates, rngs)

    def optimizer(updates):
        decay = optax.warmup_cosine_decay_schedule(
            0, config.learning_rate, examples // config.batch_size, updates
        )
        return thinning.optimizer(decay, config.max_norm, len(config.hidden))

    outcome = train_seeds(
        build,
        optimizer,
        split,
        seeds=config.seeds,
        devices=config.devices,
        epochs=epochs,
        batch_size=config.batch_size,
        thin=dj.Thin(config.steps, config.block) if config.method == "thin" else None,
        evaluate=(held_out,),
        evaluations=20,
        checkpoint_dir=checkpoint_dir,
        label=label(config),
    )
    result = outcome.result()
    result["final"]["train_error"] = outcome.train_error()
    return result


def configs(study: Study) -> list[Config]:
    """The runs that a study consists of."""
    base = replace(
        study.runs,
        study=study.study,
        learning_rate=LEARNING_RATES["thin"],
        steps=study.steps,
        block=study.block,
    )

    def of(method):
        shape = {} if method == "thin" else {"steps": None, "block": None}
        return replace(base, method=method, learning_rate=LEARNING_RATES[method], **shape)

    if study.study == "compare":
        return [of(method) for method in study.methods]
    if study.study == "tune":
        return [
            replace(of(method), learning_rate=rate, validation=10_000)
            for method in study.methods
            for rate in study.learning_rates
        ]
    if study.study == "life":
        return [replace(base, steps=steps) for steps in LIVES]
    if study.study == "block":
        return [replace(base, block=block) for block in BLOCKS]
    return [base]


def label(config: Config) -> str:
    life = f" K={config.steps} block={config.block}" if config.method == "thin" else ""
    return f"{config.method}{life} lr={config.learning_rate:g} max-norm={config.max_norm:g}"


def main(argv: Sequence[str] | None = None) -> None:
    study = cli.cli(Study, __doc__, argv)
    with cli.user_errors():
        columns = {**ERRORS, "record": file_name}
        launch("thinned", configs(study), run, label=label, columns=columns)


if __name__ == "__main__":
    main()
