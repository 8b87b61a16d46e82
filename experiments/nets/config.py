"""The settings of an MLP on MNIST; the paper's tables and figures are grids of them.

Max-norms, penalties and learning rates are those of the scaled convention.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import dropout_jax as dj
from dropout_jax._checks import check_rate
from experiments.harness import cli
from experiments.harness.grid import Study

MOMENTUM = {"cpu": 0.9, "paper": 0.95}  # by budget
PAPER_MAX_NORM = 2.0  # the paper's c, in the paper's convention


@dataclass(frozen=True)
class Config(cli.Divided):
    """All that decides the numbers of a run. Rates are probabilities of dropping."""

    row: str = ""
    """its name in the table or figure"""
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
    """times sign(w), likewise, but in the last quarter of the run alone"""
    kl_sparsity: float = 0.0
    """weight of the divergence of the units' mean activities from 0.1"""
    init_ranges: tuple[float, ...] | None = None
    """uniform initial weights, a layer; None for He's normal ones"""
    learning_rate: float = 0.1
    decay: Literal["cosine", "linear", "inverse_time"] = "cosine"
    decay_to: float = 0.0
    """what is left of the learning rate after decay_updates, as a share"""
    decay_updates: int | None = None
    """None: the whole run"""
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
    init_deviations: tuple[float, ...] | None = None
    """normal initial weights of these standard deviations, a layer"""
    weight_factors: tuple[float, ...] | None = None
    """factors of the learning rate of each layer's weights; that of biases has none"""
    life: int = 0
    """updates in the life of a thinned sub-network, at most an epoch; 0: element-wise dropout"""
    products: Literal["float32", "bfloat16"] = "float32"
    """to what the factors of a matrix product are rounded"""
    in_turn: bool = False
    """the seeds take turns, an epoch each, in place of advancing together"""
    momentum_ramp: Literal["linear", "exponential"] = "linear"
    """how momentum rises: in a line, or by all but 1 / e in its momentum_updates"""
    momentum_share: float = 0.0
    """over which part of the run momentum rises, in place of momentum_updates; 0: those"""
    tuned_at: int = 0
    """after how many updates its settings were the best on validation data; 0: after as many"""

    @property
    def rates(self) -> tuple[float, ...]:
        """Of the input, then of each hidden layer."""
        return (self.input_rate, *[self.rate] * len(self.hidden))


@dataclass(frozen=True)
class MLPStudy(Study):
    """A grid of MLPs, and how they are trained."""

    life: int = 0
    """train thinned sub-networks, each for so many updates and at most an epoch, which want a
    smaller learning rate; 0 for element-wise dropout"""
    products: Literal["float32", "bfloat16"] = "float32"
    """to what the factors of a matrix product are rounded"""
    in_turn: bool = False
    """the seeds take turns, an epoch each: faster on a CPU whose caches one network fills"""


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


def paper_settings(config: Config, budget: str, *, c: float | None = PAPER_MAX_NORM) -> Config:
    """A row with the momentum of a budget, and with the paper's max-norm c; None for none."""
    lengths = None if c is None else max_norms(c, config.rates)
    return dataclasses.replace(config, momentum=MOMENTUM[budget], max_norm=lengths)


def max_norms(c: float, rates: Sequence[float]) -> tuple[float, ...]:
    """The paper's one c for all layers, as each layer's in the scaled convention: keep c.

    >>> max_norms(2.0, (0.2, 0.5, 0.5))
    (1.6, 1.0, 1.0)
    """
    return tuple(
        round(dj.to_scaled_convention({"max_norm": c}, keep=1 - rate)["max_norm"], 10)
        for rate in rates
    )
