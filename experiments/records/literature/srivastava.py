"""Published numbers of Srivastava et al. 2014."""

from experiments.records.literature.number import JMLR, rows

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

PUBLISHED = _TABLE_2 | _TABLE_9 | _TABLE_10 | _FIGURE_4 | _FIGURE_8 | _FIGURE_11
