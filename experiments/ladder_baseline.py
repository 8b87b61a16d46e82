"""How far does noise alone go on permutation-invariant MNIST, with batch normalisation and Adam?

Claim (Rasmus et al. 2015, Table 1): the supervised baseline of the ladder network, trained without
its unsupervised costs, is below the best error of the dropout paper.
Method: 784-1000-500-250-250-250-10 ReLU, batch normalisation, Gaussian noise added to the input
(standard deviation 0.3) and to every normalised layer (0.5), as in the authors' code and command.
Adam at 0.002 for two thirds of 150 epochs, then down to 0 in a line; batches of 100. For the test,
`dj.recalibrate` estimates the statistics of normalisation from the training images without noise.
No augmentation, no pretraining, no ensemble.
Rows: `published` has the authors' settings. `chosen` takes the best of other noises from the
library, on validation images: additive noise, factors of Gaussian or Bernoulli noise, with and
without noise on the input, and an exponential moving average of the weights.
Selection: on the last 10 000 training images, in shorter runs; the test set is read once a run.

Command: python -m experiments.ladder_baseline
         --rows chosen --tune --updates 15000, then --rows chosen --tuned-at 15000
Time: on docs/results/ladder_baseline.md, with the results.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import optax
from flax import nnx

import dropout_jax as dj
from experiments.harness import cli
from experiments.harness.grid import Budget, Study, launch_grid
from experiments.harness.splits import load_splits
from experiments.harness.training import (
    QUICK_EPOCHS,
    Outcome,
    check_counts,
    percent,
    train_seeds,
)
from experiments.nets import bfloat16
from experiments.nets.normalized import Law, NormalizedMLP

QUICK_WIDTH = 32
# What the paper made is within reach of a CPU: 150 epochs.
BUDGETS = dict.fromkeys(("cpu", "paper"), Budget(updates=90_000, seeds=5, rows=("published",)))
# (law, amount, amount on the input, decay of the weights' average)
CANDIDATES: tuple[tuple[Law, float, float, float], ...] = (
    ("additive", 0.5, 0.3, 0.0),
    ("additive", 0.3, 0.3, 0.0),
    ("additive", 0.5, 0.0, 0.0),
    ("additive", 0.5, 0.3, 0.999),
    ("gaussian", 0.2, 0.2, 0.0),
    ("gaussian", 0.5, 0.2, 0.0),
    ("gaussian", 0.2, 0.0, 0.0),
    ("bernoulli", 0.2, 0.2, 0.0),
    ("bernoulli", 0.5, 0.2, 0.0),
    ("bernoulli", 0.2, 0.0, 0.0),
)


@dataclass(frozen=True)
class Config(cli.Divided):
    row: str = ""
    """its name in the table"""
    budget: str = ""
    """which of the experiment's budgets it belongs to"""
    data: str = "mnist"
    hidden: tuple[int, ...] = (1000, 500, 250, 250, 250)
    law: Law = "additive"
    amount: float = 0.5
    """standard deviation of additive noise on every normalised layer, or rate of the factors"""
    input_amount: float = 0.3
    """the same, on the input"""
    ema: float = 0.0
    """decay of an exponential moving average of the weights, which is tested; 0: the last"""
    learning_rate: float = 2e-3
    constant: float = 0.67
    """share of the run before the learning rate falls, in a line to 0"""
    batch_size: int = 100
    updates: int = 90_000
    """rounded to whole epochs"""
    validation: int = 0
    """training images set aside: report the error on the last so many, not on the test set"""
    products: Literal["float32", "bfloat16"] = "bfloat16"
    """to what the factors of a matrix product are rounded"""
    in_turn: bool = True
    """the seeds take turns, an epoch each, in place of advancing together"""
    tuned_at: int = 0
    """after how many updates its settings were the best on validation data; 0: after as many"""


@dataclass(frozen=True)
class LadderStudy(Study):
    """The command line."""

    hidden: tuple[int, ...] = Config.hidden
    """units of each hidden layer"""
    products: Literal["float32", "bfloat16"] = "bfloat16"
    """to what the factors of a matrix product are rounded"""
    in_turn: bool = True
    """the seeds take turns, an epoch each, in place of advancing together"""


class Averaged(NamedTuple):
    """The state of an optimizer, and an average of the weights that it made."""

    average: Any
    inner: Any


def run(config: Config, checkpoint_dir: Path | None = None) -> dict[str, Any]:
    """Train the seeds; test each once, after the last update."""
    check_counts(updates=config.updates, batch_size=config.batch_size)
    split = load_splits(config)
    (held_out,) = split.keys() - {"train"}
    examples, inputs = split["train"][0].shape
    epochs = max(1, round(config.updates / (examples // config.batch_size)))
    outcome = train_seeds(
        lambda rngs, hyper: network(config, inputs, rngs),
        lambda updates: optimizer(config, updates),
        split,
        seeds=config.seeds,
        devices=config.devices,
        epochs=QUICK_EPOCHS if config.quick else epochs,
        batch_size=config.batch_size,
        evaluate=(),
        evaluations=10,
        in_turn=config.in_turn,
        checkpoint_dir=checkpoint_dir,
        label=config.row,
    )
    errors = [measured(outcome, seed, held_out, config) for seed in range(config.seeds)]
    extra = {
        "updates": int(outcome.state.step[0]),
        "epoch_chosen": "last",
        "seconds": outcome.history.seconds,
    }
    return {
        "final": {name: percent([e[name] for e in errors]) for name in errors[0]},
        "by_epoch": {"loss": outcome.history.metrics["loss"].T},
        "extra": extra,
    }


def network(config: Config, inputs: int, rngs: nnx.Rngs) -> NormalizedMLP:
    """The network of a config, for so many inputs and ten classes."""
    hidden = [min(n, QUICK_WIDTH) if config.quick else n for n in config.hidden]
    model = NormalizedMLP(
        (inputs, *hidden, 10),
        law=config.law,
        amount=config.amount,
        input_amount=config.input_amount,
        rngs=rngs,
    )
    if config.products == "bfloat16":
        model.set_attributes(nnx.Linear, dot_general=bfloat16.dot_general)
    return model


def optimizer(config: Config, updates: int) -> optax.GradientTransformation:
    """Adam, whose learning rate falls to 0 in the last part of the run."""
    begin = round(config.constant * updates)
    rate = optax.linear_schedule(config.learning_rate, 0.0, max(1, updates - begin), begin)
    adam = optax.adam(rate)
    return averaged(adam, config.ema) if config.ema else adam


def averaged(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """The same updates, with an exponential moving average of the weights in the state."""

    def init(params):
        return Averaged(params, optimizer.init(params))

    def update(grads, state, params=None):
        updates, inner = optimizer.update(grads, state.inner, params)
        new = optax.apply_updates(params, updates)
        return updates, Averaged(optax.incremental_update(new, state.average, 1 - decay), inner)

    return optax.GradientTransformation(init, update)


def measured(outcome: Outcome, seed: int, held_out: str, config: Config) -> dict[str, float]:
    """The shares of wrong answers of one seed, before and after the statistics are re-estimated."""
    model, splits = outcome.model(seed), outcome.splits
    if config.ema:
        average = outcome.state.opt_state.average
        nnx.update(model, jax.tree.map(lambda leaf: leaf[seed], average))
    before = dj.evaluate(model, *splits[held_out])["error"]
    dj.recalibrate(model, splits["train"][0])
    errors = {name: dj.evaluate(model, *pair)["error"] for name, pair in splits.items()}
    return {f"{held_out}_error": errors[held_out], "train_error": errors["train"],
            f"noisy_statistics_{held_out}_error": before}  # fmt: skip


def grid(budget: str) -> list[Config]:
    return [Config(row="published"), Config(row="chosen")]


def candidates(config: Config) -> list[Config]:
    """The noises that `chosen` is chosen from."""
    if config.row == "published":
        return [config]
    return [
        replace(config, law=law, amount=amount, input_amount=of_input, ema=ema)
        for law, amount, of_input, ema in CANDIDATES
    ]


def main(argv: Sequence[str] | None = None) -> None:
    launch_grid(
        "ladder_baseline",
        __doc__,
        argv,
        budgets=BUDGETS,
        grid=grid,
        run=run,
        candidates=candidates,
        study=LadderStudy,
    )


if __name__ == "__main__":
    main()
