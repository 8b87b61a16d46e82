"""One palette and one style for all figures: the same thing has the same colour everywhere.

The colours are those of Okabe and Ito, which people of every colour vision tell apart.
"""

DROPOUT, NO_DROPOUT, PUBLISHED = "#0072B2", "#D55E00", "#8c8c8c"
THINNED, FLAX = "#009E73", "#CC79A7"
MORE = ("#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
ARMS = {"dropout": DROPOUT, "standard": NO_DROPOUT}
NAMES = {"dropout": "dropout", "standard": "no dropout"}

RC = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.titlesize": "medium",
    "font.size": 9.5,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.fontsize": "small",
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}
DATA = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "digits": "scikit-learn's digits"}
