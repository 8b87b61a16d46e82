"""A small GPT for characters, with dropout at any of five places: nanoGPT's network in Flax NNX.

Pre-norm blocks without biases, GELU, learned positions, and one matrix for the embedding and the
output. Weights start at a standard deviation of 0.02; those that write into the residual stream at
0.02 / sqrt(2 layers).

Source: Karpathy's nanoGPT; Radford et al. 2019, "Language Models are Unsupervised Multitask
Learners", section 2.3.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import dropout_jax as dj
from dropout_jax import layers
from dropout_jax.typing import Array, Key

Place = Literal["embedding", "attention", "attention_out", "mlp_hidden", "mlp_out"]
PLACES: tuple[Place, ...] = ("embedding", "attention", "attention_out", "mlp_out")
"""Where nanoGPT drops: not the hidden units of the MLPs."""
Rate = float | Callable[[Array], Array]
"""A rate of dropping, or a schedule: a function of the training calls before this one."""


@dataclasses.dataclass(frozen=True)
class Size:
    """How large a GPT is."""

    layers: int
    heads: int
    width: int
    context: int


class CausalAttention(layers.NoiseLayer):
    """Self-attention that looks back only, with dropout of its weights."""

    def __init__(self, size: Size, rate: Rate, *, rngs: nnx.Rngs):
        super().__init__(rngs=rngs)
        self.heads, self.rate = size.heads, rate
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))
        self.qkv = linear(size.width, 3 * size.width, 0.02, rngs)

    def noise(self, key: Key, inputs: Array) -> Array:
        rate = self.rate(self.calls[...]) if callable(self.rate) else self.rate
        self.calls[...] += 1
        return self.attend(key, inputs, rate)

    def mean(self, inputs: Array) -> Array:
        return self.attend(None, inputs, 0.0)

    def attend(self, key, x, rate):
        qkv = self.qkv(x).reshape(*x.shape[:-1], 3, self.heads, -1)
        query, keys, values = (qkv[..., i, :, :] for i in range(3))
        y = dj.dot_product_attention(key, query, keys, values, rate, is_causal=True)
        return y.reshape(*x.shape[:-1], -1)


class Block(nnx.Module):
    """Attention and an MLP, each added to the residual stream."""

    def __init__(self, size: Size, rates: Mapping[str, Rate], *, rngs: nnx.Rngs):
        width, last = size.width, 0.02 / (2 * size.layers) ** 0.5
        self.norms = nnx.List([norm(width, rngs) for _ in range(2)])
        self.attention = CausalAttention(size, rates["attention"], rngs=rngs)
        self.attention_out = linear(width, width, last, rngs)
        self.mlp_in = linear(width, 4 * width, 0.02, rngs)
        self.mlp_out = linear(4 * width, width, last, rngs)
        self.drop_attention_out = dropout(rates["attention_out"], rngs)
        self.drop_hidden = dropout(rates["mlp_hidden"], rngs)
        self.drop_mlp_out = dropout(rates["mlp_out"], rngs)

    def __call__(self, x: Array) -> Array:
        y = self.attention_out(self.attention(self.norms[0](x)))
        x = x + self.drop_attention_out(y)
        hidden = self.drop_hidden(nnx.gelu(self.mlp_in(self.norms[1](x))))
        return x + self.drop_mlp_out(self.mlp_out(hidden))


class GPT(nnx.Module):
    """Characters (examples, length) -> logits (examples, length, symbols) of the next ones.

    Args:
      symbols: how many characters there are.
      size: how large the network is.
      rates: place -> rate of dropping, or its schedule; 0 at the places that it does not name.
      rngs: the streams for weights and dropout.
    """

    def __init__(self, symbols: int, size: Size, rates: Mapping[Place, Rate], *, rngs: nnx.Rngs):
        rates = {"embedding": 0.0, "attention": 0.0, "attention_out": 0.0, "mlp_hidden": 0.0,
                 "mlp_out": 0.0, **rates}  # fmt: skip
        init = nnx.initializers.normal(0.02)
        self.characters = nnx.Embed(symbols, size.width, embedding_init=init, rngs=rngs)
        self.positions = nnx.Embed(size.context, size.width, embedding_init=init, rngs=rngs)
        self.drop_embedding = dropout(rates["embedding"], rngs)
        self.blocks = nnx.List([Block(size, rates, rngs=rngs) for _ in range(size.layers)])
        self.norm = norm(size.width, rngs)

    def __call__(self, x: Array) -> Array:
        h = self.characters(x) + self.positions(jnp.arange(x.shape[-1]))[None]
        h = self.drop_embedding(h)
        for block in self.blocks:
            h = block(h)
        return self.characters.attend(self.norm(h))


def dropout(rate: Rate, rngs: nnx.Rngs) -> layers.Dropout:
    return (
        layers.ScheduledDropout(rate, rngs=rngs)
        if callable(rate)
        else layers.Dropout(rate, rngs=rngs)
    )


def linear(width_in: int, width_out: int, stddev: float, rngs: nnx.Rngs) -> nnx.Linear:
    init = nnx.initializers.normal(stddev)
    return nnx.Linear(width_in, width_out, use_bias=False, kernel_init=init, rngs=rngs)


def norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, use_bias=False, epsilon=1e-5, rngs=rngs)


def adamw(updates: int, rate: float = 1e-3, warm_up: int = 100) -> optax.GradientTransformation:
    """nanoGPT's optimizer: warm-up, a cosine down to a tenth, decay of matrices alone, clipping."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, rate, min(warm_up, updates // 2), updates, end_value=rate / 10
    )
    is_matrix = lambda params: jax.tree.map(lambda p: p.ndim >= 2, params)  # noqa: E731
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, b1=0.9, b2=0.99, weight_decay=0.1, mask=is_matrix),
    )


def generate(key: Key, model: GPT, prompt: Array, length: int, temperature: float = 0.8) -> Array:
    """The prompt (characters,) and `length` more, each drawn from the model's distribution."""
    context = len(model.positions.embedding[...])
    graphdef, state = nnx.split(model)

    @jax.jit
    def extend(key, text, end):
        start = jnp.maximum(end - context, 0)
        model = nnx.merge(graphdef, state)
        model.eval()
        logits = model(jax.lax.dynamic_slice(text, (start,), (context,))[None])[0, end - 1 - start]
        drawn = jax.random.categorical(jax.random.fold_in(key, end), logits / temperature)
        return text.at[end].set(drawn.astype(text.dtype))

    text = jnp.zeros(max(len(prompt) + length, context), jnp.int32).at[: len(prompt)].set(prompt)
    for end in range(len(prompt), len(prompt) + length):
        text = extend(key, text, end)
    return text[: len(prompt) + length]
