"""Figure 10: what dropout does to the test error where training images are few, and many.

Claim (Srivastava et al. 2014, section 7.4): on 100 images dropout hurts (26.6 against 22.8 %), on
500 to 1000 it changes nothing, on 5000 it gains most (2.9 against 4.7 %), and on 50 000 still
something.
Method: 784-1024-1024-2048-10 ReLU at --budget paper, half as wide at --budget cpu; rates 0.5 hidden
and 0.2 input. Each seed draws training images of its own, so that the standard errors hold the luck
of the draw; both arms draw the same. As many updates for every size: 200 000 at --budget paper,
which is our choice. Momentum is final from the first update, where the paper's rises: 0.95, and 0.9
at --budget cpu.
More rows ask where the paper's loss at 100 comes from. hot_ are those of 100 and 1000 images with a
learning rate that stays at 0.1 and a momentum of 0.95: from nets that do not come to rest? deepnet_
have the settings of the authors' public file for this net (deepnet, model_dropout.pbtxt), its
schedules those of its million updates squeezed to the length of the run, and the same file without
dropout; momentum rises as in their code of December 2012, and in deepnet_exp_ as since May 2013.
Selection: of the learning rate, 0.03 or 0.1, and of max-norm's c, 2 or 4 in the paper's convention,
a row, by --tune on the last 10 000 training images. The rows hot_ and deepnet_ have one setting.

Command: python -m experiments.dataset_size_figure10 --tune, then without --tune
         both again with --updates 60000 --rows dropout_50000 standard_50000
         with --seeds 10 --rows dropout_100 standard_100 hot_dropout_100 hot_standard_100
         with --updates 120 --rows dropout_100 standard_100 (--seeds 3 --tune, then --seeds 10)
         with --updates 20000 --products bfloat16 --rows deepnet_dropout_100
         deepnet_standard_100 deepnet_dropout_1000 deepnet_dropout_5000
         deepnet_exp_dropout_1000 deepnet_exp_dropout_5000 deepnet_exp_dropout_10000
         and with --seeds 10 deepnet_exp_dropout_100
         with --updates 200000 and --updates 1000000, --products bfloat16
         --rows deepnet_exp_dropout_100
         with --budget paper --updates 1000000 --seeds 3 --rows deepnet_dropout_100
The runs of deepnet_ that are committed name their updates of rising momentum and not its share; a
command makes them anew, and experiments.rerun repeats them.
Time at --budget cpu, on one core: 50 minutes (6000 updates, 3 seeds, 12 rows, and 4 trials a row);
the pair of 60 000 updates 90, the ten draws of 100 images 15, a row of deepnet's 7, and of 200 000
updates 50. A million takes two hours of two cores, or, at the full width, 5 minutes of an H200.
Results: docs/results/dataset_size_figure10.md.
"""

import dataclasses
import math
from collections.abc import Sequence

import dropout_jax as dj
from experiments.harness.grid import Budget
from experiments.nets import mlp
from experiments.nets.config import Config, max_norms, paper_settings
from experiments.records import literature

run = mlp.run
SIZES = tuple(point[0] for point in literature.CURVES["figure10/dropout"].points)
ARMS = {"dropout": (0.2, 0.5), "standard": (0.0, 0.0)}  # rates of the input and of hidden layers
ROWS = tuple(f"{arm}_{cases}" for cases in SIZES for arm in ARMS)
BUDGETS = {
    "cpu": Budget(updates=6_000, seeds=3, rows=ROWS),
    "paper": Budget(updates=200_000, seeds=10, rows=ROWS),
}
HIDDEN = {"cpu": (512, 512, 1024), "paper": (1024, 1024, 2048)}
HOT = {"decay": "linear", "decay_to": 1.0, "momentum": 0.95}


def grid(budget: str) -> list[Config]:
    found, hot, deepnet = [], [], []
    for cases in SIZES:
        for arm, (input_rate, rate) in ARMS.items():
            config = Config(
                row=f"{arm}_{cases}",
                hidden=HIDDEN[budget],
                training_cases=cases,
                input_rate=input_rate,
                rate=rate,
            )
            found.append(paper_settings(config, budget))
            if cases in (100, 1000):
                hot.append(dataclasses.replace(found[-1], row=f"hot_{config.row}", **HOT))
            deepnet += [as_in_deepnet(config, ramp) for ramp in ("linear", "exponential")]
    return found + hot + deepnet


def as_in_deepnet(config: Config, ramp: str) -> Config:
    """The settings of the authors' file for this net, its schedules those of as long a run as is
    made: a run of a fiftieth of its million updates has them squeezed to a fiftieth.

    Its momentum rose in a line in their code of December 2012, and since May 2013 by all but 1 / e.

    They are of the paper's convention: each layer's are mapped. `inverse_time` halves the learning
    rate in a hundredth of the run, as theirs does in 10 000 updates.
    """
    keeps = [1 - rate for rate in config.rates]
    outputs = (*config.hidden, 10)
    sigmas = (0.001, *[1.0] * len(config.hidden))  # theirs leaves the first at its default
    theirs = [
        {"init_scale": sigma / math.sqrt(n), "max_norm": 3.0, "learning_rate": 1.0}
        for sigma, n in zip(sigmas, outputs, strict=True)
    ]
    ours = list(map(dj.to_scaled_convention, theirs, keeps))
    return dataclasses.replace(
        config,
        row=f"{'deepnet' if ramp == 'linear' else 'deepnet_exp'}_{config.row}",
        learning_rate=1.0,
        weight_factors=tuple(layer["learning_rate"] for layer in ours),
        decay="inverse_time",
        decay_to=1 / 101,
        momentum_start=0.5,
        momentum=0.99,
        momentum_share=0.1,
        momentum_ramp=ramp,
        max_norm=tuple(layer["max_norm"] for layer in ours),
        init_deviations=tuple(layer["init_scale"] for layer in ours),
    )


def candidates(config: Config) -> list[Config]:
    if config.row not in ROWS:
        return [config]
    return [
        dataclasses.replace(config, max_norm=max_norms(c, config.rates), learning_rate=rate)
        for c in (2.0, 4.0)
        for rate in (0.03, 0.1)
    ]


def main(argv: Sequence[str] | None = None) -> None:
    mlp.launch(
        "dataset_size_figure10",
        __doc__,
        argv,
        budgets=BUDGETS,
        grid=grid,
        run=run,
        candidates=candidates,
    )


if __name__ == "__main__":
    main()
