"""Random words from the Threefry hash: one counter an element, so that draws can be sharded."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dropout_jax.typing import Array, Key

# Keeps our counters apart from those that jax.random uses with the same key.
_DOMAIN = 0x64726F70


@jax.jit  # traced once a shape, however many words a fold draws
def threefry(key_data: Array | Sequence[Array], high: Array, low: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds, two words a counter (Salmon et al. 2011, section 3).

    Written out in jnp, unlike `jax.extend.random.threefry_2x32`, so that XLA fuses it.
    """
    k0, k1 = key_data[0], key_data[1]
    schedule = (k0, k1, k0 ^ k1 ^ np.uint32(0x1BD11BDA))
    a, b = high + k0, low + k1
    for group in range(5):
        for r in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            a = a + b
            b = (b << np.uint32(r)) | (b >> np.uint32(32 - r))
            b = a ^ b
        a = a + schedule[(group + 1) % 3]
        b = b + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return a, b


def _counter(shape: tuple[int, ...], one: Array | int = 1) -> Array:
    """The linear index of each word, computed from iotas so that it can be partitioned."""
    size = math.prod(shape)
    if isinstance(size, int) and size > 2**32:  # jax.export may not know it
        raise ValueError(f"a draw of {size} words is over 2^32; draw it in parts.")
    index = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = math.prod(shape[axis + 1 :])
        stride = np.uint32(stride % 2**32) if isinstance(stride, int) else jnp.uint32(stride)
        stride = stride if isinstance(one, int) else stride * one
        index = index + lax.broadcasted_iota(jnp.uint32, shape, axis) * stride
    return index


def pairs_of(key_data: Array, counter: Callable[[Array], Array]) -> Callable:
    """The turn of a loop -> the words of the positions 2 turn and 2 turn + 1.

    `counter` is given a 1 that XLA does not know to be one. What depends on it stays in the loop:
    outside, XLA would make arrays of the parts of a hash that all turns share, a kernel for each.
    """

    def pair(turn):
        one = (1 + (turn >> 31)).astype(jnp.uint32)
        low = counter(one)
        high = jnp.full_like(low, jnp.uint32(_DOMAIN) + turn.astype(jnp.uint32))
        return threefry(key_data * one, high, low)

    return pair


def threefry_source(key_data: Array | Sequence[Array], counter: Array) -> Callable[[int], Array]:
    """position -> the random words of a counter."""

    @functools.cache
    def pair(index):
        return threefry(key_data, jnp.full_like(counter, _DOMAIN + index), counter)

    return lambda position: pair(position // 2)[position % 2]


def pair_source(key: Key, shape: tuple[int, ...]) -> Callable | None:
    """As `pairs_of`, for a draw of `shape`; None for another generator."""
    if not is_threefry(key):
        return None
    return pairs_of(jax.random.key_data(key), functools.partial(_counter, shape))


def is_threefry(key: Key) -> bool:
    """Whether a word of a key is a function of its position."""
    return jax.random.key_impl(key) == "threefry2x32"


def word_source(key: Key, shape: tuple[int, ...]):
    """position -> an array of random words; positions 2i and 2i + 1 share one hash."""
    if is_threefry(key):
        return threefry_source(jax.random.key_data(key), _counter(shape))
    return lambda position: jax.random.bits(
        jax.random.fold_in(key, _DOMAIN + position), shape, jnp.uint32
    )
