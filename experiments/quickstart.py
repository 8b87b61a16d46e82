"""The first experiment: 300 digits that a net learns by heart, with dropout and without.

Claim (Srivastava et al. 2014, section 1): where there are few examples for the size of the net, it
overfits, and dropout narrows the gap between its errors on test and on training data.
Here 64-256-256-10 learns 300 of scikit-learn's digits, which need no download, until it makes no
error on them; ten seeds with dropout and ten without are one compiled program.

Command: python -m experiments.quickstart, or scripts/quickstart
Time: under half a minute on two cores, compilation included.
Writes: a table, a picture of the learning curves, and one record an arm.
Expected: fewer test digits wrong with dropout; no training digit wrong in either.

The settings were chosen with --validation 1137, which are the training digits not trained on, from
input rates of 0.05, 0.1 and 0.2 before hidden rates of 0.5; hidden rates of 0.3, and a learning
rate that stays constant, gained less.
Results: docs/results/quickstart.md.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import optax

import dropout_jax as dj
from dropout_jax import data
from experiments.harness import cli
from experiments.harness.comparison import comparison
from experiments.harness.splits import splits
from experiments.harness.training import check_counts, epochs_of, train_seeds
from experiments.records import record
from experiments.report import drawing, learning_curves


@dataclass(frozen=True)
class Config(cli.Divided):
    seeds: int = 10
    """how many runs an arm: the seeds 0 to seeds - 1, side by side in one program"""
    hidden: tuple[int, ...] = (256, 256)
    """units of each hidden layer (ReLU)"""
    rate: cli.Rate = 0.5
    """probability of dropping a hidden unit"""
    input_rate: cli.Rate = 0.1
    """probability of dropping an input, one of 64 pixels"""
    examples: int = 300
    """how many of the 1437 training digits to train on, the first"""
    epochs: int = 200
    """passes over these examples"""
    batch_size: int = 30
    """examples an update"""
    learning_rate: float = 3e-3
    """of Adam at the start; it falls to 0 as half a cosine"""
    validation: int = 0
    """training digits set aside: report the error on the last so many, not on the test set"""


def run(config: Config) -> dict[str, Any]:
    """The arm that the config describes, out of the program that trains both."""
    return train_both(config)[has_dropout(config)]


def train_both(config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """The results without and with dropout: all seeds of both side by side in one program."""
    check_counts(examples=config.examples)
    split = splits(data.load_digits(), config.validation)
    split["train"] = tuple(array[: config.examples] for array in split["train"])

    def build(rngs, hyper):
        return dj.layers.MLP((64, *config.hidden, 10), rates=tuple(hyper["rates"]), rngs=rngs)

    rates = jnp.array([config.input_rate] + [config.rate] * len(config.hidden))
    outcome = train_seeds(
        build,
        lambda updates: optax.adam(optax.cosine_decay_schedule(config.learning_rate, updates)),
        split,
        seeds=config.seeds,
        devices=config.devices,
        # Both arms start from the same weights: an arm's seeds are 0, 1, 2 ...
        runs={"rates": jnp.repeat(jnp.stack([0 * rates, rates]), config.seeds, axis=0)},
        epochs=3 if config.quick else epochs_of(config),
        batch_size=config.batch_size,
        label="without and with dropout",
    )
    plain, dropped = slice(config.seeds), slice(config.seeds, None)
    return outcome.result(plain), outcome.result(dropped)


def has_dropout(config: Config) -> bool:
    return bool(config.rate or config.input_rate)


def records_of(configs: Sequence[Config]) -> list[record.Record]:
    """The records of both arms: those that are there or, with --fresh, those of a new run."""
    config = configs[-1]
    found = [] if config.fresh else [record.find("quickstart", c, config.out) for c in configs]
    if found and all(found):
        print("the records of these settings are there; --fresh makes others", file=sys.stderr)
        return found
    start = time.perf_counter()
    results = train_both(config)
    about = {
        "data_sha256": {"digits": data.load_digits().sha256},
        "wall_seconds": time.perf_counter() - start,
        "folder": config.out,
    }
    pairs = zip(configs, results, strict=True)
    return [record.read(record.write("quickstart", c, result, **about)) for c, result in pairs]


def main(argv: Sequence[str] | None = None) -> None:
    config = cli.cli(Config, __doc__, argv)
    with cli.user_errors():
        if not has_dropout(config):
            raise ValueError("--rate and --input-rate are both 0; that arm is trained in any case")
        plain = dataclasses.replace(config, rate=0.0, input_rate=0.0)
        records = records_of([plain, config])
        print(comparison(records))
        if not config.validation:
            name = f"learning_curves_quickstart{'_quick' if config.quick else ''}.png"
            picture = config.out / "figures" / name
            drawing.picture(learning_curves.draw, records, picture)
            print(f"picture: {picture}")
        print("records:", *(r.path for r in records))


if __name__ == "__main__":
    main()
