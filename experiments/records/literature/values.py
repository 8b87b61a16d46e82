"""Published single numbers by the name paper/table/row, and a published recipe.

Every one is shown by a table or a page, beside ours.
"""

from typing import Any

from experiments.records.literature.number import JMLR, Published, rate_of, rows

MA = "Ma et al. 2017, ICLR"
PYLEARN2 = "pylearn2, papers/dropout"
CONCRETE = "Gal, Hron & Kendall 2017, authors' notebook"
MOLCHANOV = "Molchanov et al. 2017, authors' README"
SPARSEDROP = "Lo 2024, arXiv:2411.01238"

# Trained for a million updates on all 60,000 images; rate 0.5 hidden, 0.2 input; last update.
_TABLE_2 = rows(
    "table2",
    JMLR,
    "Table 2, section 6.1.1",
    "P",
    {
        "dropout_logistic_3x1024": 1.35,
        "dropout_relu_3x1024": 1.25,
        "dropout_relu_maxnorm_3x1024": 1.06,
        "dropout_relu_maxnorm_3x2048": 1.04,
        "dropout_relu_maxnorm_2x4096": 1.01,
        "dropout_relu_maxnorm_2x8192": 0.95,
    },
    updates=1_000_000,
) | rows(
    "table2",
    JMLR,
    "Table 2, section 6.1.1",
    "P",
    {
        "standard_logistic_2x800": 1.60,
        "dropout_maxnorm_maxout_2x5x240": 0.94,
    },
)

_TABLE_9 = rows(
    "table9",
    JMLR,
    "Table 9, section 6.5",
    "P",
    {
        "l2": 1.62,
        "l2_l1": 1.60,
        "l2_kl_sparsity": 1.55,
        "maxnorm": 1.35,
        "dropout_l2": 1.25,
        "dropout_maxnorm": 1.05,
    },
    note="784-1024-1024-2048-10 ReLU",
)

_TABLE_10 = rows(
    "table10",
    JMLR,
    "Table 10, section 10",
    "P",
    {
        "mnist_bernoulli": (1.08, 0.04),
        "mnist_gaussian": (0.95, 0.04),
    },
    note="10 seeds",
)

# Autoencoders of 256 ReLUs; "close to" and "around" in the text.
_FIGURE_8 = rows(
    "figure8",
    JMLR,
    "Figure 8, section 7.2",
    "P",
    {
        "standard": 2.0,
        "dropout": 0.7,
    },
    unit="mean activity of a hidden unit",
)

# The lowest and the highest of the six nets, each the mean of its last ten evaluations.
_FIGURE_4 = rows(
    "figure4",
    JMLR,
    "Figure 4, section 6.1.1",
    "V",
    {
        "standard/lowest": 1.65,
        "standard/highest": 1.82,
        "dropout/lowest": 1.00,
        "dropout/highest": 1.14,
    },
    updates=990_000,
    note="six nets: 2, 3 or 4 layers of 1024 or 2048",
)

_FIGURE_11 = rows(
    "figure11",
    JMLR,
    "Figure 11, section 7.5",
    "V",
    {
        "weight_scaling": (1.050, 0.018),
    },
)

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

_PYLEARN2 = rows(
    "pylearn2",
    PYLEARN2,
    "README and mnist.yaml",
    "C",
    {
        "60k": 1.05,
    },
    updates=264_000,
    note="784-898-1532-10 ReLU",
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

_KERAS = rows(
    "keras",
    "Keras, examples/mnist_mlp.py",
    "docstring",
    "C",
    {
        "mnist_mlp/test_accuracy": 98.40,
    },
    unit="test accuracy %",
    updates=20 * 469,
    note="784-512-512-10 ReLU, rate 0.2, 20 epochs",
)

PYLEARN2_RECIPE: dict[str, Any] = {
    "hidden": (898, 1532),
    "input_rate": rate_of(0.8),
    "rate": rate_of(0.5),
    "batch_size": 100,
    "epochs": 440,
    "learning_rate": (0.097259, 0.022292, 560),  # from, times, over so many epochs; linear
    "momentum": (0.5, 0.699, 698),  # from, to, over so many epochs; linear
    "max_norm": (4.378, 2.970, 4.627),  # a layer; for activations scaled in training
    "init_range": (0.0089, 0.0575, 0.0),  # uniform, a layer
}

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

# What thinner networks are said to save.
_THINNED = (
    rows(
        "approximate_random_dropout",
        "Song et al. 2019, DATE",
        "abstract",
        "W",
        {
            "mlp/lowest": 1.18,
            "mlp/highest": 2.16,
        },
        unit="speed-up",
        note="rates 0.3 to 0.7",
    )
    | rows(
        "sisrt",
        "Sarma et al. 2021, NeurIPS",
        "abstract",
        "W",
        {"lstm/lowest": 1.23, "lstm/highest": 1.64},
        unit="speed-up",
    )
    | rows(
        "sliceout",
        "Notin et al. 2020",
        "abstract",
        "W",
        {"lowest": 10, "highest": 40},
        unit="% of time and memory saved",
    )
    | rows(
        "sparsedrop",
        SPARSEDROP,
        "Table 1, MLP",
        "P",
        {
            "dense/minutes": 1.94,
            "dropout/minutes": 2.78,
            "sparsedrop/minutes": 3.18,
        },
        unit="minutes",
    )
)

_NANOGPT = rows(
    "nanogpt",
    "Karpathy, nanoGPT",
    "README",
    "C",
    {"cpu": 1.88, "gpu": 1.4697},
    unit="validation loss, nats a character",
    note="cpu of 20 batches, 2000 updates; gpu the best of 5000 updates",
)

PUBLISHED: dict[str, Published] = (
    _TABLE_2
    | _TABLE_9
    | _TABLE_10
    | _FIGURE_4
    | _FIGURE_8
    | _FIGURE_11
    | _MA
    | _PYLEARN2
    | _LADDER
    | _KERAS
    | _CONCRETE
    | _MOLCHANOV
    | _THINNED
    | _NANOGPT
)
