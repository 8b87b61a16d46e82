"""Means over seeds, standard errors, and differences of means. Standard library only."""

import math
from collections.abc import Sequence
from typing import NamedTuple


def mean_and_stderr(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean over seeds and its standard error, sd / sqrt(n); None for a single seed.

    A value that is not finite makes both NaN: a diverged seed is never averaged away.

    >>> mean_and_stderr([1.0, 2.0, 3.0, 4.0, 5.0])
    (3.0, 0.7071067811865476)
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values to average; give one number a seed")
    if not all(map(math.isfinite, values)):
        return math.nan, math.nan if n > 1 else None
    mean = math.fsum(values) / n
    if n == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)


def plus_minus(values: Sequence[float], digits: int = 2) -> str:
    """`mean ± standard error` as text; the mean alone for a single seed."""
    mean, stderr = mean_and_stderr(values)
    return f"{mean:.{digits}f}" + _spread(stderr, digits)


class Difference(NamedTuple):
    """A difference of two means, and its standard error; None where there is a single seed."""

    mean: float
    stderr: float | None

    def signed(self, digits: int = 2) -> str:
        """The difference with its sign: "-0.14 ± 0.02"."""
        return f"{self.mean:+.{digits}f}" + _spread(self.stderr, digits)

    def points(self, lower: str = "lower", higher: str = "higher") -> str:
        """The difference in words: "0.14 ± 0.02 points lower"."""
        return f"{self._size()} points {self._direction(lower, higher)}"

    def sentence(self) -> str:
        """As `points`, with the number of standard errors: "0.14 ± 0.02 (6.3 standard errors)
        points lower"."""
        count = f" ({abs(self.mean) / self.stderr:.1f} standard errors)" if self.stderr else ""
        return f"{self._size()}{count} points {self._direction('lower', 'higher')}"

    def _size(self):
        return f"{abs(self.mean):.2f}" + _spread(self.stderr)

    def _direction(self, lower, higher):
        return lower if self.mean < 0 else higher


def difference(
    values: Sequence[float], others: Sequence[float], *, paired: bool = False
) -> Difference:
    """mean(values) - mean(others), with its standard error.

    Args:
      values: one number a seed.
      others: likewise, of the runs to compare with.
      paired: compare seed by seed, where both have seen the same draw of the data; else the two
        sets of runs count as independent.

    >>> difference([2.0, 4.0], [1.0, 3.0], paired=True)
    Difference(mean=1.0, stderr=0.0)
    """
    if paired:
        return Difference(*mean_and_stderr([a - b for a, b in zip(values, others, strict=True)]))
    (mean, stderr), (other, other_stderr) = mean_and_stderr(values), mean_and_stderr(others)
    known = stderr is not None and other_stderr is not None
    return Difference(mean - other, math.hypot(stderr, other_stderr) if known else None)


def _spread(stderr, digits=2):
    return "" if stderr is None else f" ± {stderr:.{digits}f}"
