"""The same key gives the same mask in every version: digests taken at version 0.1.0.

What would make this wrong: a change of the fold, of the counters, of the layout of words, or of
the way a function derives its draw from the key, that nobody meant to make.
"""

import hashlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dropout_jax as dj

DIGESTS = json.loads((Path(__file__).parent / "digests.json").read_text())
KEY, RATE, SIDES = 20260, 0.3, (6, 8, 8, 16)
SHAPES = [(7,), (4, 33), (3, 5, 64), (2, 3, 4, 5), (1, 1), (128, 100)]


def digest(mask):
    mask = np.asarray(mask)
    packed = np.packbits(mask).tobytes() + str(mask.shape).encode()
    return hashlib.sha256(packed).hexdigest()[:16]


def largest(y):
    """Where a function kept its inputs, which are all 1."""
    return np.asarray(y) == np.asarray(y).max()


@pytest.mark.parametrize("rate", [0.5, 0.1, 0.25, 0.9, 0.001])
def test_bernoulli_mask(rate):
    key = jax.random.key(KEY)
    found = {f"bernoulli {rate} {s}": digest(dj.bernoulli_mask(key, rate, s)) for s in SHAPES}
    assert found == {name: DIGESTS[name] for name in found}


def test_rates_of_every_kind():
    key = jax.random.key(KEY)
    found = {
        "broadcast": dj.bernoulli_mask(key, RATE, (8, 6, 4), broadcast_dims=(1,)),
        "array": dj.bernoulli_mask(key, jnp.linspace(0, 1, 40), (9, 40)),
        "traced": jax.jit(lambda rate: dj.bernoulli_mask(key, rate, (9, 40)))(RATE),
    }
    assert {n: digest(m) for n, m in found.items()} == {n: DIGESTS[n] for n in found}


def test_the_family():
    key, x = jax.random.key(KEY), jnp.ones(SIDES)
    examples = dj.per_example_keys(key, jnp.arange(6))
    found = {
        "dropout": dj.dropout(key, x, RATE),
        "unscaled": dj.dropout_unscaled(key, x, RATE),
        "path": dj.drop_path(key, x, RATE),
        "block": dj.drop_block(key, x, RATE, block_size=3),
        "alpha": dj.alpha_dropout(key, x, RATE),
        "feature_alpha": dj.feature_alpha_dropout(key, x, RATE),
        "connect": dj.drop_connect(key, x[0, 0], RATE),
        "zoneout": dj.zoneout(key, x, 0 * x, RATE),
        "attention_head": dj.attention_dropout(key, jnp.ones((2, 4, 8, 8)), RATE),
        "standout": dj.standout(key, x, jnp.full_like(x, RATE)),
        "site": dj.dropout(dj.site_key(key, "a"), x, RATE),
        "example": jax.vmap(lambda key, x: dj.dropout(key, x, RATE))(examples, x),
    }
    assert {n: digest(largest(y)) for n, y in found.items()} == {n: DIGESTS[n] for n in found}
