"""What XLA makes of attention in blocks: memory linear in the length, and no collectives."""

import jax
import jax.numpy as jnp
import pytest

import dropout_jax as dj

pytestmark = pytest.mark.slow

KEY = jax.random.key(4)


# Memory


def temporaries(f, length):
    """MiB of the compiled gradient, in query, keys and values of 4 heads."""
    x = jax.ShapeDtypeStruct((1, length, 4, 64), jnp.float32)
    step = jax.jit(jax.grad(lambda *of: f(*of).sum(), (0, 1, 2)))
    return step.lower(x, x, x).compile().memory_analysis().temp_size_in_bytes / 2**20


def test_memory_grows_with_the_length_and_not_its_square():
    def ours(is_causal):
        return lambda q, k, v: dj.dot_product_attention(KEY, q, k, v, 0.1, is_causal=is_causal)

    plain = temporaries(jax.nn.dot_product_attention, 4096)
    for is_causal in (False, True):
        found = {length: temporaries(ours(is_causal), length) for length in (2048, 4096)}
        assert found[4096] < 2.1 * found[2048]
        assert found[4096] < plain / 16
