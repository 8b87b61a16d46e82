"""Train on batches from an iterable: a generator, a PyTorch or Grain loader, tf.data.

For data that exceed the memory or are augmented on the way. The batches of the next steps are on
their way to the device while one step computes.
"""

import inspect
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax

from dropout_jax.train.examples import Examples, of_batch

AHEAD = 2

Source = Iterable[Any] | Callable[[int], Iterable[Any]]


class Batches:
    """A source of batches (x, y) or (x, y, weights), epoch by epoch.

    Args:
      source: an iterable that can be gone through again, or a function of the epoch (from 0) that
        returns one; an iterator, which cannot, with `steps`.
      name: what errors call it.
      steps: batches an epoch; by default all.
      again: whether it is gone through more than once.

    Raises:
      TypeError: a source that is none of these, or a function that does not take the epoch.
      ValueError: an iterator without `steps`; one without a batch.
    """

    def __init__(
        self, source: Source, name: str = "x", steps: int | None = None, again: bool = True
    ):
        if callable(source):
            _check_takes_epoch(name, source)
        self.name, self.steps = name, steps
        self._source: Source = source
        self.once = not callable(source) and iter(source) is source
        if self.once and again and steps is None:
            raise ValueError(
                f"{name} is an iterator, which can be gone through once; write steps_per_epoch=, "
                "or a function of the epoch that returns a new one, such as "
                "lambda epoch: batches(seed=epoch)."
            )
        batches = self._of(0)
        self._first = next(batches, None)
        if self._first is None:
            raise ValueError(f"{name} has no batch.")
        if self.once:
            self._source = itertools.chain([self._first], batches)

    def first(self) -> tuple[Examples, ...]:
        """The first batch, to look at."""
        return of_batch(self._first, self.name)

    def epoch(self, number: int) -> Iterator[tuple[Examples, ...]]:
        """The batches of an epoch, counted from 0, on the device ahead of time."""
        waiting: deque = deque()
        for batch in itertools.islice(self._of(number), self.steps):
            waiting.append(jax.device_put(of_batch(batch, self.name)))
            if len(waiting) > AHEAD:
                yield waiting.popleft()
        yield from waiting

    def _of(self, epoch: int) -> Iterator[Any]:
        if callable(self._source):
            return iter(self._source(epoch))
        for part in (self._source, getattr(self._source, "sampler", None)):
            if set_epoch := getattr(part, "set_epoch", None):  # PyTorch's samplers have it
                set_epoch(epoch)
        return iter(self._source)


def _check_takes_epoch(name: str, source: Callable) -> None:
    """Raise for a function of nothing, such as a generator function that was not called."""
    try:
        parameters = inspect.signature(source)
    except ValueError:  # one in C, which does not tell
        return
    try:
        parameters.bind(0)
    except TypeError:
        called = getattr(source, "__name__", "batches")
        raise TypeError(
            f"{name} is a function that does not take the epoch alone; write "
            f"lambda epoch: {called}()."
        ) from None


def are_batches(x: Any) -> bool:
    """True for what is gone through, and is no array, table, or pytree of arrays."""
    if callable(x) and not hasattr(x, "shape"):
        return True
    known = hasattr(x, "shape") or hasattr(x, "__array__") or isinstance(x, (dict, tuple, str))
    if known or (isinstance(x, list) and not (x and isinstance(x[0], (tuple, list, Mapping)))):
        return False
    return hasattr(x, "__iter__")
