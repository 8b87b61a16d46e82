"""Is a model calibrated? Reliability diagram and ECE of a classifier, coverage of intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dropout_jax._checks import is_traced, wide_dtype
from dropout_jax.predict.checks import aligned, aligned_or_number, check_targets
from dropout_jax.typing import Array


class Reliability(NamedTuple):
    """A reliability diagram: of each bin of confidence, what was claimed and what came true.

    Bins without a case have NaN for `confidence` and `accuracy`, and a count of 0.
    """

    confidence: Array
    accuracy: Array
    count: Array


def reliability(probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 15) -> Reliability:
    r"""The reliability diagram of a classifier: accuracy against confidence, in equal bins.

    The confidence of a case is its greatest probability; bin b of B has those over
    (b - 1) / B and up to b / B.
    For a calibrated classifier confidence and accuracy agree in every bin, but for chance.

    Args:
      probabilities: (examples, classes), each row with the sum 1: not logits.
      labels: integers (examples,), from 0 to classes - 1.
      bins: B.

    Returns:
      A `Reliability`: mean confidence, accuracy and count, each (bins,).

    Raises:
      TypeError: labels that are no integers; probabilities that are no real numbers.
      ValueError: rows whose sum is not 1, such as logits or the predictions of a regression;
        lengths that differ; labels that are no classes; fewer bins than 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from dropout_jax import predict
      >>> p = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
      >>> predict.reliability(p, jnp.array([0, 1, 1]), bins=2).accuracy.tolist()[1]
      0.6666666865348816

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2.
    """
    probabilities, labels = _check_classifier(probabilities, labels, bins)
    confidence = jnp.max(probabilities, axis=-1)
    right = (jnp.argmax(probabilities, axis=-1) == labels).astype(confidence.dtype)
    edges = np.arange(1, bins) / bins
    bin_of = jnp.searchsorted(jnp.asarray(edges, confidence.dtype), confidence, side="left")

    def total(values):
        return jnp.zeros(bins, confidence.dtype).at[bin_of].add(values)

    count = total(jnp.ones_like(confidence))
    return Reliability(total(confidence) / count, total(right) / count, count)


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 15
) -> Array:
    r"""How far, on average, confidence and accuracy are apart: ECE, between 0 and 1.

    $$\text{ECE} = \sum_b \frac{n_b}{n} \left| \text{accuracy}_b - \text{confidence}_b \right|.$$
    It is a plug-in estimate: of n cases even a calibrated classifier has about
    $\sum_b \sqrt{2 n_b p_b (1 - p_b) / \pi} / n$, so that models are compared on as many cases.

    Args:
      probabilities, labels, bins: as for `reliability`.

    Returns:
      A scalar.

    Raises:
      TypeError, ValueError: as `reliability`.

    Example:
      >>> import jax.numpy as jnp
      >>> from dropout_jax import predict
      >>> p = jnp.array([[0.75, 0.25]] * 4)
      >>> float(predict.expected_calibration_error(p, jnp.array([0, 0, 0, 1])))
      0.0

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
    """
    found = reliability(probabilities, labels, bins=bins)
    gap = jnp.where(found.count > 0, jnp.abs(found.accuracy - found.confidence), 0)
    return jnp.sum(found.count * gap) / jnp.sum(found.count)


def interval_coverage(y: ArrayLike, low: ArrayLike, high: ArrayLike) -> Array:
    """The share of the targets that lie in their intervals, ends included.

    Args:
      y: targets (examples, targets), or (examples,) for one.
      low, high: the ends (examples, targets) or (examples,), as `Regression.interval` gives them.

    Returns:
      A scalar, to compare with the level of the intervals: of n targets of a calibrated model it
      has the standard deviation sqrt(level (1 - level) / n).

    Raises:
      TypeError: what is no real number.
      ValueError: shapes that differ, or targets that are not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> from dropout_jax import predict
      >>> float(predict.interval_coverage(jnp.arange(4.0), jnp.zeros(4), jnp.full(4, 1.5)))
      0.5

    Source: Kuleshov, Fenner and Ermon 2018, "Accurate Uncertainties for Deep Learning Using
    Calibrated Regression", section 3.
    """
    low, high = check_targets(low, "low"), check_targets(high, "high")
    y = aligned(check_targets(y), low)
    return jnp.mean((low <= y) & (y <= aligned(high, low, "high")))


def coverage_curve(
    y: ArrayLike, mean: ArrayLike, stddev: ArrayLike, levels: Sequence[float]
) -> Array:
    r"""Coverage against nominal: the share of targets in the Gaussian interval of each level.

    $$c(a) = \frac{1}{n} \#\{ i :\, |y_i - \mu_i| \le q(a)\, \sigma_i \}, \qquad
      q(a) = \Phi^{-1}(\tfrac12 + \tfrac{a}{2}).$$
    For a calibrated model the curve is the diagonal c(a) = a; below it, intervals are too narrow.

    Args:
      y: targets (examples, targets), or (examples,) for one.
      mean: predictions (examples, targets) or (examples,).
      stddev: their standard deviations, a number or of the shape of the mean.
      levels: shares between 0 and 1.

    Returns:
      (levels,): the coverage at each level.

    Raises:
      TypeError, ValueError: as `interval_coverage`; a level outside (0, 1).

    Example:
      >>> import jax.numpy as jnp
      >>> from dropout_jax import predict
      >>> y = jnp.array([0.1, -0.5, 1.0, 3.0])
      >>> predict.coverage_curve(y, jnp.zeros(4), 1.0, (0.5, 0.9)).tolist()
      [0.5, 0.75]

    Source: Kuleshov, Fenner and Ermon 2018, "Accurate Uncertainties for Deep Learning Using
    Calibrated Regression", section 3.
    """
    values = np.asarray(levels, np.float64).reshape(-1)
    if not values.size or not np.all((values > 0) & (values < 1)):
        raise ValueError(f"levels is {levels}; write shares between 0 and 1, such as (0.5, 0.9).")
    mean = check_targets(mean, "mean")
    stddev = aligned_or_number(check_targets(stddev, "stddev"), mean)
    error = jnp.abs(aligned(check_targets(y), mean) - mean)
    half = jax.scipy.stats.norm.ppf(0.5 + jnp.asarray(values, mean.dtype) / 2)
    widths = half[None] * jnp.broadcast_to(stddev, mean.shape).reshape(-1, 1)
    return jnp.mean(error.reshape(-1, 1) <= widths, axis=0)


def _check_classifier(probabilities, labels, bins):
    probabilities, labels = check_targets(probabilities, "probabilities"), jnp.asarray(labels)
    if bins < 1 or int(bins) != bins:
        raise ValueError(f"bins is {bins}; write how many, such as 15.")
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        raise ValueError(
            f"probabilities has shape {probabilities.shape}; write (examples, classes) of two "
            "classes or more. The predictions of a regression have interval_coverage instead."
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels has dtype {labels.dtype}; write integers from 0 to classes - 1.")
    if labels.shape != probabilities.shape[:1]:
        raise ValueError(
            f"labels has shape {labels.shape} and probabilities {probabilities.shape}; write "
            f"labels of shape {probabilities.shape[:1]}."
        )
    if not is_traced(probabilities):
        sums = np.asarray(probabilities, np.float64).sum(-1)
        if not np.allclose(sums, 1, atol=1e-2) or (np.asarray(probabilities) < 0).any():
            worst = sums[np.argmax(np.abs(sums - 1))]
            raise ValueError(
                f"a row of probabilities has the sum {worst:.4g}, or holds a negative number: "
                "write jax.nn.softmax(logits) for logits."
            )
    if not is_traced(labels):
        classes, values = probabilities.shape[1], np.asarray(labels)
        if values.size and (values.min() < 0 or values.max() >= classes):
            raise ValueError(
                f"labels run from {values.min()} to {values.max()}, and there are {classes} "
                f"classes; write labels from 0 to {classes - 1}."
            )
    return probabilities.astype(wide_dtype(probabilities)), labels
