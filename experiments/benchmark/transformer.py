"""`layers.replace_dropout` on a Flax transformer block: a training step before and after."""

from collections.abc import Iterator
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from dropout_jax import layers
from experiments.benchmark.libraries import Library
from experiments.benchmark.suites import Plan, Row, timed_rows
from experiments.harness import timing
from experiments.records.libraries import ATTENTION_TOO, FLAX_NNX, NO_DROPOUT, OURS

RATE, HEADS, LEARNING_RATE = 0.1, 4, 1e-3
Variant = Literal["no dropout", "flax.nnx", "dropout_jax", "dropout_jax, attention too"]


class Block(nnx.Module):
    """As a user of Flax writes it: pre-norm, dropout after attention, in the MLP and after it."""

    def __init__(self, width: int, rate: float, *, rngs: nnx.Rngs):
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(
            HEADS, width, dropout_rate=rate, broadcast_dropout=False, decode=False,
            deterministic=False, rngs=rngs,
        )  # fmt: skip
        self.dropout = nnx.Dropout(rate, rngs=rngs)
        self.mlp = nnx.Sequential(
            nnx.Linear(width, 4 * width, rngs=rngs), nnx.gelu, nnx.Dropout(rate, rngs=rngs),
            nnx.Linear(4 * width, width, rngs=rngs), nnx.Dropout(rate, rngs=rngs),
        )  # fmt: skip

    def __call__(self, x):
        x = x + self.dropout(self.attention(self.norms[0](x)))
        return x + self.mlp(self.norms[1](x))


def block(variant: Variant, width: int) -> Block:
    """The same block and weights, with the dropout of `variant`."""
    model = Block(width, RATE, rngs=nnx.Rngs(0))
    if variant == NO_DROPOUT:
        model.set_attributes(nnx.Dropout, rate=0.0)
        model.set_attributes(nnx.MultiHeadAttention, dropout_rate=0.0)
    if variant in (OURS, ATTENTION_TOO):
        replaced = layers.replace_dropout(model, attention=variant == ATTENTION_TOO)
        assert replaced == 3 + (variant == ATTENTION_TOO), replaced
    return model


def training_step(variant: Variant, shape: tuple[int, int, int]) -> timing.Program:
    """SGD on the mean square of the block's output; the block draws from its own stream."""
    graph, params, rest = nnx.split(block(variant, shape[-1]), nnx.Param, ...)
    x = jax.random.normal(jax.random.key(0), shape)

    def step(key, carry):
        params, rest, x = carry

        def loss(params):
            model = nnx.merge(graph, params, rest, copy=True)
            return jnp.mean(model(x) ** 2), nnx.state(model, nnx.Not(nnx.Param))

        grads, rest = jax.grad(loss, has_aux=True)(params)
        return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, params, grads), rest, x

    return timing.chained(step, (params, rest, x))


def transformer(libraries: dict[str, Library], plan: Plan) -> Iterator[Row]:
    """The step without dropout, with Flax's, after one call, and with the attention's too."""
    names: tuple[Variant, ...] = (NO_DROPOUT, FLAX_NNX, OURS, ATTENTION_TOO)
    programs = {name: training_step(name, plan.block) for name in names}
    case = {
        "suite": "transformer",
        "shape": list(plan.block),
        "dtype": "float32",
        "rate": RATE,
        "mode": "chained",
    }
    yield from timed_rows(case, programs, libraries, plan)
