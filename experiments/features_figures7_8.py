"""Figures 7 and 8: what the hidden units of an autoencoder learn, with dropout and without.

Claim (Srivastava et al. 2014, sections 7.1 and 7.2): 256 ReLUs that reconstruct MNIST's digits
learn edges, strokes and spots with dropout of the hidden layer at rate 0.5, and nothing one could
name without it, at similar test errors. With dropout the mean activity of a unit falls from about
2.0 to 0.7, and most activities are near 0.
Method: 784-256-784, linear outputs, squared error, Adam with a learning rate that falls as half a
cosine. The paper gives no more than the architecture. Images are less their mean, which hidden
units would otherwise learn first: most of them die of it in the first updates. Activities are those
of the first 1000 test images, none dropped; the pictures are of seed 0. The test pass of the
authors' deepnet stores an activity times 1 - rate, so that the paper's 0.7 may hold a factor of 0.5
that ours does not.
Selection: none of the settings but the mean, on the last 10 000 training images.

Command: python -m experiments.features_figures7_8
Time at --budget cpu, on one core: 10 minutes (30 000 updates, 3 seeds, both arms).
Results: docs/results/features_figures7_8.md.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dropout_jax as dj
from experiments.harness import cli
from experiments.harness.grid import Budget, launch_grid
from experiments.harness.launch import file_name, final
from experiments.harness.splits import load_splits
from experiments.harness.training import QUICK_EPOCHS, check_counts, train_seeds

BUDGETS = {"cpu": Budget(30_000, seeds=3), "paper": Budget(300_000, seeds=3)}
FILTERS, CASES = 64, 1000
LARGEST, BINS = {"unit_means": 5.0, "activities": 20.0}, 200  # of the histograms


@dataclass(frozen=True)
class Config(cli.Divided):
    seeds: int = 3
    row: str = ""
    """what the figure calls it"""
    budget: str = ""
    """which budget it belongs to"""
    data: str = "mnist"
    hidden: int = 256
    """ReLUs of the one hidden layer"""
    rate: cli.Rate = 0.5
    """of the hidden layer"""
    learning_rate: float = 1e-3
    """of Adam, at the start"""
    updates: int = 30_000
    batch_size: int = 100


def squared_error(model, x: jax.Array, y: jax.Array) -> jax.Array:
    """Of an image, all its pixels added; the mean over images."""
    return jnp.mean(jnp.sum((model(x) - y) ** 2, axis=-1))


def run(config: Config, checkpoint_dir: Path | None = None) -> dict[str, Any]:
    """Train one arm, its seeds side by side, and look at its hidden layer."""
    check_counts(updates=config.updates)
    split = load_splits(config)
    images, _ = split["train"]
    mean = jnp.mean(images, axis=0, keepdims=True)
    split = {name: (x - mean, x - mean) for name, (x, _) in split.items()}
    epochs = max(1, round(config.updates / (len(images) // config.batch_size)))
    hidden = min(32, config.hidden) if config.quick else config.hidden
    sizes = (images.shape[1], hidden, images.shape[1])
    outcome = train_seeds(
        lambda rngs, hyper: dj.layers.MLP(sizes, rates=(0.0, config.rate), rngs=rngs),
        lambda updates: optax.adam(optax.cosine_decay_schedule(config.learning_rate, updates)),
        split,
        seeds=config.seeds,
        devices=config.devices,
        epochs=min(QUICK_EPOCHS, epochs) if config.quick else epochs,
        batch_size=config.batch_size,
        loss=squared_error,
        metrics={"reconstruction": squared_error},
        evaluate=("test",),
        evaluations=20,
        checkpoint_dir=checkpoint_dir,
        label=config.row,
    )
    state, reconstruction = outcome.state, outcome.history["test_reconstruction"]
    first = state.params["linears"][0]
    activity = jax.vmap(lambda w, b: jax.nn.relu(split["test"][0][:CASES] @ w + b[None]))(
        first["kernel"][...], first["bias"][...]
    )
    return {
        "final": {
            "test_reconstruction": reconstruction[-1],
            "mean_activity": jnp.mean(activity, axis=(1, 2)),
            "zero_percent": 100 * jnp.mean(activity == 0, axis=(1, 2)),
        },
        "by_epoch": {"test_reconstruction": reconstruction.T},
        "extra": {
            "updates": int(state.step[0]),
            "epoch_chosen": "last",
            "filters": packed(first["kernel"][...][0] * often_lit(images)[:, None]),
            **histograms(np.asarray(activity[0])),
        },
    }


def often_lit(images: jax.Array) -> jax.Array:
    """Pixels that 1 image of 100 lights or more: weights of others are all but initial ones."""
    return jnp.mean(images > 0, axis=0) >= 0.01


def packed(weights: jax.Array) -> str:
    """The first filters as text: int8, each from -127 to 127 of its own largest weight; base64."""
    filters = np.asarray(weights).T[:FILTERS]
    largest = np.maximum(np.abs(filters).max(axis=1, keepdims=True), 1e-12)
    return base64.b64encode(np.round(127 * filters / largest).astype(np.int8).tobytes()).decode()


def histograms(activity: np.ndarray) -> dict[str, Any]:
    """Figure 8 of (cases, units): counts of units by mean activity, and of single activities.

    The bins are those of every arm, so that they compare; what is larger is in the last.
    """
    found = {}
    for name, values in (("unit_means", activity.mean(axis=0)), ("activities", activity)):
        edges = np.linspace(0, LARGEST[name], BINS + 1)
        found[name] = np.histogram(np.minimum(values, edges[-1]), edges)[0]
        found[f"{name}_edges"] = np.round(edges, 4)
    return found


def grid(budget: str) -> list[Config]:
    return [Config(row=row, rate=rate) for row, rate in (("standard", 0.0), ("dropout", 0.5))]


COLUMNS = {
    "mean activity": final("mean_activity"),
    "zero percent": final("zero_percent"),
    "test reconstruction": final("test_reconstruction"),
    "record": file_name,
}


def main(argv: Sequence[str] | None = None) -> None:
    launch_grid(
        "features_figures7_8", __doc__, argv, budgets=BUDGETS, grid=grid, run=run, columns=COLUMNS
    )


if __name__ == "__main__":
    main()
