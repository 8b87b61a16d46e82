"""Dropout of attention weights: which heads and examples share a mask."""

from collections.abc import Sequence
from typing import Literal

from dropout_jax._checks import check_choice, check_floating, check_order
from dropout_jax.noise.dropout import dropout
from dropout_jax.typing import Array, Key, Rate

Per = Literal["head", "example", "batch"]


def attention_dropout(
    key: Key,
    weights: Array,
    rate: Rate,
    *,
    per: Per = "head",
) -> Array:
    r"""Drop attention weights after the softmax, and scale the others up: mean one.

    $$A' = M \odot A / (1 - \text{rate}), \qquad M_{qk} \sim \text{Bernoulli}(1 - \text{rate}),$$
    with a mask for each head of each example, or a shared one. A query's weights then sum to 1 on
    average only. A shared mask costs fewer random bits, and makes the noise of the heads, or of the
    examples, dependent. The weights are held in memory, all queries x keys of them:
    `dot_product_attention` draws the same mask without.

    Args:
      key: a typed key.
      weights: floating-point (..., heads, queries, keys).
      rate: probability of dropping, in [0, 1]: a Python number, a traced scalar, or an array that
        broadcasts against the draw. Not differentiated.
      per: "head", every head of every example has a mask of its own; "example", the heads share
        one; "batch", all heads and examples share one, which is the default of Flax
        (`broadcast_dropout=True`).

    Returns:
      An array of the weights' shape and dtype.

    Raises:
      TypeError: as `dropout`.
      ValueError: as `dropout`; an unknown `per`; weights of fewer than three axes.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> from dropout_jax.noise.attention import attention_dropout
      >>> def attend(key, q, k, v, rate):  # (batch, length, heads, depth)
      ...     logits = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
      ...     weights = attention_dropout(key, jax.nn.softmax(logits), rate)
      ...     return jnp.einsum("bhqk,bkhd->bqhd", weights, v)
      >>> x = jnp.ones((2, 5, 4, 8))
      >>> attend(jax.random.key(0), x, x, x, 0.1).shape
      (2, 5, 4, 8)

    Source: the dropout of Srivastava et al. 2014, section 4, on the weights of Vaswani et al. 2017,
    "Attention Is All You Need".
    """
    check_order(weights, rate)
    weights = check_floating(weights, "weights")
    if weights.ndim < 3:
        raise ValueError(
            f"weights has shape {weights.shape}; write (..., heads, queries, keys): weights[None] "
            "for one head."
        )
    return dropout(key, weights, rate, broadcast_dims=sharing_dims(per, weights.ndim))


def sharing_dims(per: Per, ndim: int) -> Sequence[int]:
    """The axes of weights (..., heads, queries, keys) that share one draw."""
    check_choice("per", per, "head", "example", "batch")
    return {"head": (), "example": (ndim - 3,), "batch": range(ndim - 2)}[per]
