"""The published numbers. What would make this wrong: p taken for the rate, a slip of the pen that
breaks what the paper says about its own numbers, a number from memory that looks like a fact."""

import doctest
import math

import pytest

from experiments.records import literature
from experiments.records.literature import CURVES, PUBLISHED, curves, number, rate_of
from experiments.records.record import RESULTS, ROOT
from experiments.report import blocks, pages


def test_every_number_says_where_it_is_from():
    for name, found in PUBLISHED.items():
        assert found.source and found.where and found.unit, name
        assert found.tag in literature.TAGS, name
        assert math.isfinite(found.value), name
        assert found.spread is None or found.spread >= 0, name
    for name, curve in CURVES.items():
        assert curve.source and curve.where and curve.x and curve.unit, name
        assert curve.tag in literature.TAGS, name


def test_a_number_that_was_not_read_in_the_paper_is_marked():
    assert PUBLISHED["sisrt/lstm/lowest"].mark == "†"
    assert PUBLISHED["ladder/supervised_baseline"].mark == "‡"
    assert PUBLISHED["table2/dropout_relu_3x1024"].mark == ""


def test_only_a_spread_called_standard_error_is_used_as_one():
    assert PUBLISHED["concrete/10/rmse"].stderr == 0.35
    assert PUBLISHED["table10/mnist_gaussian"].spread == 0.04
    assert PUBLISHED["table10/mnist_gaussian"].stderr is None


class Asked(dict):
    """A dict that remembers what was asked for."""

    def __init__(self, values):
        super().__init__(values)
        self.names = set()

    def __getitem__(self, name):
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        return self[name] if name in self else default


def test_every_number_is_shown_by_a_table_or_a_page(monkeypatch):
    """What nobody shows nobody checks, and it goes."""
    numbers, asked = Asked(PUBLISHED), Asked(CURVES)
    monkeypatch.setattr(literature, "PUBLISHED", numbers)
    monkeypatch.setattr(literature, "CURVES", asked)
    for name in set(blocks.tables()) - {"functions"}:
        blocks.table(name, RESULTS)
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        pages.regenerate(page.read_text(encoding="utf-8"))
    assert set(PUBLISHED) - numbers.names == set()
    assert set(CURVES) - asked.names == set()


@pytest.mark.parametrize(("p", "rate"), [(0.8, 0.2), (0.5, 0.5), (0.9, 0.1), (0.7, 0.3), (1, 0)])
def test_p_is_the_probability_of_keeping(p, rate):
    assert rate_of(p) == rate


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_a_p_that_is_no_probability_is_refused(p):
    with pytest.raises(ValueError, match="p is"):
        rate_of(p)


def test_figure_9_is_by_rate():
    """Section 7.3: both ends are bad, p = 0.1 (rate 0.9) most; flat for 0.4 <= p <= 0.8."""
    error = {rate: value for rate, value, _ in CURVES["figure9a/test"].points}
    assert error[0.9] == max(error.values()) == 3.19
    assert error[0.0] == 1.65
    flat = [error[rate] for rate in (0.2, 0.3, 0.4, 0.5, 0.6)]
    assert max(flat) - min(flat) < 0.1 and max(flat) < min(error[r] for r in (0.0, 0.1, 0.7))


def test_figure_10_has_the_shape_of_the_text():
    """Section 7.4: dropout does not help at 100 cases; its gain rises and then declines."""
    gain = [
        plain[1] - dropped[1]
        for plain, dropped in zip(
            CURVES["figure10/standard"].points, CURVES["figure10/dropout"].points, strict=True
        )
    ]
    assert gain[0] < 0 and max(gain) == gain[3] and gain[-1] > 0


def test_figure_11_crosses_weight_scaling_at_about_fifty():
    scaled = PUBLISHED["figure11/weight_scaling"].value
    first = next(k for k, error, _ in CURVES["figure11/monte_carlo"].points if error < scaled)
    assert first == 51


def test_figure_4_range_never_looks_ahead():
    assert literature.figure_4_range(True, 9_999) is None
    assert literature.figure_4_range(True, 10_000)[0] == 10_000
    assert literature.figure_4_range(False, 99_999)[0] == 80_000
    assert literature.figure_4_range(True, 10**7) == (990_000, 1.03, 1.13)
    for points in (curves._4_DROPOUT, curves._4_STANDARD):
        assert all(low <= high for _, low, high in points)


def test_pylearn2_norms_in_the_convention_of_the_paper():
    """Divided by keep, they are the 5.5, 5.9 and 9.3 that are far looser than the paper's 2."""
    recipe = literature.PYLEARN2_RECIPE
    rates = (recipe["input_rate"], recipe["rate"], recipe["rate"])
    norms = [c / (1 - r) for c, r in zip(recipe["max_norm"], rates, strict=True)]
    assert norms == pytest.approx([5.5, 5.9, 9.3], abs=0.06)


def test_learned_rates_fall_with_more_data():
    rates = [PUBLISHED[f"concrete/{n}/rate_hidden2"].value for n in (10, 50, 100, 1000, 10000)]
    assert rates == sorted(rates, reverse=True)


def test_doctests():
    assert doctest.testmod(number).failed == doctest.testmod(curves).failed == 0
