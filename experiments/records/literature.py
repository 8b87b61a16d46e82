"""Every published number that we compare with, as data: value, table or figure, section.

`PUBLISHED` holds single numbers under the name paper/table/row, `CURVES` whole curves. The papers
of the Toronto school write p for the probability of *keeping* a unit; `rate_of` turns it into a
rate, and this file is the only place where that happens. Gal's p is already the rate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# How a number came to us. V is exact to 0.005 points, R to a pixel; M must be checked before use.
TAGS = {
    "P": "read in the paper",
    "V": "read off the coordinates of the paper's vector figure",
    "R": "measured on the paper's raster figure",
    "C": "read in public code or its stored output",
    "W": "read on a web page",
    "D": "derived by arithmetic",
    "M": "from memory, not verified",
}


@dataclass(frozen=True)
class Published:
    """One number as printed, with what its spread means ("" where the paper does not say)."""

    value: float
    spread: float | None
    source: str
    where: str
    tag: str
    unit: str = field(default="test error %", kw_only=True)
    spread_is: str = field(default="", kw_only=True)
    updates: int | None = field(default=None, kw_only=True)
    note: str = field(default="", kw_only=True)

    @property
    def verified(self) -> bool:
        return self.tag != "M"

    @property
    def mark(self) -> str:
        """What a table puts after the number: nothing where it was read exactly."""
        return {"R": "†", "W": "†", "M": "‡"}.get(self.tag, "")

    @property
    def stderr(self) -> float | None:
        """The spread, where the paper says that it is a standard error."""
        return self.spread if self.spread_is == "s.e." else None


@dataclass(frozen=True)
class Curve:
    """Points (x, value, spread or None) of a published figure."""

    points: tuple[tuple[float, float, float | None], ...]
    source: str
    where: str
    tag: str
    x: str
    unit: str = "test error %"
    spread_is: str = ""


def rate_of(p: float) -> float:
    """The rate of dropping that a paper's probability p of keeping means: 1 - p.

    >>> rate_of(0.8)
    0.2
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p is {p}; a probability of keeping a unit lies between 0 and 1")
    return round(1 - p, 10)  # 1 - 0.8 is 0.19999999999999996, and it is to name a config


def _rows(prefix: str, source: str, where: str, tag: str, rows: Mapping[str, Any], **common):
    """One Published a row; a row is a value or (value, spread)."""
    pairs = {k: v if isinstance(v, tuple) else (v, None) for k, v in rows.items()}
    return {
        f"{prefix}/{name}": Published(value, spread, source, where, tag, **common)
        for name, (value, spread) in pairs.items()
    }


JMLR = "Srivastava et al. 2014, JMLR 15"
HINTON = "Hinton et al. 2012, arXiv:1207.0580"
MA = "Ma et al. 2017, ICLR"
PYLEARN2 = "pylearn2, papers/dropout"
UCI = "Gal & Ghahramani 2016, authors' code of 2018"
CONCRETE = "Gal, Hron & Kendall 2017, authors' notebook"
MOLCHANOV = "Molchanov et al. 2017, authors' README"
WAN = "Wan et al. 2013, ICML"
SPARSEDROP = "Lo 2024, arXiv:2411.01238"

# Trained for a million updates on all 60,000 images; rate 0.5 hidden, 0.2 input; last update.
_TABLE_2 = _rows(
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
) | _rows(
    "table2",
    JMLR,
    "Table 2, section 6.1.1",
    "P",
    {
        "standard_logistic_2x800": 1.60,
        "svm": 1.40,
        "dropout_maxnorm_maxout_2x5x240": 0.94,
        "dbn": 1.18,
        "dbm": 0.96,
        "dbn_dropout": 0.92,
        "dbm_dropout": 0.79,
    },
)

_TABLE_9 = _rows(
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

_TABLE_10 = _rows(
    "table10",
    JMLR,
    "Table 10, section 10",
    "P",
    {
        "mnist_bernoulli": (1.08, 0.04),
        "mnist_gaussian": (0.95, 0.04),
        "cifar10_bernoulli": (12.6, 0.1),
        "cifar10_gaussian": (12.5, 0.1),
    },
    note="10 seeds",
)

# Autoencoders of 256 ReLUs; "close to" and "around" in the text.
_FIGURE_8 = _rows(
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
_FIGURE_4 = _rows(
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

_FIGURE_11 = _rows(
    "figure11",
    JMLR,
    "Figure 11, section 7.5",
    "V",
    {
        "weight_scaling": (1.050, 0.018),
    },
)

_COST = _rows(
    "cost",
    JMLR,
    "section 11",
    "P",
    {"lowest": 2.0, "highest": 3.0},
    unit="training time, times that of a standard net",
)

_HINTON = _rows(
    "hinton2012",
    HINTON,
    "Appendix A.1",
    "P",
    {
        "standard": 160,
        "dropout_hidden": 130,
        "dropout_hidden_and_input": 110,
        "dbn": 118,
        "dbn_dropout": 92,
        "dbm_dropout": 79,
    },
    unit="test errors of 10,000",
    note="3000 epochs of 600 updates",
)

_MA_ROWS = {
    "3x1024_logistic": ((1.23, 0.03), (1.06, 0.02), (1.07, 0.02)),
    "3x1024_relu": ((1.19, 0.02), (1.04, 0.02), (1.03, 0.02)),
    "3x1024_relu_maxnorm": ((1.05, 0.03), (1.02, 0.02), (0.98, 0.03)),
    "3x2048_relu_maxnorm": ((1.07, 0.02), (1.00, 0.02), (0.94, 0.02)),
    "2x4096_relu_maxnorm": ((1.03, 0.02), (0.92, 0.03), (0.90, 0.02)),
    "2x8192_relu_maxnorm": ((0.99, 0.02), (0.96, 0.02), (0.87, 0.02)),
}
_MA = _rows(
    "ma2017",
    MA,
    "MNIST table",
    "P",
    {
        f"{net}/{how}": value
        for net, row in _MA_ROWS.items()
        for how, value in zip(("weight_scaling", "mc100", "expectation_linear"), row, strict=True)
    },
    note="5 runs of the nets of JMLR Table 2",
)

_PYLEARN2 = _rows(
    "pylearn2",
    PYLEARN2,
    "README and mnist.yaml",
    "C",
    {
        "50k_early_stop": 1.08,
        "60k": 1.05,
    },
    updates=264_000,
    note="784-898-1532-10 ReLU",
)

_KERAS = _rows(
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

_UCI_ROWS = {  # RMSE, log likelihood: (mean, s.e.); RMSE of a single stochastic pass
    "boston": ((2.904, 0.177), (-2.402, 0.042), 3.609),
    "concrete": ((4.826, 0.161), (-2.937, 0.025), 5.448),
    "energy": ((0.5389, 0.0135), (-1.2115, 0.0053), 0.967),
    "kin8nm": ((0.0789, 0.0006), (1.136, 0.007), 0.0916),
    "naval": (0.000743, (4.4495, 0.0022), 0.00173),
    "power": ((4.014, 0.037), (-2.808, 0.009), 4.176),
    "protein": ((4.274, 0.021), (-2.871, 0.0015), 4.392),
    "wine": ((0.6218, 0.0080), (-0.928, 0.013), 0.657),
    "yacht": ((0.6663, 0.0486), (-1.250, 0.015), 1.229),
}
_UCI = {}
for _column, (_name, _unit) in enumerate(
    [
        ("rmse", "RMSE"),
        ("log_likelihood", "nats a case"),
        ("rmse_one_pass", "RMSE"),
    ]
):
    _UCI |= _rows(
        "uci2018",
        UCI,
        "README and result files, 1 hidden layer",
        "C",
        {f"{data}/{_name}": row[_column] for data, row in _UCI_ROWS.items()},
        unit=_unit,
        spread_is="s.e.",
        note="20 splits, 5 of protein; 10,000 passes",
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
_CONCRETE = _rows(
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
    _rows(
        "molchanov2017",
        MOLCHANOV,
        "MNIST table",
        "C",
        {
            "lenet300100/error": 1.92,
            "lenet5/error": 0.75,
        },
    )
    | _rows(
        "molchanov2017",
        MOLCHANOV,
        "MNIST table",
        "C",
        {
            "lenet300100/compression": 68,
            "lenet5/compression": 280,
        },
        unit="times fewer weights",
    )
    | _rows(
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

_WAN_ROWS = {  # no dropout, dropout, DropConnect
    "relu": ((1.62, 0.037), (1.28, 0.040), (1.20, 0.034)),
    "sigmoid": ((1.78, 0.037), (1.38, 0.039), (1.55, 0.046)),
    "tanh": ((1.65, 0.026), (1.58, 0.053), (1.36, 0.054)),
}
_WAN = _rows(
    "dropconnect",
    WAN,
    "MNIST, 2x800, no augmentation",
    "M",
    {
        f"{unit}/{how}": value
        for unit, row in _WAN_ROWS.items()
        for how, value in zip(("standard", "dropout", "dropconnect"), row, strict=True)
    },
    note="mean of 5 nets",
)

# What thinner networks are said to save.
_THINNED = (
    _rows(
        "approximate_random_dropout",
        "Song et al. 2019, DATE",
        "abstract",
        "W",
        {
            "mlp/lowest": 1.18,
            "mlp/highest": 2.16,
            "lstm/lowest": 1.24,
            "lstm/highest": 1.85,
        },
        unit="speed-up",
        note="rates 0.3 to 0.7",
    )
    | _rows(
        "sisrt",
        "Sarma et al. 2021, NeurIPS",
        "abstract",
        "W",
        {"lstm/lowest": 1.23, "lstm/highest": 1.64},
        unit="speed-up",
    )
    | _rows(
        "sliceout",
        "Notin et al. 2020",
        "abstract",
        "W",
        {"lowest": 10, "highest": 40},
        unit="% of time and memory saved",
    )
    | _rows(
        "batchwise",
        "Graham 2015, arXiv:1502.02478",
        "abstract",
        "W",
        {
            "two_layers_half": 75,
        },
        unit="% less matrix multiplication between two layers at rate 0.5",
    )
    | _rows(
        "sparsedrop",
        SPARSEDROP,
        "Table 1, MLP",
        "P",
        {
            "dense/accuracy": (96.96, 0.62),
            "dropout/accuracy": (97.82, 0.24),
            "sparsedrop/accuracy": (97.61, 0.20),
        },
        unit="validation accuracy %",
        note="3 runs on 16,384 images of MNIST",
    )
    | _rows(
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

PUBLISHED: dict[str, Published] = (
    _TABLE_2
    | _TABLE_9
    | _TABLE_10
    | _FIGURE_4
    | _FIGURE_8
    | _FIGURE_11
    | _COST
    | _HINTON
    | _MA
    | _PYLEARN2
    | _KERAS
    | _UCI
    | _CONCRETE
    | _MOLCHANOV
    | _WAN
    | _THINNED
)

# Figure 9, as printed: (p, error, half the error bar); the paper does not say what the bars are.
_9A_TEST = (
    (0.1, 3.19, 0.089),
    (0.2, 1.79, 0.083),
    (0.3, 1.21, 0.114),
    (0.4, 1.12, 0.079),
    (0.5, 1.06, 0.139),
    (0.6, 1.09, 0.108),
    (0.7, 1.1, 0.097),
    (0.8, 1.08, 0.115),
    (0.9, 1.26, 0.1),
    (1.0, 1.65, 0.085),
)
_9A_TRAIN = (
    (0.1, 2.734, 0.104),
    (0.2, 0.652, 0.123),
    (0.3, 0.032, None),
    (0.4, 0.023, None),
    (0.5, 0.004, None),
    (0.6, 0.002, None),
    (0.7, 0.001, None),
    (0.8, 0.0, None),
    (0.9, 0.0, None),
    (1.0, 0.0, None),
)
_9B_TEST = (
    (0.1, 2.385, 0.275),
    (0.2, 1.775, 0.215),
    (0.3, 1.505, 0.085),
    (0.4, 1.265, 0.125),
    (0.5, 1.205, 0.055),
    (0.6, 1.1, 0.03),
    (0.7, 1.2, 0.11),
    (0.8, 1.425, 0.025),
    (0.9, 1.46, None),
    (1.0, 1.7, 0.12),
)
_9B_TRAIN = (
    (0.1, 1.707, 0.471),
    (0.2, 0.872, 0.296),
    (0.3, 0.474, 0.205),
    (0.4, 0.11, 0.085),
    (0.5, 0.073, 0.009),
    (0.6, 0.018, 0.011),
    (0.7, 0.009, 0.006),
    (0.8, 0.007, None),
    (0.9, 0.005, 0.005),
    (1.0, 0.009, 0.009),
)

# Figure 10: (training cases, error, half the error bar).
_10_DROPOUT = (
    (100, 26.62, 2.72),
    (500, 13.19, 1.22),
    (1000, 10.6, 1.31),
    (5000, 2.94, 0.36),
    (10000, 2.39, 0.23),
    (50000, 1.28, 0.11),
)
_10_STANDARD = (
    (100, 22.84, 2.04),
    (500, 13.07, 1.42),
    (1000, 10.73, 1.05),
    (5000, 4.69, 0.48),
    (10000, 3.27, 0.26),
    (50000, 1.69, 0.17),
)

# Figure 11: (k passes averaged, error, sd over draws of the k passes).
_11_MC = (
    (3, 1.281, 0.067),
    (5, 1.179, 0.054),
    (7, 1.129, 0.048),
    (9, 1.106, 0.049),
    (11, 1.095, 0.039),
    (13, 1.085, 0.042),
    (15, 1.084, 0.047),
    (17, 1.074, 0.04),
    (19, 1.068, 0.038),
    (21, 1.068, 0.041),
    (23, 1.072, 0.034),
    (25, 1.063, 0.038),
    (27, 1.072, 0.031),
    (29, 1.065, 0.035),
    (31, 1.057, 0.036),
    (33, 1.054, 0.032),
    (35, 1.059, 0.031),
    (37, 1.054, 0.032),
    (39, 1.06, 0.03),
    (41, 1.055, 0.025),
    (43, 1.052, 0.03),
    (45, 1.055, 0.035),
    (47, 1.052, 0.031),
    (49, 1.052, 0.03),
    (51, 1.049, 0.029),
    (53, 1.049, 0.026),
    (55, 1.05, 0.029),
    (57, 1.049, 0.026),
    (59, 1.05, 0.027),
    (61, 1.05, 0.027),
    (63, 1.046, 0.027),
    (65, 1.046, 0.028),
    (67, 1.048, 0.026),
    (69, 1.051, 0.03),
    (71, 1.045, 0.025),
    (73, 1.044, 0.03),
    (75, 1.051, 0.024),
    (77, 1.047, 0.025),
    (79, 1.047, 0.025),
    (81, 1.041, 0.025),
    (83, 1.044, 0.023),
    (85, 1.045, 0.023),
    (87, 1.04, 0.024),
    (89, 1.047, 0.023),
    (91, 1.045, 0.024),
    (93, 1.04, 0.022),
    (95, 1.046, 0.025),
    (97, 1.046, 0.024),
    (99, 1.043, 0.025),
    (101, 1.042, 0.024),
    (103, 1.042, 0.024),
    (105, 1.044, 0.023),
    (107, 1.041, 0.025),
    (109, 1.038, 0.023),
    (111, 1.038, 0.023),
    (113, 1.043, 0.022),
    (115, 1.039, 0.024),
    (117, 1.037, 0.023),
    (119, 1.044, 0.024),
)

# Figure 4: (updates in thousands, lowest, highest error of the six nets at that update).
FIGURE_4_WIDTHS = {1024, 2048}
_4_STANDARD = (
    (10, 1.73, 2.62),
    (20, 1.85, 2.63),
    (30, 1.69, 1.91),
    (40, 1.55, 1.8),
    (50, 1.6, 1.88),
    (60, 1.69, 1.92),
    (80, 1.62, 1.79),
    (100, 1.66, 1.81),
    (150, 1.67, 1.82),
    (200, 1.63, 1.77),
    (300, 1.7, 1.85),
    (400, 1.65, 1.8),
    (600, 1.62, 1.91),
    (800, 1.68, 1.83),
    (990, 1.62, 1.83),
)
_4_DROPOUT = (
    (10, 1.69, 2.04),
    (20, 1.55, 1.75),
    (30, 1.35, 1.61),
    (40, 1.35, 1.55),
    (50, 1.25, 1.51),
    (60, 1.23, 1.46),
    (80, 1.23, 1.45),
    (100, 1.21, 1.43),
    (150, 1.19, 1.38),
    (200, 1.18, 1.33),
    (300, 1.14, 1.27),
    (400, 1.02, 1.28),
    (600, 1.06, 1.22),
    (800, 0.99, 1.1),
    (990, 1.03, 1.13),
)


def _figure_9(points):
    return tuple((rate_of(p), error, spread) for p, error, spread in points)


CURVES: dict[str, Curve] = {
    "figure9a/test": Curve(_figure_9(_9A_TEST), JMLR, "Figure 9a, section 7.3", "V", "rate"),
    "figure9a/train": Curve(
        _figure_9(_9A_TRAIN), JMLR, "Figure 9a, section 7.3", "V", "rate", unit="train error %"
    ),
    "figure9b/test": Curve(_figure_9(_9B_TEST), JMLR, "Figure 9b, section 7.3", "V", "rate"),
    "figure9b/train": Curve(
        _figure_9(_9B_TRAIN), JMLR, "Figure 9b, section 7.3", "V", "rate", unit="train error %"
    ),
    "figure10/dropout": Curve(_10_DROPOUT, JMLR, "Figure 10, section 7.4", "V", "training cases"),
    "figure10/standard": Curve(_10_STANDARD, JMLR, "Figure 10, section 7.4", "V", "training cases"),
    "figure11/monte_carlo": Curve(
        _11_MC, JMLR, "Figure 11, section 7.5", "V", "passes", spread_is="sd over draws"
    ),
}
# Figure 1 of Hinton et al.: test errors at an epoch, rate 0.5 hidden and 0.2 input; +- 1 error.
for _net, _errors in {
    "2x800": (119, 115, 111, 110),
    "2x1200": (115, 110, 109, 107),
    "2x2000": (111, 107, 106, 107),
    "3x1200": (108, 102, 102, 101),
}.items():
    _epochs = (500, 1000, 2000, 2900)
    _points = tuple((epoch, n, None) for epoch, n in zip(_epochs, _errors, strict=True))
    CURVES[f"hinton2012/{_net}"] = Curve(
        _points, HINTON, "Figure 1", "R", "epochs", unit="test errors of 10,000"
    )


def figure_4_range(dropout: bool, updates: int) -> tuple[int, float, float] | None:
    """What the six nets of Figure 4 had reached by then: (updates, lowest, highest error %).

    The latest point read that is not after `updates`; None before the first, at 10,000.

    >>> figure_4_range(True, 120_000)
    (100000, 1.21, 1.43)
    """
    points = [p for p in (_4_DROPOUT if dropout else _4_STANDARD) if p[0] * 1000 <= updates]
    return (points[-1][0] * 1000, *points[-1][1:]) if points else None
