"""The dropout family on MNIST: one MLP, every member that fits it, each at its own best rate.

Question: what does each member do to the test error, and what does it cost?
Method: 784-512-512-10 ReLU, Adam with the learning rate decayed as half a cosine, noise on the
hidden layers. The rate is chosen from a few by the error on the last 10 000 training images, one
seed each; the test error is of 3 seeds trained on all images, read after the last epoch. The time
of an update is measured after the training, in turn with that of dropout at rate 0.5.
Of note: alpha_dropout has a SELU network, which it is made for, and selu is that without noise.
drop_connect draws one mask a batch. concrete_dropout and variational_dropout learn their rates from
one beginning, and nothing is chosen. early and late dropout change after a third of the updates.

Command: python -m experiments.family
    for example --methods dropout standout; it goes on where it stopped
Time: forty minutes of one core that other work shared.
Results: docs/results/family.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import jax
import optax
import tyro
from flax import nnx

from dropout_jax import layers, train
from experiments.harness import cli, timing
from experiments.harness.launch import final, launch
from experiments.harness.once import run_once
from experiments.harness.splits import load_splits
from experiments.harness.training import epochs_of, train_seeds
from experiments.nets import members
from experiments.nets.members import Method
from experiments.records import trials

USUAL = (0.1, 0.3, 0.5)
# The rates to choose from on validation data; standard deviations for gaussian_noise.
GRIDS: dict[Method, tuple[float, ...]] = {
    **dict.fromkeys(get_args(Method), USUAL),
    **dict.fromkeys(("none", "selu"), (0.0,)),
    "gaussian_noise": (0.1, 0.3, 1.0),
    "alpha_dropout": (0.05, 0.1, 0.2),
    "concrete_dropout": (0.1,),
    "variational_dropout": (0.2,),
}
VALIDATION = 10_000
QUICK = ("none", "dropout")
TIMED_UPDATES = 5  # an application of the timed program


@dataclass(frozen=True)
class Config(cli.Divided):
    """One member with its settings."""

    seeds: int = 3
    data: Annotated[Literal["mnist", "fashion_mnist"], tyro.conf.arg(name="dataset")] = "mnist"
    """which images"""
    method: cli.Set[Method] = "dropout"
    """the member of the family"""
    rate: cli.Set[float] = 0.5
    """of the hidden layers; gaussian_noise's standard deviation; the first where it is learned"""
    hidden: tuple[int, ...] = (512, 512)
    """units of each hidden layer"""
    epochs: int = 10
    """passes over the training images"""
    batch_size: int = 100
    """images an update"""
    learning_rate: float = 1e-3
    """of Adam at the start; it falls to 0 as half a cosine"""
    validation: cli.Set[int] = 0
    """training images set aside: report the error on the last so many, not on the test set"""


@dataclass(frozen=True)
class Study:
    """Which members to choose a rate for and to test."""

    runs: Annotated[Config, tyro.conf.OmitArgPrefixes] = Config()
    methods: tuple[Method, ...] = ()
    """which members; not given: all, and with --quick two"""


def run(config: Config, checkpoint_dir: Path | None = None) -> dict[str, Any]:
    """Train one member, its seeds side by side; without a validation set, time its update too."""
    split, epochs = load_splits(config), epochs_of(config)
    examples, inputs = split["train"][0].shape
    updates = examples // config.batch_size * epochs
    outcome = train_seeds(
        lambda rngs, hyper: network(config, inputs, updates, rngs),
        lambda updates: optimizer(config, updates),
        split,
        seeds=config.seeds,
        devices=config.devices,
        epochs=epochs,
        batch_size=config.batch_size,
        loss=members.loss_of(config.method, examples),
        evaluations=5,
        unbatched=True,
        checkpoint_dir=checkpoint_dir,
        label=label(config),
    )
    extra = {}
    if config.method in members.LEARNED:
        extra["learned_rates"] = members.learned_rates(config.method, outcome.model())
    if not config.validation:
        extra |= step_times(config, split)
    return outcome.result(**extra)


def network(config: Config, inputs: int, updates: int, rngs: nnx.Rngs) -> layers.MLP:
    """The network of a member."""
    sizes = (inputs, *config.hidden, 10)
    return members.network(config.method, sizes, config.rate, updates, rngs)


def optimizer(config: Config, updates: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(config.learning_rate, updates))


def step_times(config: Config, splits: train.Data) -> dict[str, Any]:
    """The time of an update of one network, and what it is relative to dropout's, in turn."""
    few = {"train": tuple(a[: TIMED_UPDATES * config.batch_size] for a in splits["train"])}
    dropout = replace(config, method="dropout", rate=0.5)
    programs = {c.method: _updates(c, few) for c in (dropout, config)}
    samples = timing.measure(
        programs, rounds=2 if config.quick else 9, seconds=0.1, references=tuple(programs)
    )
    ratio, ratio_iqr = timing.median_and_iqr(samples[config.method] / samples["dropout"])
    milliseconds = timing.median_and_iqr(samples[config.method] / TIMED_UPDATES * 1000)[0]
    return {"step_ms": milliseconds, "step_to_dropout": ratio, "step_to_dropout_iqr": ratio_iqr}


def _updates(config: Config, few: train.Data) -> timing.Program:
    examples, inputs = few["train"][0].shape
    updates = examples // config.batch_size * config.epochs
    loop = train.make_loop(
        lambda rngs, hyper: network(config, inputs, updates, rngs),
        lambda hyper: optimizer(config, updates),
        batch_size=config.batch_size,
        loss=members.loss_of(config.method, examples),
    )
    state = jax.jit(loop.init)(jax.random.key(0), {}, few)
    epoch = jax.jit(loop.epoch, donate_argnums=0)

    def run(count):
        nonlocal state
        for _ in range(count):
            state, _ = epoch(state, few)
        jax.block_until_ready(state)

    return timing.Program(run)


def candidates(config: Config) -> list[Config]:
    """The runs that the rate of a member is chosen by: none where there is nothing to choose."""
    rates = GRIDS[config.method]
    if len(rates) == 1:
        return []
    validation = 100 if config.quick else VALIDATION
    return [replace(config, rate=rate, seeds=1, validation=validation) for rate in rates]


def with_best_rate(config: Config) -> Config:
    """The member at the rate of the lowest error on validation data; of equal ones the lowest."""
    tried = [run_once("family", c, run) for c in candidates(config)]
    if not tried:
        return replace(config, rate=GRIDS[config.method][0])
    return replace(config, **trials.best(tried, ("rate",)))


def label(config: Config) -> str:
    return f"{config.method} {config.rate:g}"


COLUMNS = {
    "test error %": final("test_error"),
    "x dropout's step": lambda r: f"{r.extra['step_to_dropout']:.2f}",
}


def main(argv: Sequence[str] | None = None) -> None:
    study = cli.cli(Study, __doc__, argv)
    with cli.user_errors():
        methods = study.methods or (QUICK if study.runs.quick else get_args(Method))
        configs = (with_best_rate(replace(study.runs, method=method)) for method in methods)
        launch("family", configs, run, label=label, columns=COLUMNS)


if __name__ == "__main__":
    main()
