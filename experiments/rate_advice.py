"""Which dropout rate to use on your own data: a sweep, and what follows from it.

Question: at which rate does a net of ReLUs make the fewest errors on data that it has not seen, and
what does the sweep say about the net: does it underfit, should it be wider?
Method: the last fifth of the training cases is set aside. All rates, each with several seeds, are
trained side by side in one compiled program. The advice is the rate of the lowest mean validation
error, with those that two standard errors do not tell apart from it. A test set is not read.
On width: a layer that is right with n units wants n / (1 - rate) with dropout (Srivastava et al.
2014, appendix A.1).

Command: python -m experiments.rate_advice --file mine.npz    (arrays x and y; no file: the digits)
    x: one row a case, scaled as the net is to see it; y: whole numbers from 0, the classes.
Time: a minute and a half on one busy core for the digits.
Expected for the digits: that no rate up to 0.7 is told apart from the best.
"""

import dataclasses
import hashlib
import math
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import dropout_jax as dj
from dropout_jax import data, train
from experiments.harness import cli
from experiments.harness.training import check_counts, percent, seed_keys
from experiments.records import record, stats

STANDARD_ERRORS = 2


@dataclass(frozen=True)
class Config(cli.Common):
    seeds: int = 5
    """how many runs a rate, side by side with all others in one program"""
    file: Path | None = field(default=None, metadata=record.NOT_RECORDED)
    """an .npz with x and y; not given: scikit-learn's digits"""
    data: Annotated[str, tyro.conf.Suppress] = "digits"
    """"digits", or "own" with a file"""
    rates: tuple[cli.Rate, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    """rates of the hidden layers to try, 0 among them"""
    input_rate: cli.Rate = 0.0
    """rate of the inputs, the same for all but rate 0, which has none"""
    hidden: tuple[int, ...] = (256, 256)
    """units of each hidden layer (ReLU)"""
    examples: int | None = None
    """only the first so many cases"""
    epochs: int = 100
    """passes over the training cases"""
    batch_size: int = 30
    """cases an update"""
    learning_rate: float = 3e-3
    """of Adam at the start; it falls to 0 as half a cosine"""


def run(config: Config) -> dict[str, Any]:
    """The errors of every rate on the cases trained on and on those set aside, and the advice."""
    check_counts(seeds=config.seeds, epochs=config.epochs, batch_size=config.batch_size)
    if config.seeds < 2:
        raise ValueError("--seeds is 1; write 2 or more: their spread tells rates apart")
    if 0 not in config.rates:
        raise ValueError("--rates has no 0; the advice compares with a net without dropout")
    x, y, _ = cases(config)
    x, y = x[: config.examples], y[: config.examples]
    if config.quick:
        x, y = x[:400], y[:400]
    epochs = 3 if config.quick else config.epochs
    aside = len(x) // 5
    if not aside or len(x) - aside < config.batch_size:
        raise ValueError(
            f"{len(x)} cases are too few for a batch of {config.batch_size} and a fifth"
        )
    splits = {"train": (x[:-aside], y[:-aside]), "val": (x[-aside:], y[-aside:])}
    if unseen := set(y[-aside:].tolist()) - set(y[:-aside].tolist()):
        raise ValueError(
            f"the last fifth of the cases, set aside, holds the classes {sorted(unseen)}, and the "
            "rest does not; write the cases in random order"
        )
    splits = {name: tuple(map(jnp.asarray, pair)) for name, pair in splits.items()}
    sizes = (x.shape[1], *config.hidden, int(y.max()) + 1)

    def build(rngs, hyper):
        rates = (hyper["input_rate"], *[hyper["rate"]] * len(config.hidden))
        return dj.layers.MLP(sizes, rates=rates, rngs=rngs)

    def optimizer(hyper):
        updates = len(splits["train"][0]) // config.batch_size * epochs
        return optax.adam(optax.cosine_decay_schedule(config.learning_rate, updates))

    sweep = train.make_train(
        build, optimizer, epochs=epochs, batch_size=config.batch_size, evaluate_every=epochs
    )
    rates = jnp.repeat(jnp.array(config.rates), config.seeds)
    hyper = {"rate": rates, "input_rate": jnp.where(rates > 0, config.input_rate, 0.0)}
    keys = jnp.tile(seed_keys(config.seeds), len(config.rates))
    result = jax.jit(jax.vmap(sweep, (0, 0, None)))(keys, hyper, splits)
    shape = len(config.rates), config.seeds
    errors = {
        name: percent(result.metrics[name][:, -1]).reshape(shape)
        for name in ("val_error", "train_error")
    }
    by_rate = {
        name: {rate: list(values) for rate, values in zip(config.rates, table, strict=True)}
        for name, table in errors.items()
    }
    return {
        "final": {f"{n}_{r:g}": v for n, table in by_rate.items() for r, v in table.items()},
        "extra": {
            "updates": int(result.state.step[0]),
            "epoch_chosen": "last",
            "advice": advice(by_rate["val_error"], by_rate["train_error"], config.hidden),
        },
    }


def cases(config: Config) -> tuple[np.ndarray, np.ndarray, str]:
    """x (cases, features), y, and the SHA-256 of where they come from."""
    if config.data == "digits":
        digits = data.load_digits()
        return digits.train_x, digits.train_y, digits.sha256
    if config.file is None:
        raise ValueError("the record is of a file of its user's own; its data are not here")
    if not zipfile.is_zipfile(config.file):
        raise ValueError(f"{config.file} is no .npz file; write one with np.savez(file, x=x, y=y)")
    with np.load(config.file) as arrays:
        if not {"x", "y"} <= set(arrays.files):
            raise ValueError(f"{config.file} holds {sorted(arrays.files)}; it needs x and y")
        x, y = arrays["x"], arrays["y"]
    if len(x) != len(y) or y.ndim != 1:
        raise ValueError(
            f"x is {x.shape} and y {y.shape}; write a row of x and a number of y a case"
        )
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        raise ValueError("y must hold whole numbers from 0, the classes")
    if not np.isfinite(x).all():
        raise ValueError("x holds numbers that are not finite")
    digest = hashlib.sha256(Path(config.file).read_bytes()).hexdigest()
    return x.reshape(len(x), -1).astype(np.float32), y.astype(np.int32), digest


def advice(
    val: Mapping[float, Sequence[float]],
    train: Mapping[float, Sequence[float]],
    hidden: Sequence[int],
) -> list[str]:
    """What the errors say, a sentence a line; rates -> one error a seed, 0 among the rates."""

    def mean(values):
        found = stats.mean_and_stderr(values)[0]
        return math.inf if math.isnan(found) else found

    def above(values, others):
        return mean(values) - mean(others) > STANDARD_ERRORS * (
            stats.difference(values, others).stderr or 0.0
        )

    best = min(val, key=lambda rate: mean(val[rate]))
    tied = [f"{rate:g}" for rate in val if rate != best and not above(val[rate], val[best])]
    lines = [f"use a rate of {best:g}: validation error {stats.plus_minus(val[best])} %"]
    if tied:
        lines.append(
            f"not told apart from it by {STANDARD_ERRORS} standard errors: {', '.join(tied)}"
        )
    if best and not above(val[0], val[best]):
        lines.append(f"dropout is not shown to help: without it {stats.plus_minus(val[0])} %")
    if not above(val[0], train[0]):
        lines.append(
            "warning: the net does not overfit without dropout either, so that dropout has nothing "
            "to mend; train longer, or a larger net"
        )
    if best and above(train[best], train[0]):
        wider = "-".join(str(round(n / (1 - best))) for n in hidden)
        if mean(train[best]) > mean(val[best]) / 2:
            lines.append(
                "warning: the net underfits with dropout: training error "
                f"{stats.plus_minus(train[best])} %; train longer"
            )
        lines.append(
            f"warning: dropout costs the net capacity; try {wider} units, n / (1 - rate) a layer"
        )
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    config = cli.cli(Config, __doc__, argv)
    with cli.user_errors():
        if config.file:
            config = dataclasses.replace(config, data="own")
        found = None if config.fresh else record.find("rate_advice", config, config.out)
        digest = cases(config)[2]
        if found is None or digest not in found.provenance["data_sha256"].values():
            start = time.perf_counter()
            result = run(config)
            path = record.write(
                "rate_advice", config, result, data_sha256={config.data: digest},
                wall_seconds=time.perf_counter() - start, folder=config.out,
            )  # fmt: skip
            found = record.read(path)
        rows = [
            [f"{rate:g}", *(stats.plus_minus(found.final[f"{name}_{rate:g}"])
                            for name in ("val_error", "train_error"))]
            for rate in config.rates
        ]  # fmt: skip
        print(cli.text_table(["rate", "validation error %", "train error %"], rows))
        print("\n".join(found.extra["advice"]))
        print("record:", found.path)


if __name__ == "__main__":
    main()
