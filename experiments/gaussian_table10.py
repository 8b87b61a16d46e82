"""Table 10: multiplying by Gaussian noise in place of Bernoulli's, mean and variance alike.

Claim (Srivastava et al. 2014, section 10): 2 layers of 1024 ReLUs on MNIST make
fewer test errors with factors of N(1, rate / (1 - rate)) than with dropout; ten seeds.
Method: appendix B.1; rates 0.5 hidden and 0.2 input, so standard deviations of 1 and 0.5. Both arms
have all other settings alike, max-norm and learning rate too. Momentum is final from the
first update, where the paper's rises: 0.95, and 0.9 at --budget cpu.
Selection: none; one learning rate for both.

Command: python -m experiments.gaussian_table10    (also with --updates 60000 --seeds 3)
Time at --budget cpu: 42 minutes of one busy core (12 000 updates, 10 seeds, both arms); 50 with
60 000 updates and 3 seeds.
Results: docs/results/gaussian_table10.md.
"""

from collections.abc import Sequence

from experiments.harness.grid import Budget
from experiments.nets import mlp
from experiments.nets.config import Config, paper_settings

run = mlp.run
BUDGETS = {
    "cpu": Budget(updates=12_000, seeds=10),
    "paper": Budget(updates=1_000_000, seeds=10),
}


def grid(budget: str) -> list[Config]:
    found = []
    for noise in ("bernoulli", "gaussian"):
        config = Config(
            row=f"mnist_{noise}",
            noise=noise,
            hidden=(1024, 1024),
        )
        found.append(paper_settings(config, budget))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    mlp.launch("gaussian_table10", __doc__, argv, budgets=BUDGETS, grid=grid, run=run)


if __name__ == "__main__":
    main()
