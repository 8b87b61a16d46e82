"""How far does dropout alone go on permutation-invariant MNIST, when two masks have to agree?

Claim (Srivastava et al. 2014, Table 2): 0.95 % with 2 layers of 8192 ReLUs, and 0.94 % with maxout.
Ma et al. 2017 have 0.87 % with 8192 and 0.98 % with 3 layers of 1024, from a loss that also asks
for little difference between a pass with dropout and one without.
Method: the net, max-norm and rates of Figure 4; the loss is R-Drop's (Wu et al. 2021), which asks
that two masks of an image give the same prediction, and which is ours already (`losses.r_drop`).
One row draws the masks as Gaussian noise (Table 10). No augmentation, no pretraining, no ensemble.
An update with two masks takes twice the time; the row without has as many updates.
Selection: alpha and the learning rate on the last 10 000 training images, at the length that
--tune is given; a row takes the best of the trials of its own length.

Command: python -m experiments.past_the_paper --tune, then without --tune    (--budget paper)
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dropout_jax import losses
from experiments import mlp_run, study
from experiments.study import Budget

BUDGETS = {
    "cpu": Budget(updates=12_000, seeds=3),
    "paper": Budget(updates=1_000_000, seeds=5),
}
HIDDEN = {"cpu": (1024, 1024), "paper": (8192, 8192)}
ALPHAS, LEARNING_RATES = (0.3, 1.0, 3.0, 10.0), (0.1, 0.2)


@dataclass(frozen=True)
class Config(mlp_run.Config):
    alpha: float = 0.0
    """weight of the divergence between two masks of an image; 0 for cross-entropy of one mask"""


def run(config: Config, checkpoint_dir: Path | None = None) -> dict[str, Any]:
    loss = losses.r_drop(config.alpha) if config.alpha else None
    return mlp_run.run(config, checkpoint_dir, loss)


def grid(budget: str) -> list[Config]:
    rows = {
        "dropout": {},
        "dropout_r_drop": {"alpha": 1.0},
        "gaussian_r_drop": {"alpha": 1.0, "noise": "gaussian"},
    }
    return [
        study.settled(Config(row=row, hidden=HIDDEN[budget], **fields), budget)
        for row, fields in rows.items()
    ]


def tried(config: Config) -> list[Config]:
    """Learning rates, and for R-Drop its weights at each."""
    return [
        dataclasses.replace(config, learning_rate=rate, alpha=alpha)
        for rate in LEARNING_RATES
        for alpha in (ALPHAS if config.alpha else (0.0,))
    ]


def main(argv: Sequence[str] | None = None) -> None:
    study.launch("past_the_paper", __doc__, argv, budgets=BUDGETS, grid=grid, run=run, tried=tried)


if __name__ == "__main__":
    main()
