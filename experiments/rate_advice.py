"""Which dropout rate to use on your own data: a sweep over rates, and what follows from it.

Question: at which rate does a net of ReLUs make the fewest errors on data that it has not seen, and
what does the sweep say about the net: does it underfit, should it be wider?
Method: the data are looked at first, for order, scale and balance of the classes. A fifth of each
class is set aside, and columns are standardised by the other cases. All rates, each with several
seeds, are trained side by side in one compiled program. The advice is the rate of the lowest mean
validation error, with those that two standard errors do not tell apart from it. There is no test
set.
On width: a layer that is right with n units wants n / (1 - rate) with dropout (Srivastava et al.
2014, appendix A.1).

Command: python -m experiments.rate_advice --file mine.csv    (no file: scikit-learn's digits)
    a .csv: a column of numbers a feature, and one with the class, the last or --target NAME
    an .npz: arrays x, one row a case, and y, the classes
Time: a minute and a half on one busy core for the digits.
Writes: a table, the advice, a picture and a record.
Expected for the digits: that no rate up to 0.7 is told apart from the best.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

import dropout_jax as dj
from dropout_jax import data, train
from experiments.harness import cli, user_data
from experiments.harness.once import write
from experiments.harness.training import check_counts, percent, seed_keys
from experiments.harness.user_data import Cases
from experiments.records import record, stats

STANDARD_ERRORS = 2


@dataclass(frozen=True)
class Config(cli.Common):
    seeds: int = 5
    """how many runs a rate, side by side with all others in one program"""
    file: Path | None = field(default=None, metadata=record.NOT_RECORDED)
    """a .csv or .npz with your cases; not given: scikit-learn's digits"""
    target: str | None = None
    """of a .csv, the column that holds the class; not given: the last"""
    data: cli.Set[str] = "digits"
    """"digits", or "own" with a file"""
    candidates: tuple[cli.Rate, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
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
    if 0 not in config.candidates:
        raise ValueError("--candidates has no 0; the advice compares with a net without dropout")
    cases = read_cases(config)
    x, y = cases.x[: config.examples], cases.y[: config.examples]
    if config.quick:
        x, y = x[:400], y[:400]
    epochs = 3 if config.quick else config.epochs
    found = user_data.findings(x, y, cases.classes)
    train_rows, aside = user_data.stratified(y, 5)
    if len(train_rows) < config.batch_size:
        raise ValueError(
            f"{len(x)} cases are too few for a batch of {config.batch_size} and a fifth set aside"
        )
    x_train, x_val = user_data.standardised(x[train_rows], x[aside])
    splits = {"train": (x_train, y[train_rows]), "val": (x_val, y[aside])}
    splits = {name: tuple(map(jnp.asarray, pair)) for name, pair in splits.items()}
    sizes = (x.shape[1], *config.hidden, len(cases.classes))

    def build(rngs, hyper):
        rates = (hyper["input_rate"], *[hyper["rate"]] * len(config.hidden))
        return dj.layers.MLP(sizes, rates=rates, rngs=rngs)

    def optimizer(hyper):
        updates = len(splits["train"][0]) // config.batch_size * epochs
        return optax.adam(optax.cosine_decay_schedule(config.learning_rate, updates))

    sweep = train.make_train(
        build, optimizer, epochs=epochs, batch_size=config.batch_size, evaluate_every=epochs
    )
    rates = jnp.repeat(jnp.array(config.candidates), config.seeds)
    hyper = {"rate": rates, "input_rate": jnp.where(rates > 0, config.input_rate, 0.0)}
    keys = jnp.tile(seed_keys(config.seeds), len(config.candidates))
    result = jax.jit(jax.vmap(sweep, (0, 0, None)))(keys, hyper, splits)
    shape = len(config.candidates), config.seeds
    errors = {
        name: percent(result.metrics[name][:, -1]).reshape(shape)
        for name in ("val_error", "train_error")
    }
    by_rate = {
        name: {rate: list(values) for rate, values in zip(config.candidates, table, strict=True)}
        for name, table in errors.items()
    }
    return {
        "final": {f"{n}_{r:g}": v for n, table in by_rate.items() for r, v in table.items()},
        "extra": {
            "updates": int(result.state.step[0]),
            "epoch_chosen": "last",
            "found": found,
            "best": best_rate(by_rate["val_error"]),
            "advice": advice(by_rate["val_error"], by_rate["train_error"], config.hidden),
        },
    }


def read_cases(config: Config) -> Cases:
    """The cases of the file, or the digits."""
    if config.data == "digits":
        digits = data.load_digits()
        classes = tuple(map(str, range(10)))
        return Cases(digits.train_x, digits.train_y, classes, digits.sha256)
    if config.file is None:
        raise ValueError("this is a record of a user's own file; give it with --file")
    return user_data.read(config.file, config.target)


def best_rate(val: Mapping[float, Sequence[float]]) -> float:
    """The rate of the lowest mean validation error."""
    return min(val, key=lambda rate: _mean(val[rate]))


def _mean(values: Sequence[float]) -> float:
    found = stats.mean_and_stderr(values)[0]
    return math.inf if math.isnan(found) else found


def advice(
    val: Mapping[float, Sequence[float]],
    train: Mapping[float, Sequence[float]],
    hidden: Sequence[int],
) -> list[str]:
    """What the errors say, a sentence a line; rates -> one error a seed, 0 among the rates."""

    def above(values, others):
        stderr = stats.difference(values, others).stderr or 0.0
        return _mean(values) - _mean(others) > STANDARD_ERRORS * stderr

    best = best_rate(val)
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
        if _mean(train[best]) > _mean(val[best]) / 2:
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
        digest = read_cases(config).sha256
        if found is None or digest not in found.provenance["data_sha256"].values():
            found = write("rate_advice", config, lambda: run(config), {config.data: digest})
        print("\n".join(found.extra["found"]))
        rows = [
            [f"{rate:g}", *(stats.plus_minus(found.final[f"{name}_{rate:g}"])
                            for name in ("val_error", "train_error"))]
            for rate in config.candidates
        ]  # fmt: skip
        print(cli.text_table(["rate", "validation error %", "train error %"], rows))
        print("\n".join(found.extra["advice"]))
        from experiments.report import drawing  # only here: no run needs matplotlib
        from experiments.report.rate_advice import draw

        picture = config.out / "figures" / f"rate_advice_{found.path.stem}.png"
        drawing.picture(draw, [found], picture)
        print(f"picture: {picture}")
        print("record:", found.path)


if __name__ == "__main__":
    main()
