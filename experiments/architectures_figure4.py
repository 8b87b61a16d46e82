"""Figure 4: six nets with dropout and without, the test error by updates, one setting for all.

Claim (Srivastava et al. 2014, section 6.1.1): whatever the architecture, 2, 3 or 4 layers of 1024
or 2048 ReLUs, dropout takes the test error from 1.65-1.82 % to 1.00-1.14 % with no setting changed.
Method: appendix B.1: rates 0.5 hidden and 0.2 input, max-norm; the learning rate falls as half a
cosine, so that curves of different lengths agree at neither end. At --budget cpu 2 and 3 layers of
1024, the others with --rows. Momentum is final from the first update, where the paper's rises:
0.95, and 0.9 at --budget cpu. The learning rate is one in the convention in which activations are
divided by keep; in the paper's, weights out of a dropped layer have lr / keep^2 in the arm with
dropout, 4 times as much.
Selection: none; one learning rate for all.

Command: python -m experiments.architectures_figure4
         --rows dropout_2x2048 standard_2x2048 dropout_3x2048 standard_3x2048 --products bfloat16
         --in-turn
Time at --budget cpu, on one core: 57 minutes (24 000 updates, 3 seeds, 4 rows); half an hour a row
of 2 layers of 2048 on a core with matrix units, an hour a row of 3.
Results: docs/results/architectures_figure4.md.
"""

from collections.abc import Sequence

from experiments.harness.grid import Budget
from experiments.nets import mlp
from experiments.nets.config import Config, paper_settings

run = mlp.run
BUDGETS = {
    "cpu": Budget(
        updates=24_000,
        seeds=3,
        rows=("dropout_2x1024", "standard_2x1024", "dropout_3x1024", "standard_3x1024"),
    ),
    "paper": Budget(updates=990_000, seeds=5),
}
WIDTHS = (1024, 2048)


def grid(budget: str) -> list[Config]:
    found = []
    for width in WIDTHS:
        for layers in (2, 3, 4):
            for arm, rates in {"dropout": (0.5, 0.2), "standard": (0.0, 0.0)}.items():
                config = Config(
                    row=f"{arm}_{layers}x{width}",
                    hidden=(width,) * layers,
                    rate=rates[0],
                    input_rate=rates[1],
                    evaluations=99,
                )
                found.append(paper_settings(config, budget))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    mlp.launch("architectures_figure4", __doc__, argv, budgets=BUDGETS, grid=grid, run=run)


if __name__ == "__main__":
    main()
