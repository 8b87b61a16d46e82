"""The guide's intervals cover what they say, after the recalibration that it documents.

What would make this wrong: a recalibration on the cases that are counted, or on the training data.
"""

import doctest
from pathlib import Path

import pytest
from scipy import stats

import dropout_jax as dj

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "uncertainty.md"
LEVEL, BAND, HELD, NEW = 0.9, 0.03, 5000, 20_000


def miss_rate(level, band, held, new):
    """The chance that conformal intervals, which are right, miss level +- band of the new cases.

    The share that they cover is beta-distributed over held-out sets, and binomial over new cases.
    """
    rank = -(-(held + 1) * 9 // 10)
    covered = stats.betabinom(new, rank, held + 1 - rank)
    return covered.cdf((level - band) * new) + covered.sf((level + band) * new)


@pytest.mark.slow
def test_intervals_cover_nine_cases_in_ten_after_recalibration():
    assert miss_rate(LEVEL, BAND, HELD, NEW) < 1e-8
    lines = doctest.DocTestParser().get_examples(GUIDE.read_text())
    scope = {}
    for example in lines:
        exec(example.source, scope)
    assert len(scope["held_y"]) == HELD
    x, y = scope["draw"](3, NEW)  # another seed than any of the guide
    found = dj.mc_regress(scope["key"], scope["model"], x, samples=100, noise=0.2, batch_size=5000)
    q, spread = scope["q"], found.stddev
    covered = dj.predict.interval_coverage(y, found.mean - q * spread, found.mean + q * spread)
    assert abs(float(covered) - LEVEL) <= BAND
    raw = dj.predict.interval_coverage(y, *found.interval(LEVEL))
    assert abs(float(raw) - LEVEL) > BAND  # which it would not without the recalibration
