"""Published numbers of later papers: regularisers, baselines, learned rates, pruning."""

from experiments.records.literature.number import rows

MA = "Ma et al. 2017, ICLR"
CONCRETE = "Gal, Hron & Kendall 2017, authors' notebook"
MOLCHANOV = "Molchanov et al. 2017, authors' README"

# 2x8192 and 3x1024 ReLUs with max-norm, trained with the paper's regulariser.
_MA = rows(
    "ma2017",
    MA,
    "MNIST table",
    "P",
    {
        "2x8192_relu_maxnorm/expectation_linear": (0.87, 0.02),
        "3x1024_relu_maxnorm/expectation_linear": (0.98, 0.03),
    },
    note="5 runs of the nets of JMLR Table 2",
)

# Trained on all 60,000 images for 150 epochs, without the ladder's unsupervised costs.
_LADDER = rows(
    "ladder",
    "Rasmus et al. 2015, NIPS",
    "Table 1, supervised baseline",
    "M",
    {
        "supervised_baseline": (0.80, 0.03),
    },
    updates=90_000,
    note="784-1000-500-250-250-250-10 ReLU, batch normalisation, Gaussian noise",
)

# N: RMSE (mean, s.e.); learned rates of input, h1, h2, h3 -> mean, h3 -> log variance; sd, sd.
_CONCRETE_ROWS = {
    10: ((1.82, 0.35), 0.077, 0.404, 0.404, 0.403, 0.404, 1.32, 1.09),
    25: ((1.175, 0.049), 0.069, 0.404, 0.403, 0.403, 0.404, 1.36, 0.82),
    50: ((1.152, 0.055), 0.071, 0.326, 0.325, 0.325, 0.326, 1.27, 0.75),
    100: ((1.145, 0.027), 0.079, 0.236, 0.236, 0.236, 0.236, 1.25, 0.67),
    1000: ((1.065, 0.029), 0.075, 0.231, 0.225, 0.224, 0.233, 1.32, 0.65),
    10000: ((1.205, 0.089), 0.079, 0.137, 0.127, 0.112, 0.169, 1.23, 0.54),
}
_CONCRETE_COLUMNS = (
    "rmse",
    "rate_input",
    "rate_hidden1",
    "rate_hidden2",
    "rate_mean",
    "rate_log_variance",
    "aleatoric_sd",
    "epistemic_sd",
)
_CONCRETE = rows(
    "concrete",
    CONCRETE,
    "synthetic data, stored output",
    "C",
    {
        f"{n}/{name}": value
        for n, row in _CONCRETE_ROWS.items()
        for name, value in zip(_CONCRETE_COLUMNS, row, strict=True)
    },
    unit="as named",
    spread_is="s.e.",
    note="3 repetitions",
)

_MOLCHANOV = (
    rows(
        "molchanov2017",
        MOLCHANOV,
        "MNIST table",
        "C",
        {
            "lenet300100/error": 1.92,
        },
    )
    | rows(
        "molchanov2017",
        MOLCHANOV,
        "MNIST table",
        "C",
        {
            "lenet300100/compression": 68,
        },
        unit="times fewer weights",
    )
    | rows(
        "molchanov2017",
        MOLCHANOV,
        "MNIST table",
        "C",
        {
            "lenet300100/sparsity1": 98.9,
            "lenet300100/sparsity2": 97.2,
            "lenet300100/sparsity3": 62.0,
        },
        unit="% of weights pruned",
    )
)

PUBLISHED = _MA | _LADDER | _CONCRETE | _MOLCHANOV
