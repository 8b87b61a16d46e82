"""The textbook Keras model, trained by Keras and by dropout_jax, side by side.

Claim: the five lines that a Keras user knows give the same accuracy here, and sooner. The model is
Dense(128), Dropout(0.5), Dense(64), Dropout(0.5), Dense(10) on MNIST, ReLU and softmax, with
Glorot's initial weights and Adam: in Keras (JAX backend), compile and fit; here, MLP and `dj.fit`.
The two draw other random numbers, so that their accuracies agree on average over seeds only.

Command: python -m experiments.keras_example      (needs pip install -e .[compare])
Time: a minute and a half on two cores.
Expected: test accuracies that do not differ by more than chance.

The accuracy is that of the last epoch, so that the test set, which is the validation data of the
example, chooses nothing. Seconds an epoch are of training: neither the validation nor the first
epoch, which compiles, is in them. Seed by seed the two take turns. Being times, they differ when
the record is run again.
Results: docs/results/keras_example.md.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from tqdm import tqdm

import dropout_jax as dj
from dropout_jax import data
from experiments.harness import cli
from experiments.harness.training import check_counts, percent
from experiments.records import record, stats

CLASSES = 10
TITLES = {
    "test_accuracy": ("test accuracy %", 2),
    "seconds_an_epoch": ("seconds an epoch", 3),
}


@dataclass(frozen=True)
class Config(cli.Common):
    hidden: tuple[int, ...] = (128, 64)
    """units of each hidden layer (ReLU)"""
    rate: cli.Rate = 0.5
    """probability of dropping a hidden unit"""
    epochs: int = 10
    """passes over the 60 000 training images, 2 or more"""
    batch_size: int = 32
    """images an update"""
    learning_rate: float = 1e-3
    """of Adam, constant"""


def run(config: Config) -> dict[str, Any]:
    """Train both, seed by seed: accuracies in percent, seconds an epoch, and their ratio."""
    check_counts(seeds=config.seeds)
    epochs = 2 if config.quick else config.epochs
    if epochs < 2:
        raise ValueError(f"--epochs is {epochs}; write 2 or more: the first is not timed")
    keras = import_keras()
    dataset = data.load_mnist(config.data_dir)
    splits = [(dataset.train_x, dataset.train_y), (dataset.test_x, dataset.test_y)]
    if config.quick:
        splits = [(x[:1920], y[:1920]) for x, y in splits]

    sides = {
        "keras_": lambda seed: train_keras(keras, config, splits, seed, epochs),
        "": lambda seed: train_ours(config, splits, seed, epochs),
    }
    accuracy = {f"{side}test_accuracy": [] for side in sides}
    seconds = {f"{side}seconds_an_epoch": [] for side in sides}
    for seed in tqdm(range(config.seeds), unit="seed", disable=None):
        for side, train in sides.items():
            val_accuracy, epoch_seconds = train(seed)
            accuracy[f"{side}test_accuracy"].append(percent(val_accuracy).tolist())
            seconds[f"{side}seconds_an_epoch"].append(float(np.mean(epoch_seconds[1:])))
    final = {name: [values[-1] for values in runs] for name, runs in accuracy.items()}
    ratio = np.divide(seconds["keras_seconds_an_epoch"], seconds["seconds_an_epoch"])
    return {
        "final": {**final, **seconds, "speed_up": ratio},
        "by_epoch": accuracy,
        "extra": {
            "updates": len(splits[0][0]) // config.batch_size * epochs,
            "epoch_chosen": "last",
            "keras": keras.__version__,
        },
    }


def train_keras(keras: ModuleType, config: Config, splits, seed: int, epochs: int):
    """Accuracies on the validation data and seconds of training, by epoch, as Keras users do it."""
    keras.utils.set_random_seed(seed)
    (x, y), (test_x, test_y) = splits
    model = keras.Sequential([keras.layers.Input((x.shape[1],))])
    for units in config.hidden:
        model.add(keras.layers.Dense(units, activation="relu"))
        model.add(keras.layers.Dropout(config.rate))
    model.add(keras.layers.Dense(CLASSES, activation="softmax"))
    model.compile(
        optimizer=keras.optimizers.Adam(config.learning_rate),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    starts, ends = [], []

    def trained(logs):
        jax.block_until_ready([variable.value for variable in model.variables])
        ends.append(time.perf_counter())

    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: starts.append(time.perf_counter()),
        on_test_begin=trained,
    )
    history = model.fit(
        x,
        keras.utils.to_categorical(y, CLASSES),
        epochs=epochs,
        batch_size=config.batch_size,
        validation_data=(test_x, keras.utils.to_categorical(test_y, CLASSES)),
        callbacks=[clock],
        verbose=0,
    )
    return history.history["val_accuracy"], np.subtract(ends, starts)


def train_ours(config: Config, splits, seed: int, epochs: int):
    """The same with dropout_jax."""
    (x, y), test = splits
    model = dj.layers.MLP(
        (x.shape[1], *config.hidden, CLASSES),
        rates=config.rate,
        kernel_init=nnx.initializers.glorot_uniform(),
        rngs=nnx.Rngs(seed),
    )
    history = dj.fit(
        model,
        optax.adam(config.learning_rate, eps=1e-7),  # Keras' epsilon
        x,
        y,
        key=jax.random.key(seed),
        epochs=epochs,
        batch_size=config.batch_size,
        validation_data=test,
        progress=False,
    )
    return 1 - history["val_error"].astype(np.float64), history.seconds


def import_keras() -> ModuleType:
    os.environ["KERAS_BACKEND"] = "jax"  # read when keras is first imported
    try:
        import keras
    except ImportError:
        raise ValueError("keras is not installed; run: pip install -e .[compare]") from None
    return keras


def report(r: record.Record) -> str:
    """Both sides, what they differ by, and whether that is within two standard errors."""
    rows = [
        [title, *(stats.plus_minus(r.final[side + name], digits) for side in ("keras_", ""))]
        for name, (title, digits) in TITLES.items()
    ]
    ours, theirs = r.final["test_accuracy"], r.final["keras_test_accuracy"]
    change = stats.difference(ours, theirs)
    lines = [
        cli.text_table(["", "Keras", "dropout_jax"], rows),
        f"(± standard error of the mean, {len(ours)} seeds)",
        f"difference of the accuracies: {change.signed()} points",
        f"Keras' seconds over ours: {stats.plus_minus(r.final['speed_up'])}",
    ]
    if change.stderr is not None:
        verdict = "agree" if abs(change.mean) <= 2 * change.stderr else "DISAGREE"
        lines[2] += f"; they {verdict} within two standard errors"
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    config = cli.cli(Config, __doc__, argv)
    with cli.user_errors():
        r = None if config.fresh else record.find("keras_example", config, config.out)
        if r is None:
            start = time.perf_counter()
            digest = data.load_mnist(config.data_dir).sha256
            result = run(config)
            path = record.write(
                "keras_example",
                config,
                result,
                data_sha256={"mnist": digest},
                wall_seconds=time.perf_counter() - start,
                folder=config.out,
            )
            r = record.read(path)
        print(report(r))
        print("record:", r.path)


if __name__ == "__main__":
    main()
