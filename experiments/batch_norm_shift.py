"""Dropout shifts the variance that a batch normalisation learns: how much error, and what mends it.

Claim (Li et al. 2019, sections 3 and 5.1): behind dropout, batch normalisation learns a variance
that does not occur at the test, and the network is the worse for it. Statistics that are estimated
again without dropout mend that, and so does dropout after the last normalisation alone.
Method: 784-128-128-128-10 ReLU with batch normalisation before each ReLU, on the first 10 000
training images of MNIST. Dropout is on the first two hidden layers, whose noise reaches the next
normalisation, or on the last, behind all of them. Adam for 5 epochs, its rate falling to 0 as half
a cosine. Each network is tested with the statistics of training, and again after `dj.recalibrate`.
Of note: nothing is chosen; all rates are shown.

Command: python -m experiments.batch_norm_shift
Time: a minute and a half of CPU.
Results: docs/results/batch_norm_shift.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import dropout_jax as dj
from experiments.harness import cli
from experiments.harness.launch import final, launch
from experiments.harness.splits import load_splits
from experiments.harness.training import Outcome, epochs_of, percent, train_seeds

RATES = (0.1, 0.3, 0.5, 0.7)
Place = Literal["none", "before", "after"]


@dataclass(frozen=True)
class Config(cli.Divided):
    """A place of dropout and a rate."""

    data: cli.Set[str] = "mnist"
    place: cli.Set[Place] = "none"
    """before: on all hidden layers but the last, whose noise reaches a normalisation; after: on the
    last, behind every normalisation"""
    rate: cli.Set[float] = 0.0
    hidden: tuple[int, ...] = (128, 128, 128)
    """units of each hidden layer"""
    training_cases: int = 10_000
    """the first so many training images"""
    epochs: int = 5
    """passes over them"""
    batch_size: int = 100
    """images an update"""
    learning_rate: float = 1e-3
    """of Adam at the start; it falls to 0 as half a cosine"""


def run(config: Config, checkpoint_dir: Path | None = None) -> dict[str, Any]:
    """Train the seeds side by side; test each before and after its statistics are re-estimated."""
    split = load_splits(config)
    split["train"] = tuple(a[: config.training_cases] for a in split["train"])
    inputs = split["train"][0].shape[1]
    outcome = train_seeds(
        lambda rngs, hyper: network(config, inputs, rngs),
        lambda updates: optax.adam(optax.cosine_decay_schedule(config.learning_rate, updates)),
        split,
        seeds=config.seeds,
        devices=config.devices,
        epochs=epochs_of(config),
        batch_size=config.batch_size,
        evaluate=(),
        checkpoint_dir=checkpoint_dir,
        label=label(config),
    )
    found = [measured(outcome, seed) for seed in range(config.seeds)]
    return {
        "final": {name: [one[name] for one in found] for name in found[0]},
        "extra": {"updates": int(outcome.state.step[0]), "seconds": outcome.history.seconds},
    }


def network(config: Config, inputs: int, rngs: nnx.Rngs) -> nnx.Sequential:
    """Linear, normalisation, ReLU and dropout, layer after layer."""
    parts, last = [], len(config.hidden) - 1
    for i, units in enumerate(config.hidden):
        noisy = config.place == ("after" if i == last else "before")
        parts += [
            nnx.Linear(inputs, units, use_bias=False, rngs=rngs),
            nnx.BatchNorm(units, rngs=rngs),
            nnx.relu,
            dj.layers.Dropout(config.rate if noisy else 0.0, rngs=rngs),
        ]
        inputs = units
    return nnx.Sequential(*parts, nnx.Linear(inputs, 10, rngs=rngs))


def measured(outcome: Outcome, seed: int) -> dict[str, float]:
    """Error and loss with both statistics, and how much larger the variances of training are."""
    model, splits = outcome.model(seed), outcome.splits
    with_noise = variances(model)
    before = dj.evaluate(model, *splits["test"])
    dj.recalibrate(model, splits["train"][0])
    after = dj.evaluate(model, *splits["test"])
    # Of what follows dropout: the first normalisation sees the images, and those have none.
    ratios = [
        jnp.median(noisy / clean)
        for noisy, clean in zip(with_noise[1:], variances(model)[1:], strict=True)
    ]
    return {
        "test_error": float(percent(before["error"])),
        "recalibrated_test_error": float(percent(after["error"])),
        "test_loss": float(before["loss"]),
        "recalibrated_test_loss": float(after["loss"]),
        "variance_ratio": float(np.mean(ratios)),
    }


def variances(model: nnx.Module) -> list[Any]:
    """The variances that each normalisation divides by."""
    return [m.var[...] + m.epsilon for _, m in nnx.iter_modules(model)
            if isinstance(m, nnx.BatchNorm)]  # fmt: skip


def grid(config: Config) -> list[Config]:
    """No dropout, then every rate in both places; with --quick one of them."""
    places: tuple[Place, ...] = ("before", "after")
    found = [config, *(replace(config, place=p, rate=rate) for p in places for rate in RATES)]
    return found[1:2] if config.quick else found


def label(config: Config) -> str:
    return f"{config.place} {config.rate:g}" if config.rate else config.place


COLUMNS = {
    "test error %": final("test_error"),
    "re-estimated": final("recalibrated_test_error"),
    "test loss": final("test_loss", 4),
    "loss, re-estimated": final("recalibrated_test_loss", 4),
    "variance ratio": final("variance_ratio"),
}


def main(argv: Sequence[str] | None = None) -> None:
    config = cli.cli(Config, __doc__, argv)
    with cli.user_errors():
        launch("batch_norm_shift", grid(config), run, label=label, columns=COLUMNS)


if __name__ == "__main__":
    main()
