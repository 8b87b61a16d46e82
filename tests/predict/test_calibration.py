"""Reliability, ECE and coverage against scikit-learn and loops over bins in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thresholds import assert_binomial, assert_normal
from scipy import stats
from sklearn.calibration import calibration_curve

from dropout_jax import predict

RNG = np.random.default_rng(0)
P = RNG.dirichlet(np.ones(3), size=500).astype(np.float32)
LABELS = np.array([RNG.choice(3, p=p / p.sum()) for p in np.float64(P)])


def test_reliability_is_that_of_a_loop_over_bins():
    found = predict.reliability(P, LABELS, bins=10)
    confidence, right = P.max(-1), P.argmax(-1) == LABELS
    for b in range(10):
        members = (confidence > b / 10) & (confidence <= (b + 1) / 10)
        assert found.count[b] == members.sum()
        if members.any():
            np.testing.assert_allclose(found.confidence[b], confidence[members].mean(), rtol=1e-5)
            np.testing.assert_allclose(found.accuracy[b], right[members].mean(), rtol=1e-5)
    gaps = np.abs(found.accuracy - found.confidence) * found.count / 500
    ece = predict.expected_calibration_error(P, LABELS, bins=10)
    np.testing.assert_allclose(ece, np.nansum(gaps), rtol=1e-5)


def test_two_classes_have_the_curve_of_scikit_learn():
    p, y = P[:, 0] / 2 + 0.5, (RNG.uniform(size=500) < 0.7).astype(int)
    found = predict.reliability(np.stack([1 - p, p], 1), y, bins=10)
    accuracy, confidence = calibration_curve(y, p, n_bins=10)
    filled = np.asarray(found.count) > 0
    np.testing.assert_allclose(found.accuracy[filled], accuracy, rtol=1e-5)
    np.testing.assert_allclose(found.confidence[filled], confidence, rtol=1e-5)


def test_a_calibrated_classifier_is_found_calibrated():
    """Labels were drawn from the probabilities: each bin's accuracy is a mean of Bernoullis."""
    found = predict.reliability(P, LABELS, bins=10)
    many = np.asarray(found.count) >= 30
    claimed = np.asarray(found.confidence)[many]
    stderr = np.sqrt(claimed * (1 - claimed) / np.asarray(found.count)[many])
    assert_normal((np.asarray(found.accuracy)[many] - claimed) / stderr, 1e-6, "accuracy of bins")


def test_coverage_and_its_curve():
    y, mean = RNG.normal(size=(2, 400)).astype(np.float32)
    levels = (0.5, 0.9)
    found = predict.coverage_curve(y, mean, 1.3, levels)
    for level, covered in zip(levels, found, strict=True):
        low, high = stats.norm.interval(level, mean, 1.3)
        np.testing.assert_allclose(covered, np.mean((low <= y) & (y <= high)), atol=1e-6)
        ends = (jnp.float32(low), jnp.float32(high))
        np.testing.assert_allclose(predict.interval_coverage(y, *ends), covered, atol=1e-6)


def test_the_true_distribution_covers_as_it_says():
    y = RNG.normal(size=4000).astype(np.float32)
    found = predict.coverage_curve(y, np.zeros(4000, np.float32), 1.0, (0.5, 0.9))
    assert_binomial(np.rint(4000 * np.asarray(found[0])), 4000, 0.5, 1e-8, "coverage")
    assert_binomial(np.rint(4000 * np.asarray(found[1])), 4000, 0.9, 1e-8, "coverage")


def test_under_jit():
    """Also with labels that are known there, and so are checked."""
    labels, expected = jnp.asarray(LABELS), predict.expected_calibration_error(P, LABELS)
    found = jax.jit(predict.expected_calibration_error)(P, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    found = jax.jit(lambda p: predict.expected_calibration_error(p, labels))(P)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    y = jnp.zeros(4)
    np.testing.assert_allclose(
        jax.jit(lambda mean: predict.coverage_curve(y, mean, 1.0, (0.5,)))(y), 1, rtol=1e-6
    )


BAD = {
    "logits": ((5 * P, LABELS), r"write jax\.nn\.softmax"),
    "a regression": ((P[:, :1], LABELS), r"two classes or more.*interval_coverage"),
    "lengths": ((P, LABELS[:3]), r"write labels of shape \(500,\)"),
    "classes": ((P, LABELS + 1), "labels run from 1 to 3, and there are 3 classes"),
    "NaN": ((np.where(P == P[0], np.nan, P), LABELS), "probabilities holds 3 values that are NaN"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_classifiers(arguments, message):
    with pytest.raises(ValueError, match=message):
        predict.expected_calibration_error(*arguments)


def test_bad_labels_bins_and_levels():
    with pytest.raises(TypeError, match="write integers"):
        predict.reliability(P, P[:, 0])
    with pytest.raises(ValueError, match="bins is 0; write how many"):
        predict.reliability(P, LABELS, bins=0)
    with pytest.raises(ValueError, match="write shares"):
        predict.coverage_curve(np.zeros(3), np.zeros(3), 1.0, (50,))
