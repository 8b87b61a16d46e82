"""Networks and optimizer to compare thinned training with dropout: studies and benchmarks."""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import optax
from flax import nnx

import dropout_jax as dj
from dropout_jax.train import Pair
from experiments.nets import gpt

Method = Literal["none", "element", "flax", "thin"]
"""No dropout, ours element-wise, flax.nnx.Dropout, or thinned sub-networks."""


def network(
    method: Method, sizes: Sequence[int], rates: Sequence[float], rngs: nnx.Rngs
) -> dj.layers.MLP:
    """An MLP whose dropout is that of a method; `thin` takes ours away where it trains."""
    if method == "none":
        rates = [0] * len(rates)
    model = dj.layers.MLP(sizes, rates=rates, rngs=rngs)
    if method == "flax":
        model.dropouts = nnx.List(nnx.Dropout(rate, rngs=rngs) for rate in rates)
    return model


def optimizer(
    learning_rate: optax.ScalarOrSchedule, max_norm: float, hidden: int
) -> optax.GradientTransformation:
    """SGD with momentum 0.9, and max-norm on the hidden layers' incoming weights."""
    c = {layer: max_norm for layer in range(hidden)} | {hidden: jnp.inf}
    return optax.chain(optax.sgd(learning_rate, 0.9), dj.max_norm(nnx.State({"linears": c})))


PAIRS = (
    Pair("blocks/*/mlp_in", "blocks/*/mlp_out", dropout="blocks/*/drop_hidden"),
    Pair(
        "blocks/*/attention/qkv",
        "blocks/*/attention_out/layers/1",
        dropout="blocks/*/attention_out/layers/0",
        units="blocks/*/attention/heads",
    ),
)
"""The units of `gpt_network` that are thinned: those of the MLPs, and the heads."""


def gpt_network(
    method: Method, symbols: int, size: gpt.Size, rate: float, rngs: nnx.Rngs
) -> gpt.GPT:
    """A GPT with dropout of the MLPs' hidden units and of what the heads put out.

    Element-wise dropout drops numbers of a head; `thin` takes it away, and leaves out whole heads.
    """
    if method == "none":
        rate = 0.0
    model = gpt.GPT(symbols, size, {"mlp_hidden": rate}, rngs=rngs)
    for block in model.blocks:
        drop = dj.layers.Dropout(rate, rngs=rngs)
        block.attention_out = nnx.Sequential(drop, block.attention_out)
    return model


def gpt_arithmetic(symbols: int, size: gpt.Size, rate: float) -> float:
    """Multiplications of a sub-network of `gpt_network`, as a share of those of the whole one."""

    def products(heads, hidden):
        """Of a character: queries, keys, values and outputs; attention; the MLP; the symbols."""
        share, width = heads / size.heads, size.width
        attention = 4 * width**2 * share + 2 * size.context * width * share
        return size.layers * (attention + 2 * width * hidden) + width * symbols

    heads, hidden = size.heads, 4 * size.width
    kept = round(heads * (1 - rate)), round(hidden / 16 * (1 - rate)) * 16
    return products(*kept) / products(heads, hidden)
