"""Attention with dropout over the length of the sequence: time and memory, beside jax.nn's."""

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import dropout_jax as dj
from experiments.benchmark.libraries import Library
from experiments.benchmark.suites import Plan, Row
from experiments.harness import timing
from experiments.records.libraries import CAUSAL, FLAX_NNX, NO_DROPOUT, OURS, WEIGHTS_HELD

RATE, BATCH, HEADS, DEPTH = 0.1, 1, 4, 64
Attend = Callable[..., jax.Array]  # of key, query, keys, values


def plain(key, query, keys, values):
    """`jax.nn.dot_product_attention`, which has no dropout."""
    return jax.nn.dot_product_attention(query, keys, values)


def flax(key, query, keys, values):
    """Flax's, with a mask for each head as ours."""
    return nnx.dot_product_attention(
        query, keys, values, dropout_rng=key, dropout_rate=RATE, broadcast_dropout=False
    )


def held(key, query, keys, values):
    """Our dropout on weights that are held in memory."""
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, keys) / np.sqrt(DEPTH)
    weights = dj.attention_dropout(key, jax.nn.softmax(logits), RATE)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, values)


def blocks(key, query, keys, values, is_causal=False):
    return dj.dot_product_attention(key, query, keys, values, RATE, is_causal=is_causal)


VARIANTS = {
    NO_DROPOUT: plain,
    FLAX_NNX: flax,
    WEIGHTS_HELD: held,
    OURS: blocks,
    CAUSAL: functools.partial(blocks, is_causal=True),
}
LINEAR = (OURS, CAUSAL)


def attention(libraries: dict[str, Library], plan: Plan) -> Iterator[Row]:
    """Forward and backward for each length; of the longest, the memory of ours alone."""
    for length in plan.lengths:
        yield from timed(length, plan)
    for length in plan.long_lengths:
        programs = programs_of(LINEAR, inputs(length))
        yield from (row(name, length, programs[name]) for name in LINEAR)


def timed(length: int, plan: Plan) -> Iterator[Row]:
    """One call a sample, the variants in turn; fewer samples where a call takes seconds."""
    arrays = inputs(length)
    programs = programs_of(VARIANTS, arrays)
    rounds = min(plan.rounds, max(3, plan.rounds * 1024**2 // length**2))
    samples = {name: np.empty(rounds) for name in VARIANTS}
    for program in programs.values():
        called(program, 0, arrays)  # the first call fetches memory
    for i in range(rounds):
        for name, program in programs.items():
            samples[name][i] = called(program, i + 1, arrays)
    for name, taken in samples.items():
        median, iqr = timing.median_and_iqr(taken * 1e6)
        ratio, ratio_iqr = timing.median_and_iqr(taken / samples[NO_DROPOUT])
        yield row(name, length, programs[name]) | {
            "median_us": median,
            "iqr_us": iqr,
            "ratio_to_floor": ratio,
            "ratio_to_floor_iqr": ratio_iqr,
            "speedup_over_flax_nnx": timing.median_and_iqr(samples[FLAX_NNX] / taken)[0],
            "repeats": rounds,
        }


def row(name: str, length: int, program) -> Row:
    """A row without times."""
    return {
        "suite": "attention",
        "shape": [BATCH, length, HEADS, DEPTH],
        "length": length,
        "dtype": "float32",
        "rate": None if name == NO_DROPOUT else RATE,
        "mode": "in_turn",
        "library": name,
        "version": None,
        "median_us": None,
        "iqr_us": None,
        "ratio_to_floor": None,
        "ratio_to_floor_iqr": None,
        "speedup_over_flax_nnx": None,
        "temporaries_mib": program.memory_analysis().temp_size_in_bytes / 2**20,
        "residual_bits": None,
        "repeats": 0,
    }


def inputs(length: int) -> list[jax.Array]:
    shape = (BATCH, length, HEADS, DEPTH)
    return [jax.random.normal(jax.random.key(i), shape) for i in range(3)]


def programs_of(names: Iterable[str], arrays: list[jax.Array]) -> dict[str, Any]:
    return {name: compiled(VARIANTS[name], arrays) for name in names}


def compiled(attend: Attend, arrays: list[jax.Array]):
    """Attention and its gradient in query, keys and values, compiled."""

    def step(key, *arrays):
        return jax.value_and_grad(lambda arrays: jnp.sum(attend(key, *arrays) ** 2))(arrays)

    return jax.jit(step).lower(timing.key_of(0), *arrays).compile()


def called(program, i: int, arrays: list[jax.Array]) -> float:
    """Seconds of one call, with a key of its own."""
    key = jax.block_until_ready(timing.key_of(i))
    start = time.perf_counter()
    jax.block_until_ready(program(key, *arrays))
    return time.perf_counter() - start
