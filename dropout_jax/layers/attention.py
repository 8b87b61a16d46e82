"""Attention with our dropout of its weights, for nnx.MultiHeadAttention and Linen's."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.attention import dot_product_attention_weights
from flax.typing import PrecisionLike
from jax import lax

from dropout_jax._checks import check_key, check_rate, is_static
from dropout_jax.noise import dot_product_attention as noise
from dropout_jax.noise.attention import attention_dropout
from dropout_jax.typing import Array, Key, Rate


def dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None = None,
    mask: Array | None = None,
    broadcast_dropout: bool = True,
    dropout_rng: Key | None = None,
    dropout_rate: Rate = 0.0,
    deterministic: bool = False,
    dtype: jnp.dtype | None = None,
    precision: PrecisionLike = None,
    module: nnx.Module | nn.Module | None = None,
    promote_dtype: Callable[..., Any] | None = None,
    is_causal: bool = False,
    force_fp32_for_softmax: bool = False,
    einsum_dot_general: Callable[..., Array] | None = None,
    qk_attn_weights_einsum: Callable[..., Array] | None = None,
    attn_weights_value_einsum: Callable[..., Array] | None = None,
) -> Array:
    r"""The attention function of Flax, NNX or Linen, as `dropout_jax.dot_product_attention`.

    $$y = (M \odot \text{softmax}(Q K^\top / \sqrt{d} + B)) V / (1 - \text{rate}).$$
    In memory that grows with the length alone, in training and in evaluation. For
    `nnx.MultiHeadAttention(attention_fn=dot_product_attention)`, Linen's
    `nn.MultiHeadDotProductAttention(attention_fn=...)`, and, for models that exist,
    `layers.replace_dropout` and `linen.replace_dropout`.

    Two things differ from Flax: the softmax is always computed in float32 or wider, and a query
    that may attend to no key gets 0, not the mean of all values. The weights are held in memory
    where they are asked for, by `module` or by an einsum of one's own.

    Args:
      query: (..., queries, heads, depth).
      key, value: (..., keys, heads, depth), or fewer heads that divide those of the query.
      bias, mask: broadcast against (..., heads, queries, keys); mask True = may be attended to.
      broadcast_dropout: True for one mask for all heads and examples, Flax's default; False for
        one each.
      dropout_rng: a key, typed or legacy; needed where weights are dropped.
      dropout_rate: probability of dropping, in [0, 1]: a Python number or a traced scalar.
      deterministic: True for no dropout.
      dtype: of the computation; by default that of the inputs.
      precision: of both products.
      module: where the weights are sown, before dropout, as Flax does.
      promote_dtype: of NNX: gives query, key and value one dtype.
      is_causal: query i attends to keys 0 to i only.
      force_fp32_for_softmax: of Linen; the softmax is in float32 in any case.
      einsum_dot_general, qk_attn_weights_einsum, attn_weights_value_einsum: of Linen.

    Returns:
      An array (..., queries, heads, depth of the values).

    Raises:
      TypeError: no dropout_rng where weights are dropped, or one that is no key.
      ValueError: a concrete rate outside [0, 1]; shapes that do not match.

    Example:
      >>> from dropout_jax.layers import dot_product_attention
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> attention = nnx.MultiHeadAttention(
      ...     2, 8, dropout_rate=0.1, attention_fn=dot_product_attention, decode=False,
      ...     deterministic=False, rngs=nnx.Rngs(0))
      >>> attention(jnp.ones((3, 5, 8))).shape
      (3, 5, 8)

    Source: Vaswani et al. 2017, "Attention Is All You Need"; dropout as `attention_dropout`.
    """
    check_rate(dropout_rate)
    off = deterministic or (is_static(dropout_rate) and dropout_rate == 0)
    rng, rate = (None, 0) if off else (_key(dropout_rng), dropout_rate)
    per = "batch" if broadcast_dropout else "head"
    if promote_dtype is not None:
        query, key, value = promote_dtype((query, key, value), dtype=dtype)
    dtype = jnp.result_type(query, key, value) if dtype is None else dtype
    query, key, value = (jnp.asarray(a, dtype) for a in (query, key, value))
    noise.check_inputs(query, key, value)
    einsums = (einsum_dot_general, qk_attn_weights_einsum, attn_weights_value_einsum)
    if module is None and einsums == (None, None, None):
        mask = None if mask is None else jnp.asarray(mask, bool)
        return noise.dot_product_attention(
            rng, query, key, value, rate, bias=bias, mask=mask, is_causal=is_causal, per=per,
            precision=precision,
        )  # fmt: skip
    if isinstance(module, nnx.Module):
        weights = dot_product_attention_weights(
            query, key, bias, mask, dtype=dtype, precision=precision, module=module,
            is_causal=is_causal,
        )  # fmt: skip
    else:
        weights = nn.dot_product_attention_weights(
            query, key, bias, mask, dtype=dtype, precision=precision, module=module,
            force_fp32_for_softmax=force_fp32_for_softmax, einsum_dot_general=einsum_dot_general,
            einsum=qk_attn_weights_einsum,
        )  # fmt: skip
    dropped = weights if rng is None else attention_dropout(rng, weights, rate, per=per)
    return _of_values(dropped, value, precision, einsum_dot_general, attn_weights_value_einsum)


def _of_values(weights, value, precision, dot_general, einsum) -> Array:
    """The weighted values, by the einsum that was given if there is one."""
    if einsum is None:
        einsum = functools.partial(
            jnp.einsum, precision=precision, _dot_general=dot_general or lax.dot_general
        )
    value = jnp.repeat(value, weights.shape[-3] // value.shape[-2], axis=-2)
    return einsum("...hqk,...khd->...qhd", weights, value)


def _key(rng: Key | None) -> Key:
    """The key of a call, or an error that says how to draw one from a stream."""
    if isinstance(rng, (nnx.Rngs, nnx.RngStream)):
        name = "rngs.dropout()" if isinstance(rng, nnx.Rngs) else "stream()"
        raise TypeError(f"dropout_rng is {type(rng).__name__}; write dropout_rng={name}.")
    if rng is not None and not isinstance(rng, jax.Array):
        raise TypeError(f"dropout_rng is {rng!r}; write dropout_rng=jax.random.key(0).")
    return check_key(rng)
