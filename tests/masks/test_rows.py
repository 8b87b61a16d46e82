"""Rows of a mask drawn alone are those of the whole mask, for every layout of words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dropout_jax as dj
from dropout_jax.masks.rows import mask_rows

RATES = (0.1, 0.5, 0, 1, jnp.float32(0.1))


LAYOUTS = [
    (2, 3, 10, 64),  # rows of whole words
    (2, 3, 8, 20),  # the rows of a head share words
    (2, 3, 10, 33),  # heads share words, too
    (1, 1, 16, 7),
    (5, 40),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "generator"),
    [(shape, "threefry2x32") for shape in LAYOUTS] + [((2, 3, 10, 33), "rbg")],
)
def test_rows_of_a_mask(shape, generator):
    key = jax.random.key(3, impl=generator)
    height, width = shape[-2:]
    whole = [np.asarray(dj.bernoulli_mask(key, rate, shape)) for rate in RATES]
    for start, rows, columns in (
        (0, 3, width),
        (1, height - 1, width),
        (height - 2, 2, width // 2),
    ):

        @jax.jit
        def found(start, rows=rows, columns=columns):
            return [mask_rows(key, rate, shape)(start, rows, columns) for rate in RATES]

        for mask, expected in zip(found(start), whole, strict=True):
            np.testing.assert_array_equal(mask, expected[..., start : start + rows, :columns])


def test_rows_far_down_begin_at_the_right_word():
    """Rows whose first element has an index over 2^32, where the whole mask could not be held."""
    heads, height, width = 3, 2**17, 2**15 + 1
    key, start = jax.random.key(0), height - 3
    found = mask_rows(key, 0.5, (1, heads, height, width))(start, 3, 70)
    for head in range(heads):
        for row in range(3):
            first = (head * height + start + row) * width
            bits_there = np.asarray(_words(key, first // 32, 4)).view(np.uint8)
            lanes = np.unpackbits(bits_there, bitorder="little")[first % 32 :][:70]
            np.testing.assert_array_equal(found[0, head, row], lanes == 1)


def _words(key, first, count):
    """The words of a mask of rate 0.5 at these indices: one row of a mask of whole words."""
    rows_of = mask_rows(key, 0.5, (2**27, 32))
    return np.packbits(np.asarray(rows_of(first, count, 32)), axis=-1, bitorder="little").view(
        np.uint32
    )


def test_a_mask_of_too_many_words_is_refused():
    with pytest.raises(ValueError, match=r"over 2\^32 words; draw it in parts"):
        mask_rows(jax.random.key(0), 0.5, (2**20, 2**20))(0, 1, 32)
