"""What XLA makes of attention in blocks: memory linear in the length, and no collectives."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import dropout_jax as dj

pytestmark = pytest.mark.slow

KEY = jax.random.key(4)
COLLECTIVES = ("all-reduce", "all-gather", "collective-permute", "all-to-all", "reduce-scatter")


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


# Devices


def of_words(program: str) -> int:
    """How many elements the arrays of uint32 have, of the largest."""
    sizes = re.findall(r"u32\[([\d,]+)\]", program)
    return max(np.prod([int(n) for n in size.split(",")]) for size in sizes)


@pytest.mark.parametrize(
    ("axes", "spec", "length"),
    [
        (AxisType.Auto, P("data", None, "model"), 33),  # heads share words of the mask
        (AxisType.Auto, P(None, None, "model"), 24),
        (AxisType.Explicit, P("data", None, "model"), 33),
        (AxisType.Explicit, P("data"), 24),
    ],
    ids=str,
)
def test_batch_and_heads_are_divided_without_a_word_between_devices(axes, spec, length):
    """In blocks of 8 queries, forward and backward; the masks are those of one device."""
    if len(jax.devices("cpu")) < 8:
        pytest.skip("needs 8 devices: XLA_FLAGS=--xla_force_host_platform_device_count=8")
    mesh = Mesh(np.array(jax.devices("cpu")[:8]).reshape(4, 2), ("data", "model"), (axes,) * 2)
    x = jax.random.normal(KEY, (3, 8, length, 4, 16))
    direction = jax.random.normal(jax.random.key(5), (8, length, 4, 16))

    def step(query, keys, values, direction):
        def attend(*of):
            return dj.dot_product_attention(KEY, *of, 0.3, is_causal=True, block=8)

        y, backward = jax.vjp(attend, query, keys, values)
        return y, *backward(direction)

    expected = jax.jit(step)(*x, direction)
    divided = [jax.device_put(a, NamedSharding(mesh, spec)) for a in (*x, direction)]
    with jax.set_mesh(mesh):
        compiled = jax.jit(step).lower(*divided).compile()
        found = compiled(*divided)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        assert a.sharding.is_equivalent_to(NamedSharding(mesh, spec), 4)
    program = compiled.as_text()
    assert not [name for name in COLLECTIVES if name in program]
    alone = jax.jit(step).lower(*x, direction).compile().as_text()
    parts = {P("data"): 4, P(None, None, "model"): 2}.get(spec, 8)
    assert of_words(program) <= of_words(alone) / parts
