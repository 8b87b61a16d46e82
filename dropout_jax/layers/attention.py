"""Attention with our dropout of its weights, for flax.nnx.MultiHeadAttention."""

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.attention import dot_product_attention_weights

from dropout_jax._checks import check_rate, is_static
from dropout_jax.layers.base import typed
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
    **options,
) -> Array:
    r"""`flax.nnx.dot_product_attention` with `dropout_jax.attention_dropout` on its weights.

    $$y = (M \odot \text{softmax}(Q K^\top / \sqrt{d})) V / (1 - \text{rate}).$$
    For `nnx.MultiHeadAttention(attention_fn=dot_product_attention)`, and for models that exist:
    `model.set_attributes(nnx.MultiHeadAttention, attention_fn=dot_product_attention)`. Where Flax
    materialises the weights of a deterministic call too if the rate is not 0, this one leaves them
    to `jax.nn.dot_product_attention`.

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
      options: `precision`, `module`, `promote_dtype` and `is_causal`, as for Flax.

    Returns:
      An array (..., queries, heads, depth).

    Raises:
      TypeError: no dropout_rng where weights are dropped.
      ValueError: a concrete rate outside [0, 1]; shapes that do not fit.

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
    dtype = jnp.result_type(query, key, value) if dtype is None else dtype
    if deterministic or (is_static(dropout_rate) and dropout_rate == 0):
        return nnx.dot_product_attention(query, key, value, bias, mask, dtype=dtype, **options)
    weights = dot_product_attention_weights(query, key, bias, mask, dtype=dtype, **options)
    rng = None if dropout_rng is None else typed(dropout_rng)
    per = "batch" if broadcast_dropout else "head"
    weights = attention_dropout(rng, weights, dropout_rate, per=per)
    heads, groups = query.shape[-2], value.shape[-2]  # grouped-query attention, or one head each
    if groups == 0 or heads % groups:
        raise ValueError(f"value has {groups} heads, which do not divide the query's {heads}.")
    weights = weights.reshape(*weights.shape[:-3], groups, heads // groups, *weights.shape[-2:])
    precision = options.get("precision")
    y = jnp.einsum("...hgqk,...khd->...qhgd", weights, value.astype(dtype), precision=precision)
    return y.reshape(*y.shape[:-3], heads, y.shape[-1])
