"""Recalibration: the coverage that conformal intervals promise, and the likeliest scale."""

import numpy as np
import pytest
from helpers.thresholds import assert_binomial
from scipy import optimize, stats

from dropout_jax import predict

RNG = np.random.default_rng(0)


def test_conformal_is_the_order_statistic_of_its_definition():
    y, mean = RNG.normal(size=(2, 57)).astype(np.float32)
    stddev = RNG.uniform(0.5, 2, 57).astype(np.float32)
    scores = np.sort(np.abs(y - mean) / stddev)
    for level in (0.5, 0.8, 0.9):
        found = predict.conformal_scale(y, mean, stddev, level=level)
        np.testing.assert_allclose(found, scores[int(np.ceil(58 * level)) - 1], rtol=1e-6)


def test_conformal_covers_a_new_case_with_the_probability_of_the_theorem():
    """Exactly ceil(.9 (n + 1)) / (n + 1), whatever the distribution: here with skewed errors."""
    n, sets = 24, 1000
    errors = RNG.exponential(size=(sets, n + 1)).astype(np.float32) ** 2
    covered = sum(
        predict.conformal_scale(e[:n], np.zeros(n, np.float32), 1.0, level=0.9) >= e[n]
        for e in errors
    )
    assert_binomial(covered, sets, 23 / 25, 1e-8, "conformal coverage")


def test_the_scale_is_the_likeliest():
    y, mean = RNG.normal(size=(2, 57))
    stddev = RNG.uniform(0.5, 2, 57)
    best = optimize.minimize_scalar(
        lambda s: -stats.norm.logpdf(y, mean, s * stddev).sum(), bounds=(0.1, 10), method="bounded"
    )
    found = predict.stddev_scale(*(a.astype(np.float32) for a in (y, mean, stddev)))
    np.testing.assert_allclose(found, best.x, rtol=1e-4)


def test_errors():
    with pytest.raises(ValueError, match="8 held-out cases are too few.*write 9 or more"):
        predict.conformal_scale(np.zeros(8), np.zeros(8), 1.0, level=0.9)
    with pytest.raises(ValueError, match="one target at a time"):
        predict.conformal_scale(np.zeros((30, 2)), np.zeros((30, 2)), 1.0)
    with pytest.raises(ValueError, match="no held-out cases"):
        predict.stddev_scale(np.zeros(0), np.zeros(0), 1.0)
    with pytest.raises(ValueError, match="level is 90"):
        predict.conformal_scale(np.zeros(30), np.zeros(30), 1.0, level=90)
