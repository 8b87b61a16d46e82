"""Means over seeds and their differences. What would make this wrong: a diverged seed averaged
away, a wrong sign, the error of independent runs where both saw the same data."""

import doctest
import math

import pytest

from experiments.records import stats
from experiments.records.stats import Difference, difference


def test_mean_and_standard_error_by_hand():
    mean, stderr = stats.mean_and_stderr([1.0, 2.0, 3.0, 6.0])
    assert mean == 3.0
    assert math.isclose(stderr, math.sqrt((4 + 1 + 0 + 9) / 3 / 4))
    assert stats.mean_and_stderr([5.0]) == (5.0, None)
    with pytest.raises(ValueError, match="one number a seed"):
        stats.mean_and_stderr([])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_diverged_seed_is_not_averaged_away(bad):
    assert all(map(math.isnan, stats.mean_and_stderr([1.0, bad])))
    assert stats.plus_minus([1.0, bad]) == "nan ± nan"
    assert math.isnan(difference([1.0, bad], [1.0, 2.0]).mean)


def test_plus_minus_is_what_a_table_shows():
    assert stats.plus_minus([1.0, 1.1]) == "1.05 ± 0.05"
    assert stats.plus_minus([1.25], digits=1) == "1.2"


def test_independent_runs_add_their_variances():
    a, b = [1.0, 2.0, 3.0], [5.0, 9.0]
    stderr = math.hypot(stats.mean_and_stderr(a)[1], stats.mean_and_stderr(b)[1])
    assert difference(a, b) == (-5.0, stderr)
    assert difference(a, [1.0]) == (1.0, None)


def test_paired_runs_are_compared_seed_by_seed():
    assert difference([20.0, 30.0], [20.4, 30.6], paired=True) == (
        pytest.approx(-0.5),
        pytest.approx(0.1),
    )
    with pytest.raises(ValueError):
        difference([1.0, 2.0], [1.0], paired=True)


@pytest.mark.parametrize(
    ("change", "signed", "points", "sentence"),
    [
        (Difference(-0.5, 0.2), "-0.50 ± 0.20", "0.50 ± 0.20 points lower",
         "0.50 ± 0.20 (2.5 standard errors) points lower"),
        (Difference(0.5, None), "+0.50", "0.50 points higher", "0.50 points higher"),
        (Difference(0.5, 0.0), "+0.50 ± 0.00", "0.50 ± 0.00 points higher",
         "0.50 ± 0.00 points higher"),
    ],
)  # fmt: skip
def test_a_difference_in_words(change, signed, points, sentence):
    assert (change.signed(), change.points(), change.sentence()) == (signed, points, sentence)
    assert change.points("below", "above").split()[-1] in ("below", "above")


def test_doctests():
    assert doctest.testmod(stats).failed == 0
