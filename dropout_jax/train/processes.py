"""Agree among the processes of `jax.distributed`; with one process nothing is sent."""

import random
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from dropout_jax.typing import Array


def everywhere(good: bool) -> bool:
    """True where it is in every process. All of them have to call it, so that none waits alone."""
    if jax.process_count() == 1:
        return good
    return bool(np.all(multihost_utils.process_allgather(np.asarray(good))))


def of_the_first(numbers: Sequence[int]) -> tuple[int, ...]:
    """The whole numbers that the first process has, in every process."""
    if jax.process_count() == 1:
        return tuple(numbers)
    numbers = multihost_utils.broadcast_one_to_all(np.asarray(numbers, np.int32))
    return tuple(int(number) for number in numbers)


def common_number() -> int:
    """A random whole number, the same in every process."""
    return of_the_first([random.SystemRandom().getrandbits(31)])[0]


def whole(array: Array) -> np.ndarray:
    """The values of an array, of which this process may hold a part."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    return np.asarray(array)
