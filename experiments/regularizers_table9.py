"""Table 9: dropout against other regularisers on one net, 784-1024-1024-2048-10 ReLU.

Claim (Srivastava et al. 2014, section 6.5): L2 1.62 %, L2 and then L1 1.60, L2 and KL-sparsity
1.55, max-norm 1.35, dropout and L2 1.25, dropout and max-norm 1.05 % of test errors.
Method: appendix B.1. The paper gives no settings. --tune chooses one strength a row on validation
data; where a row has two penalties, L2's is tried with each of the other's. The learning rate is
0.1 in every row, in the convention in which activations are divided by keep, and is not chosen: of
a row with dropout it is more in the paper's.
L2 and L1 act on the weights of all layers, L1 in the last quarter of the run. The sparsity penalty
is the divergence of Poisson laws of a unit's mean activity, for a ReLU's is no probability.
Momentum is final from the first update, where the paper's rises: 0.95, and 0.9 at --budget cpu,
where L1 and dropout's L2 are stronger.
Selection: on the last 10 000 training images after the full number of updates; then all 60 000.

Command: python -m experiments.regularizers_table9 --tune, then without --tune
Time at --budget cpu, on one core: 5 minutes a row (6000 updates, 3 seeds), 3.5 a trial of --tune.
Results: docs/results/regularizers_table9.md.
"""

import dataclasses
from collections.abc import Sequence

from experiments.harness.grid import Budget
from experiments.nets import mlp
from experiments.nets.config import PAPER_MAX_NORM, Config, max_norms, paper_settings

run = mlp.run
BUDGETS = {
    "cpu": Budget(updates=6_000, seeds=3),
    "paper": Budget(updates=1_000_000, seeds=5),
}
NONE = {"rate": 0.0, "input_rate": 0.0}
L2 = (1e-5, 1e-4, 1e-3)
# A penalty that is to matter in a few thousand updates is stronger than one that has a million.
L1 = {"cpu": 3e-4, "paper": 1e-6}
L2_OF_DROPOUT = {"cpu": 1e-4, "paper": 1e-5}


def grid(budget: str) -> list[Config]:
    rows = {
        "l2": {**NONE, "l2": 1e-4},
        "l2_l1": {**NONE, "l2": 1e-4, "l1": L1[budget]},
        "l2_kl_sparsity": {**NONE, "l2": 1e-4, "kl_sparsity": 1e-4},
        "maxnorm": NONE,
        "dropout_l2": {"l2": L2_OF_DROPOUT[budget]},
        "dropout_maxnorm": {},
    }
    found = []
    for row, fields in rows.items():
        config = Config(row=row, budget=budget, hidden=(1024, 1024, 2048), **fields)
        c = PAPER_MAX_NORM if row.endswith("maxnorm") else None
        found.append(paper_settings(config, budget, c=c))
    return found


def candidates(config: Config) -> list[Config]:
    """Strengths of the row's penalties, or lengths for max-norm; one learning rate for all."""
    l1 = {"cpu": (1e-4, 3e-4, 1e-3), "paper": (1e-7, 1e-6, 1e-5)}
    l2_of_dropout = {"cpu": (1e-5, 1e-4, 1e-3), "paper": (1e-6, 1e-5, 1e-4)}
    fields = {
        "l2": [{"l2": v} for v in L2],
        "l2_l1": [{"l2": l2, "l1": v} for l2 in L2 for v in l1[config.budget]],
        "l2_kl_sparsity": [{"l2": l2, "kl_sparsity": v} for l2 in L2 for v in (1e-5, 1e-4, 1e-3)],
        "dropout_l2": [{"l2": v} for v in l2_of_dropout[config.budget]],
    }
    lengths = [{"max_norm": max_norms(c, config.rates)} for c in (2.0, 3.0, 4.0)]
    return [dataclasses.replace(config, **f) for f in fields.get(config.row, lengths)]


def main(argv: Sequence[str] | None = None) -> None:
    mlp.launch(
        "regularizers_table9",
        __doc__,
        argv,
        budgets=BUDGETS,
        grid=grid,
        run=run,
        candidates=candidates,
    )


if __name__ == "__main__":
    main()
