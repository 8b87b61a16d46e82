"""Attention with dropout of its weights in linear memory, as jax.nn.dot_product_attention."""

import jax
import jax.numpy as jnp
from jax import lax

from dropout_jax._arrays import aligned
from dropout_jax._checks import (
    check_broadcasts,
    check_floating,
    check_given,
    check_key,
    check_rate,
    consumed,
    is_static,
    shared_shape,
)
from dropout_jax._sharding import sharding_of_attention, spread
from dropout_jax.masks import apply, bits, packed
from dropout_jax.masks.rows import mask_rows
from dropout_jax.noise.attention import Per, sharing_dims
from dropout_jax.noise.attention_blocks import BLOCK, Attention, Drop, attend
from dropout_jax.typing import Array, Key, Rate


def dot_product_attention(
    key: Key | None,
    query: Array,
    keys: Array,
    values: Array,
    rate: Rate,
    *,
    bias: Array | None = None,
    mask: Array | None = None,
    is_causal: bool = False,
    scale: float | Array | None = None,
    per: Per = "head",
    precision: lax.PrecisionLike = None,
    block: int | None = None,
) -> Array:
    r"""Attention with dropout of its weights, in memory that grows with the length alone.

    $$y = \frac{M \odot \text{softmax}(s\, Q K^\top + B)}{1 - \text{rate}}\, V, \qquad
      M_{qk} \sim \text{Bernoulli}(1 - \text{rate}).$$
    The mask is that of `attention_dropout` for the same key, bit for bit. The weights are computed
    for a block of queries at a time, and again in the backward pass, with the same rows of the
    mask: an array of queries x keys is never held. Of a causal mask, most of the blocks that it
    hides are left out. All derivatives work, forward and backward, of any order. The softmax is
    computed in float32 or wider. A query that may attend to no key gets 0.

    For long sequences divide batch and heads over devices, not the length: then no device needs
    numbers of another.

    Args:
      key: a key; None is enough where the rate is the number 0.
      query: floating-point (..., queries, heads, depth).
      keys: (..., length, key heads, depth); key heads divide the heads (grouped-query attention).
      values: (..., length, value heads, value depth); value heads divide the heads too.
      rate: probability of dropping a weight, in [0, 1]: a Python number or a traced scalar. Not
        differentiated.
      bias: added to the scaled logits; broadcasts against (..., heads, queries, length).
      mask: booleans, True = may be attended to; broadcasts likewise.
      is_causal: query i attends to keys 0 to i only.
      scale: of the logits, 1 / sqrt(depth) unless given.
      per: "head", "example" or "batch": who shares a mask, as for `attention_dropout`.
      precision: of both products, as for `jax.numpy.einsum`.
      block: queries computed at a time, 128 unless given. It decides speed and memory, and
        neither the mask nor, but for rounding, the result.

    Returns:
      An array (..., queries, heads, value depth) of the promoted dtype of the three inputs.

    Raises:
      TypeError: inputs that are not floating-point; a mask that is not boolean; a missing key.
      ValueError: shapes that do not match; a rate outside [0, 1], or one that is not a scalar; an
        unknown `per`; a block under 1.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> x = jnp.ones((2, 300, 4, 8))  # batch, length, heads, depth
      >>> y = dj.dot_product_attention(jax.random.key(0), x, x, x, 0.1, is_causal=True)
      >>> y.shape
      (2, 300, 4, 8)

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.1, with the dropout of
    Srivastava et al. 2014, section 4; blocks of queries: Rabe and Staats 2021, "Self-attention Does
    Not Need O(n^2) Memory".
    """
    query, keys, values = check_inputs(query, keys, values)
    shape = (*query.shape[:-3], query.shape[-2], query.shape[-3], keys.shape[-3])
    bias = _check_logits_like("bias", bias, shape)
    mask = _check_logits_like("mask", mask, shape)
    if mask is not None and mask.dtype != jnp.bool_:
        raise TypeError(
            f"mask has dtype {mask.dtype}; write mask.astype(bool), True for a key that may be "
            "attended to, or give numbers that are to be added as bias=."
        )
    if jnp.ndim(check_rate(rate)):
        raise ValueError(
            f"rate has shape {jnp.shape(rate)}; write one number for all weights, or drop weights "
            "that are held with attention_dropout(key, weights, rate)."
        )
    if block is not None and block < 1:
        raise ValueError(f"block is {block}; write the number of queries at a time, such as 128.")
    key = None if is_static(rate) and rate == 0 else check_key(key)
    if scale is None:
        scale = query.shape[-1] ** -0.5
    drawn = shared_shape(shape, sharing_dims(per, len(shape)))
    static = (float(rate) if is_static(rate) else None, drawn, is_causal, precision, block or BLOCK)
    traced = None if is_static(rate) else jnp.asarray(rate)
    arrays = (key, traced, query, keys, values, bias, mask, scale)
    return spread(sharding_of_attention(query, values), _attention, *arrays, *static)


def _attention(
    key, rate, query, keys, values, bias, mask, scale, number, drawn, is_causal, precision, block
):
    rate = number if rate is None else rate
    query, keys, values = (jnp.swapaxes(a, -3, -2) for a in (query, keys, values))
    gain = apply.scale_of(rate, query.dtype)
    attention = Attention(keys, values, scale, gain, is_causal, precision)
    drops = (_keep_all, _keep_all) if key is None else _drops(key, rate, drawn)
    return jnp.swapaxes(attend(query, attention, bias, mask, *drops, block), -3, -2)


def _drops(key, rate, drawn) -> tuple[Drop, Drop]:
    """What drops weights, unscaled: those of a block of rows, and all of them."""
    key = consumed(key)
    rows_of = mask_rows(key, rate, drawn)

    def drop_rows(weights, start):
        return jnp.where(rows_of(start, *weights.shape[-2:]), weights, 0)

    def drop_all(weights, start):
        held = packed.PackedMask(bits.keep_words(key, rate, drawn), weights.shape, drawn)
        return apply.multiply(weights, held, jnp.ones((), weights.dtype))

    return drop_rows, drop_all


def _keep_all(weights, start):
    return weights


# Jitted, so that a call outside jit is one dispatch, and layers alike are traced once.
_attention = jax.jit(_attention, static_argnums=(8, 9, 10, 11, 12))


def check_inputs(query: Array, keys: Array, values: Array) -> tuple[Array, Array, Array]:
    """The three as arrays of one dtype, or an error that names what does not match."""
    given = {"query": query, "keys": keys, "values": values}
    arrays = {name: check_floating(x, name) for name, x in given.items()}
    query, keys, values = arrays.values()
    shapes = ", ".join(f"{name} {x.shape}" for name, x in arrays.items())
    if not query.ndim == keys.ndim == values.ndim:
        raise ValueError(f"q, k, v must have the same rank: {shapes}.")
    if query.ndim < 3:
        raise ValueError(f"write query, keys and values as (..., length, heads, depth): {shapes}.")
    if not query.shape[:-3] == keys.shape[:-3] == values.shape[:-3]:
        raise ValueError(
            f"batch dims must match, the axes before (length, heads, depth): {shapes}."
        )
    if keys.shape[-3] != values.shape[-3]:
        raise ValueError(f"k, v lengths must match: {shapes}, as (..., length, heads, depth).")
    if query.shape[-1] != keys.shape[-1]:
        raise ValueError(f"q, k depths must match: {shapes}, as (..., length, heads, depth).")
    for name, x in (("keys", keys), ("values", values)):
        if x.shape[-2] == 0 or query.shape[-2] % x.shape[-2]:
            raise ValueError(
                f"{name} has {x.shape[-2]} heads, which do not divide the query's "
                f"{query.shape[-2]}; write a divisor of it, or as many."
            )
    dtype = jnp.result_type(query, keys, values)
    return query.astype(dtype), keys.astype(dtype), values.astype(dtype)


def _check_logits_like(name: str, x: Array | None, shape: tuple[int, ...]) -> Array | None:
    """A bias or mask with as many axes as the logits (..., heads, queries, keys)."""
    if x is None:
        return None
    x = jnp.asarray(check_given(x, name))
    check_broadcasts(name, x.shape, shape)
    return aligned(x, len(shape))
