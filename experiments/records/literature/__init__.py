"""Every published number that we compare with, as data: value, table or figure, section.

`PUBLISHED` holds single numbers under the name paper/table/row, `CURVES` whole curves.
"""

from experiments.records.literature.curves import CURVES, FIGURE_4_WIDTHS, figure_4_range
from experiments.records.literature.later import CONCRETE, MOLCHANOV
from experiments.records.literature.number import JMLR, TAGS, Curve, Published, rate_of
from experiments.records.literature.recipes import PYLEARN2_RECIPE
from experiments.records.literature.values import PUBLISHED

__all__ = [
    "CONCRETE",
    "CURVES",
    "FIGURE_4_WIDTHS",
    "JMLR",
    "MOLCHANOV",
    "PUBLISHED",
    "PYLEARN2_RECIPE",
    "TAGS",
    "Curve",
    "Published",
    "figure_4_range",
    "rate_of",
]
