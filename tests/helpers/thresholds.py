"""Acceptance regions derived from a false-alarm rate; no test picks a tolerance by hand."""

import numpy as np
from scipy import stats


def assert_binomial(counts, n, probability, alpha, what):
    """Fail if any of `counts` is implausible for Binomial(n, probability).

    A correct sampler fails with probability `alpha` at most, shared equally by the counts
    (Bonferroni) and by the two tails. The tails are exact.
    """
    counts = np.atleast_1d(np.asarray(counts, np.int64))
    tail = alpha / counts.size / 2
    low, high = stats.binom.cdf(counts, n, probability), stats.binom.sf(counts - 1, n, probability)
    bad = (low < tail) | (high < tail)
    if bad.any():
        worst = counts.flat[np.argmin(np.where(bad, np.minimum(low, high), 1))]
        raise AssertionError(
            f"{what}: {bad.sum()} of {bad.size} counts are off, such as {worst} of {n}, "
            f"expected {n * probability:.6g} (false-alarm rate {alpha:.1g})"
        )


def normal_threshold(alpha, checks=1):
    """|z| that one of `checks` standard normals exceeds with probability alpha at most."""
    return stats.norm.isf(alpha / checks / 2)


def assert_normal(z, alpha, what):
    """Fail if any of the standard normal scores `z` is implausible."""
    z, limit = np.atleast_1d(z), normal_threshold(alpha, np.size(z))
    worst = z.flat[np.argmax(np.abs(z))]
    assert np.all(np.abs(z) < limit), f"{what}: z = {worst:.3g}, limit {limit:.3g}"


def assert_chi_square(statistic, degrees, alpha, what):
    """Fail if `statistic` is implausible, on either side, for a chi-square of `degrees`."""
    low, high = stats.chi2.ppf(alpha / 2, degrees), stats.chi2.isf(alpha / 2, degrees)
    assert low < statistic < high, f"{what}: {statistic:.6g} is outside {low:.6g} to {high:.6g}"
