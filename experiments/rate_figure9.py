"""Figure 9: the test error against the rate, with n units a layer, and with n kept on average.

Claim (Srivastava et al. 2014, section 7.3): with n fixed the error is flat for rates of 0.2 to 0.6
(the paper's p of 0.8 to 0.4), and rises on both sides: at high rates the net underfits, its
training error rises too, and without dropout it overfits. With pn fixed, so that as many units are
kept at any rate, high rates cost less, and the best is near 0.4.
Method: the paper's nets, 784-2048-2048-2048-10 and pn = 256, 256, 512, trained on all images, at
--budget paper. At --budget cpu they are 784-512-512-512-10 and pn = 64, 64, 128, each seed on 10
000 training images of its own, where dropout gains more in few updates. No dropout on the input,
and max-norm with the paper's one c, which in our convention is (1 - rate) c. Momentum
is final from the first update, where the paper's rises: 0.95, and 0.9 at --budget cpu, where c is 4
in the paper's convention, where the paper has 2.
Selection: of the learning rate, keep times 0.03 or 0.1, a row, by --tune on the last 10 000
training images. (One of 0.1 for all rates, tried first, was far too large for high ones. One for
all in the paper's convention would be keep^2 times it for the weights out of a hidden layer.)

Command: python -m experiments.rate_figure9 --tune, then without --tune
Time at --budget cpu, on one core: 21 minutes of --tune and 26 of training for the 10 rows with n
fixed (10 000 updates, 3 seeds), 6 and 6 for those with pn fixed but the last.
Expected: with n fixed a U; with pn fixed, narrow nets that underfit at high rates.
Results: docs/results/rate_figure9.md.
"""

import dataclasses
from collections.abc import Sequence

from experiments.harness.grid import Budget
from experiments.nets import mlp
from experiments.nets.config import PAPER_MAX_NORM, Config, paper_settings
from experiments.records import literature

run = mlp.run
LEARNING_RATES = (0.03, 0.1)  # times keep
BUDGETS = {
    "cpu": Budget(updates=10_000, seeds=3),
    "paper": Budget(updates=1_000_000, seeds=5),
}
N_FIXED = {"cpu": (512, 512, 512), "paper": (2048, 2048, 2048)}
KEPT = {"cpu": (64, 64, 128), "paper": (256, 256, 512)}
CASES = {"cpu": 10_000, "paper": None}
MAX_NORMS = {"cpu": 4.0, "paper": PAPER_MAX_NORM}
RATES = tuple(sorted(point[0] for point in literature.CURVES["figure9a/test"].points))


def grid(budget: str) -> list[Config]:
    found = []
    for rate in RATES:
        kept = tuple(round(n / (1 - rate)) for n in KEPT[budget])
        for panel, hidden in {"n_fixed": N_FIXED[budget], "pn_fixed": kept}.items():
            config = Config(
                row=f"{panel}_{rate:g}",
                hidden=hidden,
                rate=rate,
                input_rate=0.0,
                training_cases=CASES[budget],
                learning_rate=learning_rates(rate)[-1],
            )
            found.append(paper_settings(config, budget, c=MAX_NORMS[budget]))
    return found


def learning_rates(rate: float) -> list[float]:
    return [round(scale * (1 - rate), 4) for scale in LEARNING_RATES]


def candidates(config: Config) -> list[Config]:
    return [
        dataclasses.replace(config, learning_rate=value) for value in learning_rates(config.rate)
    ]


def main(argv: Sequence[str] | None = None) -> None:
    mlp.launch(
        "rate_figure9", __doc__, argv, budgets=BUDGETS, grid=grid, run=run, candidates=candidates
    )


if __name__ == "__main__":
    main()
