"""Several processes, by `jax.distributed`: what they agree on; with one process nothing is sent."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

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


def whole(array: Array | np.ndarray) -> np.ndarray:
    """The values of an array, of which this process may hold a part."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    return np.asarray(array)


def check_shared(name: str, arrays: Any) -> None:
    """Raise for data that only this process has, of several: each would train a model of its own.

    Raises:
      ValueError: an array of `arrays` (a pytree) is not spread over the processes.
    """
    count = jax.process_count()
    if count == 1:
        return
    for array in jax.tree.leaves(arrays):
        if not isinstance(array, jax.Array) or array.is_fully_addressable:
            raise ValueError(
                f"{name} is of this process alone, and there are {count} processes, each of which "
                "would go its own way. Make one array of the rows that each has: "
                "jax.make_array_from_process_local_data(jax.NamedSharding(mesh, jax.P('data')), "
                "rows), where mesh = jax.make_mesh((jax.device_count(),), ('data',))."
            )


@contextlib.contextmanager
def losses_explained(where: Callable[[], str]) -> Iterator[None]:
    """Where a process of several has ended, say so in the others; `where` says what is saved."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or "RESOURCE_EXHAUSTED" in str(error):
            raise
        raise RuntimeError(
            f"process {jax.process_index()} of {jax.process_count()} lost another one, which has "
            f"ended or cannot be reached: {where()}. Start all processes again. JAX says: {error}"
        ) from error
