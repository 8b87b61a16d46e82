"""One run of an MLP on MNIST, whatever its units, noise, penalties and training set: what the
experiments on the paper's tables and figures are grids of.

The network reported is that of the last update. The test error is recorded along the way and
decides nothing; with `validation` the last training images take the test set's place.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optax
from flax import nnx

import dropout_jax as dj
from dropout_jax import losses, schedules
from dropout_jax._checks import check_rate
from experiments.harness import cli
from experiments.harness.splits import load_splits
from experiments.harness.training import QUICK_EPOCHS, Outcome, check_counts, train_seeds
from experiments.nets import mlp_parts
from experiments.records.record import WHERE_SET

QUICK_WIDTH = 32  # of hidden layers, with --quick


@dataclass(frozen=True)
class Config(cli.Common):
    """All that decides the numbers of a run. Rates are probabilities of dropping; max-norms,
    penalties and learning rates are those of the scaled convention."""

    row: str = ""
    """what the table or figure calls it"""
    budget: str = ""
    """which of the experiment's budgets it belongs to: "cpu" or "paper" """
    data: str = "mnist"
    hidden: tuple[int, ...] = (1024, 1024, 1024)
    activation: Literal["relu", "logistic", "maxout"] = "relu"
    pieces: int = 5
    """linear functions of a maxout unit"""
    rate: cli.Rate = 0.5
    input_rate: cli.Rate = 0.2
    noise: Literal["bernoulli", "gaussian"] = "bernoulli"
    max_norm: tuple[float, ...] | None = None
    """longest vector of weights into a unit, a layer, output included"""
    l2: float = 0.0
    """times w, added to the gradient"""
    l1: float = 0.0
    """times sign(w), likewise, but in the last part of the run alone"""
    l1_share: float = 0.25
    """how much of the run that part is"""
    kl_sparsity: float = 0.0
    """weight of the divergence of the units' mean activities from the target"""
    sparsity_target: float = 0.1
    init_ranges: tuple[float, ...] | None = None
    """uniform initial weights, a layer; None for He's normal ones"""
    learning_rate: float = 0.1
    decay: Literal["cosine", "linear", "inverse_time"] = "cosine"
    decay_to: float = 0.0
    """what is left of the learning rate after decay_updates"""
    decay_updates: int | None = None
    """None: the whole run"""
    warm_up: int = 0
    """updates in which the learning rate rises from 0"""
    momentum: float = 0.9
    momentum_start: float | None = None
    """from where momentum rises over momentum_updates"""
    momentum_updates: int = 1
    batch_size: int = 100
    updates: int = 60_000
    """rounded to whole epochs"""
    training_cases: int | None = None
    """how many training images each run draws for itself, by its seed; None for all"""
    validation: int = 0
    """training images set aside: report the error on the last so many, not on the test set"""
    evaluations: int = 20
    """how often the held-out error is taken"""
    init_deviations: tuple[float, ...] | None = field(default=None, metadata=WHERE_SET)
    """normal initial weights of these standard deviations, a layer"""
    weight_factors: tuple[float, ...] | None = field(default=None, metadata=WHERE_SET)
    """what the learning rate of each layer's weights is multiplied by; that of biases is not"""
    life: int = field(default=0, metadata=WHERE_SET)
    """updates in the life of a thinned sub-network, at most an epoch; 0: element-wise dropout"""
    products: Literal["float32", "bfloat16"] = field(default="float32", metadata=WHERE_SET)
    """to what the factors of a matrix product are rounded"""
    in_turn: bool = field(default=False, metadata=WHERE_SET)
    """the seeds take turns, an epoch each, in place of advancing together"""
    momentum_ramp: Literal["linear", "exponential"] = field(default="linear", metadata=WHERE_SET)
    """how momentum rises: in a line, or by all but 1 / e in its momentum_updates"""
    momentum_share: float = field(default=0.0, metadata=WHERE_SET)
    """over which part of the run momentum rises, in place of momentum_updates; 0: those"""
    tuned_at: int = field(default=0, metadata=WHERE_SET)
    """after how many updates its settings were the best on validation data; 0: after as many"""

    @property
    def rates(self) -> tuple[float, ...]:
        return (self.input_rate, *[self.rate] * len(self.hidden))


class Trained(NamedTuple):
    """What a run leaves: the networks, and the result to record."""

    outcome: Outcome
    result: dict[str, Any]


def run(
    config: Config, checkpoint_dir: Path | None = None, loss: losses.Loss | None = None
) -> dict[str, Any]:
    """Train the seeds of a config side by side in one program."""
    return trained(config, checkpoint_dir, loss).result


def trained(
    config: Config, checkpoint_dir: Path | None = None, loss: losses.Loss | None = None
) -> Trained:
    """Train, and keep the networks; `loss` takes the place of the config's own."""
    check_counts(updates=config.updates, batch_size=config.batch_size)
    check(config)
    split = load_splits(config)
    (held_out,) = split.keys() - {"train"}
    cases = min(config.training_cases or len(split["train"][0]), len(split["train"][0]))
    per_epoch = cases // config.batch_size
    if not per_epoch:
        raise ValueError(f"{cases} training cases do not fill a batch of {config.batch_size}")
    epochs = max(1, round(config.updates / per_epoch))
    outcome = train_seeds(
        lambda rngs, hyper: network(config, split["train"][0].shape[1], rngs),
        lambda updates: optimizer(config, updates),
        split,
        seeds=config.seeds,
        epochs=min(QUICK_EPOCHS, epochs) if config.quick else epochs,
        batch_size=config.batch_size,
        loss=loss or mlp_parts.objective(config.kl_sparsity, config.sparsity_target),
        thin=dj.Thin(steps=config.life) if config.life else None,
        training_cases=config.training_cases,
        evaluate=(held_out,),
        evaluations=config.evaluations,
        in_turn=config.in_turn,
        checkpoint_dir=checkpoint_dir,
        label=config.row,
    )
    result = outcome.result(evaluated_at=outcome.history.epochs * per_epoch)
    result["final"]["train_error"] = outcome.train_error()
    return Trained(outcome, result)


def check(config: Config) -> None:
    """Raise ValueError for a run that would not be what its config says."""
    check_rate(config.rate), check_rate(config.input_rate)
    if not config.life:
        return
    thinned = config.noise == "bernoulli" and config.activation != "maxout" and config.rate
    wrong = [n for n in config.hidden if n % dj.Thin().block]
    if not thinned or wrong:
        raise ValueError(
            f"{config.row or 'this net'} cannot be thinned: --life is for hidden dropout with "
            "Bernoulli noise on ReLUs or logistic units, in layers of a multiple of "
            f"{dj.Thin().block} units; choose --rows without it"
        )


def network(config: Config, inputs: int, rngs: nnx.Rngs) -> dj.layers.MLP:
    """The network of a config."""
    hidden = [min(n, QUICK_WIDTH) if config.quick else n for n in config.hidden]
    return mlp_parts.network(
        (inputs, *hidden, 10),
        config.rates,
        activation=config.activation,
        pieces=config.pieces,
        noise=config.noise,
        init_ranges=config.init_ranges,
        init_deviations=config.init_deviations,
        products=config.products,
        rngs=rngs,
    )


def optimizer(config: Config, updates: int) -> optax.GradientTransformation:
    """The optimizer of a run of so many updates."""
    momentum = config.momentum
    if config.momentum_start is not None:
        ramp = {"linear": schedules.linear_ramp, "exponential": schedules.exponential_ramp}
        rising = round(config.momentum_share * updates) or config.momentum_updates
        momentum = ramp[config.momentum_ramp](config.momentum_start, config.momentum, rising)
    return mlp_parts.optimizer(
        mlp_parts.decayed(
            config.learning_rate,
            config.decay,
            updates=config.decay_updates or updates,
            to=config.decay_to,
            warm_up=config.warm_up,
        ),
        momentum,
        weight_factors=config.weight_factors,
        max_norm=config.max_norm,
        l2=config.l2,
        l1=config.l1,
        l1_from=round((1 - config.l1_share) * updates),
    )
