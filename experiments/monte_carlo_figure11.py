"""Figure 11: averaging over sub-networks against weight scaling, on MNIST.

Claim (Srivastava et al. 2014, section 7.5): the error of k averaged sub-networks falls with k, is
that of weight scaling (1.05 %) at about k = 50, and slightly better beyond, within one standard
deviation.
Method: 784-1024-1024-1024-10 ReLU with dropout and max-norm, as in Table 2. As in the authors' code
a pool of passes is made once, and for each k, k of them are drawn without replacement and averaged,
a hundred times; sd over these draws, standard error over networks. The pool is of 1000 passes at
--budget paper and of 300 at --budget cpu, which makes the sd at k = 101 a fifth too small. Momentum
is final from the first update, where the paper's rises: 0.95, and 0.9 at --budget cpu, where c is 4
in the paper's convention, where the paper has 2.
Selection: of the learning rate, if --tune is run; the committed record's is set beforehand.

Command: python -m experiments.monte_carlo_figure11
Time at --budget cpu: about half an hour of one core.
Results: docs/results/monte_carlo_figure11.md.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dropout_jax as dj
from dropout_jax.typing import Array
from experiments.harness.grid import Budget
from experiments.nets import mlp
from experiments.nets.config import PAPER_MAX_NORM, paper_settings
from experiments.nets.config import Config as MLPConfig

PASSES = (1, 3, 5, 7, 9, 11, 15, 19, 25, 31, 41, 51, 61, 71, 81, 91, 101, 111, 119)
BUDGETS = {
    "cpu": Budget(updates=12_000, seeds=3),
    "paper": Budget(updates=1_000_000, seeds=5),
}


@dataclasses.dataclass(frozen=True)
class Config(MLPConfig):
    passes: tuple[int, ...] = PASSES
    """how many sub-networks are averaged"""
    pool: int = 300
    """how many passes are made"""
    draws: int = 100
    """how often k of them are drawn"""


def run(config: Config, checkpoint_dir: Path | None = None) -> dict[str, Any]:
    """Train, then average: the errors of each network by the number of its passes."""
    trained = mlp.train(config, checkpoint_dir)
    split = trained.outcome.splits
    (held_out,) = split.keys() - {"train"}
    pool = min(config.pool, 8) if config.quick else config.pool
    passes = [k for k in config.passes if k <= pool]
    x, y = split[held_out]
    by_seed = []
    for seed in range(config.seeds):
        key = dj.site_key(jax.random.key(seed), "passes")
        samples = dj.predict.mc_samples(key, trained.outcome.model(seed), x, samples=pool)
        draws = jax.random.split(dj.site_key(key, "draws"), len(passes))
        by_seed.append([
            draw_errors(draw, samples, y, k, config.draws)
            for draw, k in zip(draws, passes, strict=True)
        ])  # fmt: skip
    errors = np.asarray(by_seed, np.float64)  # seeds, passes, draws
    result = trained.result
    for k, means in zip(passes, errors.mean(axis=2).T, strict=True):
        result["final"][f"mc_error_{k}"] = np.round(means, 4)
    sds = np.round(errors.std(axis=2, ddof=1).T, 4)
    result["extra"]["sd_over_draws"] = dict(zip(map(str, passes), sds, strict=True))
    return result


def draw_errors(key: Array, samples: Array, y: Array, k: int, draws: int) -> np.ndarray:
    """The error in percent of the mean of k passes drawn without replacement, a draw an entry."""
    pool = len(samples)

    def weights(key):
        chosen = jax.random.choice(key, pool, (k,), replace=False)
        return jnp.zeros(pool).at[chosen].set(1 / k)

    every = jax.vmap(weights)(jax.random.split(key, draws))
    return np.asarray(weighted_errors(every, samples, y))


@jax.jit
def weighted_errors(weights: Array, samples: Array, y: Array) -> Array:
    """The error in percent of the passes' means with the weights of each row."""

    def error(row):  # a draw at a time: all at once are (draws, cases, classes)
        mean = jnp.tensordot(row, samples, axes=1)
        return 100 * jnp.mean(jnp.argmax(mean, axis=-1) != y)

    return jax.lax.map(error, weights)


def grid(budget: str) -> list[Config]:
    pool = {"cpu": 300, "paper": 1000}[budget]
    config = Config(row="dropout_relu_maxnorm_3x1024", pool=pool)
    return [paper_settings(config, budget, c={"cpu": 4.0, "paper": PAPER_MAX_NORM}[budget])]


def candidates(config: Config) -> list[Config]:
    return [dataclasses.replace(config, learning_rate=rate) for rate in (0.05, 0.1, 0.2)]


def main(argv: Sequence[str] | None = None) -> None:
    mlp.launch(
        "monte_carlo_figure11",
        __doc__,
        argv,
        budgets=BUDGETS,
        grid=grid,
        run=run,
        candidates=candidates,
    )


if __name__ == "__main__":
    main()
