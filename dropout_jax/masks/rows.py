"""Rows of a dropout mask: a few rows of a large mask, without the memory of the whole."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dropout_jax._checks import is_static
from dropout_jax._xla import materialised
from dropout_jax.masks import bits
from dropout_jax.masks.threefry import pairs_of, threefry_source
from dropout_jax.typing import Array, Key, Rate

RowsOf = Callable[[Array | int, int, int], Array]


def mask_rows(key: Key, rate: Rate, shape: tuple[int, ...]) -> RowsOf:
    """A function (start, rows, columns) -> `bernoulli_mask(key, rate, shape)[..., rows, columns]`.

    The rows begin at `start`, which may be traced, and the columns at 0. A threefry word is a
    function of its position, so that only the words of these rows are drawn. Other generators draw
    an array as a whole: there all words are kept, one bit an element, and the rows are read.

    `rate` is a number or a scalar, and `shape` has two axes or more.
    """
    is_threefry = jax.random.key_impl(key) == "threefry2x32"
    whole = None if is_threefry else bits.keep_words(key, rate, shape).reshape(-1)

    def rows_of(start: Array | int, rows: int, columns: int) -> Array:
        first, shift = _first_word(shape, jnp.asarray(start, jnp.uint32), rows)
        aligned = shape[-1] % bits.LANES == 0
        words = -(-columns // bits.LANES)
        here = (*first.shape[:-1], words if aligned else words + 1)
        index = first + lax.broadcasted_iota(jnp.uint32, here, len(here) - 1)
        found = _draw(key, rate, index) if whole is None else jnp.take(whole, index, mode="clip")
        if not aligned:  # a row begins within a word
            found = (found[..., :-1] >> shift) | (found[..., 1:] << 1 << (np.uint32(31) - shift))
        return bits.unpack(found, (*here[:-1], words * bits.LANES))[..., :columns]

    return rows_of


def _draw(key: Key, rate: Rate, index: Array) -> Array:
    """The words of a mask with these linear indices."""
    data = jax.random.key_data(key)
    pair = pairs_of(data, lambda one: index * one)
    if is_static(rate):
        number = np.float32(rate)
        if number in (0, 1):
            return jnp.full(index.shape, 0 if number else 0xFFFFFFFF, jnp.uint32)
        return materialised(
            lambda: ~bits.fold_static(threefry_source(data, index), number),
            index.shape,
            data,
            index,
            loop=bits.loop_static(pair, number),
        )
    rates = jnp.asarray(rate, jnp.float32).reshape((1,) * (index.ndim + 1))
    return materialised(
        lambda: ~bits.fold_traced(threefry_source(data, index), rates),
        index.shape,
        data,
        index,
        rates,
        loop=bits.loop_traced(pair, rates),
    )


def _first_word(shape: tuple[int, ...], start: Array, rows: int) -> tuple[Array, Array]:
    """Where rows begin: the index of the word, and the bit in it, each (..., rows, 1)."""
    *lead, height, width = shape
    layout = bits.layout(shape)
    per_lead = layout.words[-1]
    if math.prod(layout.words) > 2**32:
        raise ValueError(
            f"a mask of shape {shape} has over 2^32 words; draw it in parts, an example at a time."
        )
    here = (*lead, rows, 1)

    def linear(axes):
        """The linear index over some axes of the rows, of which the last may be cut."""
        index = jnp.zeros(here, jnp.uint32)
        for axis in axes:
            along = lax.broadcasted_iota(jnp.uint32, here, axis)
            index = index * np.uint32(shape[axis])
            index = index + (along + start if axis == len(lead) else along)
        return index

    own = len(layout.lead)  # the axes before it have words of their own, the others share lanes
    row = linear(range(own, len(shape) - 1))
    # word, bit = divmod(row * width, 32), in parts, because row * width may exceed 32 bits.
    high, low = row >> 5, (row & 31) * np.uint32(width % bits.LANES)
    word = row * np.uint32(width // bits.LANES) + high * np.uint32(width % bits.LANES) + (low >> 5)
    return linear(range(own)) * np.uint32(per_lead % 2**32) + word, low & 31
