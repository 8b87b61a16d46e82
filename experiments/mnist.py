"""Dropout on MNIST: a fully connected net with it and without, all else alike.

Claim (Srivastava et al. 2014, section 6.1.1): without augmentation or pre-training, dropout takes
fully connected nets from about 1.6 to about 1.1 % of errors on the test set. Table 2 gives 1.25 %
for three layers of 1024 ReLUs and 1.06 % with max-norm, after a million updates; Figure 4 shows
its six nets at 10 000 to 990 000 updates. Here 784-1024-1024-10 makes 18 000.

Command: python -m experiments.mnist
    for example --hidden 1024 1024 1024 --rates 0.2 0.5 0.5 0.5 --dataset fashion_mnist
Time: about a quarter of an hour on two cores for both arms of 3 seeds.
Expected: no difference. The settings were chosen with dropout, and serve the net without it as
well; dropout's gain comes later (Figure 4).

The network reported is that of the last epoch. The defaults were chosen on the last 10 000 training
images (--validation 10000) with 8 epochs, one seed, and rates of 0.2, 0.5, 0.5, from learning rates
of 0.02 to 0.2 and max-norms of 1.5 to 3. The arm without dropout has the same settings, max-norm
included.
Results: docs/results/mnist.md.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import optax
import tyro

import dropout_jax as dj
from dropout_jax._checks import check_rate
from experiments.harness import cli
from experiments.harness.comparison import comparison
from experiments.harness.once import run_once
from experiments.harness.splits import load_splits
from experiments.harness.training import epochs_of, train_seeds
from experiments.records import record

# All values at once: tyro does not pass on what is wrong with one value of a tuple.
Rates = Annotated[
    tuple[float, ...],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="RATE ...",
        instance_from_str=lambda values: tuple(check_rate(float(value)) for value in values),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda rates: [str(rate) for rate in rates],
    ),
]


@dataclass(frozen=True)
class Config(cli.Divided):
    seeds: int = 3
    data: Annotated[Literal["mnist", "fashion_mnist"], tyro.conf.arg(name="dataset")] = "mnist"
    """which images: 60 000 to train on, 10 000 to test"""
    hidden: tuple[int, ...] = (1024, 1024)
    """units of each hidden layer (ReLU)"""
    rates: Rates = (0.2, 0.5, 0.5)
    """probabilities of dropping: of an input, then of a unit of each hidden layer"""
    max_norm: float | None = 2.0
    """longest vector of weights into a unit, scaled convention (paper's times 1 - rate); or None"""
    epochs: int = 30
    """passes over the training images"""
    batch_size: int = 100
    """images an update"""
    learning_rate: float = 0.1
    """of SGD at the start; it falls to 0 as half a cosine"""
    momentum: float = 0.9
    """of SGD, in [0, 1)"""
    validation: int = 0
    """training images set aside: report the error on the last so many, not on the test set"""
    alone: bool = field(default=False, metadata=record.NOT_RECORDED)
    """train this net alone, and not the same net without dropout as well"""


def run(config: Config, checkpoint_dir: Path | None = None) -> dict[str, Any]:
    """Train one arm, its seeds side by side in one program."""
    split = load_splits(config)

    def build(rngs, hyper):
        sizes = (split["train"][0].shape[1], *config.hidden, 10)
        return dj.layers.MLP(sizes, rates=config.rates, rngs=rngs)

    def optimizer(updates):
        decay = optax.cosine_decay_schedule(config.learning_rate, updates)
        sgd = optax.sgd(decay, config.momentum)
        return sgd if config.max_norm is None else optax.chain(sgd, dj.max_norm(config.max_norm))

    outcome = train_seeds(
        build,
        optimizer,
        split,
        seeds=config.seeds,
        devices=config.devices,
        epochs=epochs_of(config),
        batch_size=config.batch_size,
        checkpoint_dir=checkpoint_dir,
        label="with dropout" if any(config.rates) else "without dropout",
    )
    return outcome.result()


def main(argv: Sequence[str] | None = None) -> None:
    config = cli.cli(Config, __doc__, argv)
    with cli.user_errors():
        configs = [config]
        if not config.alone and any(config.rates):
            configs.insert(0, dataclasses.replace(config, rates=(0.0,) * len(config.rates)))
        records = [run_once("mnist", c, run) for c in configs]
        print(comparison(records))
        print("records:", *(r.path for r in records))


if __name__ == "__main__":
    main()
