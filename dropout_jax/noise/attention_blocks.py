"""Attention a block of queries at a time: memory that grows with the length, not its square.

A block of queries sees all of its keys at once, so that its softmax needs no second pass. Blocks
are steps of a `lax.scan` whose backward pass computes a block's weights again, and draws the same
rows of the mask again. Nothing of size queries x keys is ever held.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dropout_jax._checks import wide_dtype
from dropout_jax.typing import Array

# On two cores 128 was as fast as 256 and faster than 64 and 512, at 1024 to 4096 keys.
BLOCK = 128
# A causal block is given the keys of its part of the sequence: of 4 parts, 5/8 of all pairs are
# computed, where 1/2 is the least. 8 parts compute 9/16, and take twice as long to compile.
PARTS = 4

Drop = Callable[[Array, Array | int], Array]
"""Weights of a block (..., heads, rows, columns) and its first row -> dropped weights."""


class Attention(NamedTuple):
    """What all blocks share."""

    keys: Array  # (..., key heads, keys, depth)
    values: Array  # (..., value heads, keys, value depth)
    scale: Array | float  # of the logits
    gain: Array | float  # of the values: 1 / (1 - rate)
    is_causal: bool
    precision: lax.PrecisionLike


def attend(
    query: Array,
    attention: Attention,
    bias: Array | None,
    mask: Array | None,
    drop: Drop,
    drop_all: Drop,
    block: int,
) -> Array:
    """Attention of queries (..., heads, queries, depth); `drop_all` drops weights that are held."""
    queries = query.shape[-2]
    if not isinstance(queries, int) or queries <= block:  # jax.export may not know the length
        return _block(attention, drop_all, query, 0, bias, mask)
    count = -(-queries // block)
    size = -(-queries // count)
    starts = np.arange(count, dtype=np.int32) * np.int32(size)
    starts = np.minimum(starts, np.int32(queries - size))  # the last block may overlap
    biases = None if bias is None else _blocks(bias, starts, size)
    parts = min(PARTS, count) if attention.is_causal else 1
    part = (np.arange(count) * parts // count).astype(np.int32)

    def branch(last):
        """A block of one part of the sequence, which sees no key behind the last of the part."""
        seen = attention.keys.shape[-2]
        if attention.is_causal:
            seen = min(seen, int(starts[part == last][-1]) + size)

        @jax.checkpoint  # slices within it, so that the parts share one gradient of the keys
        def compute(query, start, bias):
            own = mask
            if mask is not None and mask.shape[-2] > 1:  # it has no gradient: sliced where it lies
                own = lax.dynamic_slice_in_dim(mask, start, size, axis=-2)
            bias, own = _columns(bias, seen), _columns(own, seen)
            return _block(_with_keys(attention, seen), drop, query, start, bias, own)

        return compute

    branches = [branch(i) for i in range(parts)]

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def step(_, block):
        which, *arrays = block
        return None, branches[0](*arrays) if parts == 1 else lax.switch(which, branches, *arrays)

    blocks = (jnp.asarray(part), _blocks(query, starts, size), jnp.asarray(starts), biases)
    return _joined(lax.scan(step, None, blocks)[1], queries, size)


def _block(attention: Attention, drop: Drop, query, start, bias, mask) -> Array:
    """Attention of a block of queries; a query that may attend to nothing gets 0."""
    logits = _product("...qd,...kd->...qk", query, attention.keys, attention.precision)
    logits = logits * jnp.asarray(attention.scale, logits.dtype)
    if bias is not None:
        logits = logits + bias.astype(logits.dtype)
    if attention.is_causal:
        rows, columns = (lax.broadcasted_iota(jnp.int32, logits.shape[-2:], i) for i in (0, 1))
        causal = (rows + start >= columns).reshape((1,) * (logits.ndim - 2) + logits.shape[-2:])
        mask = causal if mask is None else mask & causal
    if mask is not None:
        logits = jnp.where(mask, logits, -jnp.inf)
    most = lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True, initial=-jnp.inf))
    weights = jnp.exp(logits - jnp.where(most == -jnp.inf, 0, most))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    dropped = drop(weights, start).astype(attention.values.dtype)
    output = _product("...qk,...kd->...qd", dropped, attention.values, attention.precision)
    # Divided by the sum, and multiplied by the gain, where there are fewer numbers.
    gain = jnp.asarray(attention.gain, total.dtype)
    return (output * (gain / jnp.where(total == 0, 1, total))).astype(query.dtype)


def _product(subscripts, x, y, precision):
    """An einsum in float32, of x (..., heads, rows, _) and y of as many heads, or fewer."""
    heads, groups, rows = x.shape[-3], y.shape[-3], x.shape[-2]
    x = x.reshape(*x.shape[:-3], groups, heads // groups * rows, x.shape[-1])
    wide = wide_dtype(x)
    z = jnp.einsum(subscripts, x, y, precision=precision, preferred_element_type=wide)
    return z.reshape(*z.shape[:-3], heads, rows, z.shape[-1])


def _with_keys(attention: Attention, seen: int) -> Attention:
    keys, values = (a[..., :seen, :] for a in (attention.keys, attention.values))
    return attention._replace(keys=keys, values=values)


def _columns(x: Array | None, seen: int) -> Array | None:
    return x if x is None or x.shape[-1] == 1 else x[..., :seen]


def _blocks(x: Array, starts: np.ndarray, size: int) -> Array:
    """Rows (..., rows, _) -> blocks of them (blocks, ..., size, _)."""
    if x.shape[-2] == 1:
        return jnp.broadcast_to(x, (len(starts), *x.shape))
    if x.shape[-2] != len(starts) * size:
        whole, last = x[..., : starts[-2] + size, :], x[..., starts[-1] :, :]
        x = jnp.concatenate([whole, last], axis=-2)
    return jnp.moveaxis(x.reshape(*x.shape[:-2], len(starts), size, x.shape[-1]), -3, 0)


def _joined(blocks: Array, rows: int, size: int) -> Array:
    """The inverse of `_blocks`: of rows that are in two blocks, those of the first."""
    x = jnp.moveaxis(blocks, 0, -3)
    x = x.reshape(*x.shape[:-3], len(blocks) * size, x.shape[-1])
    if x.shape[-2] == rows:
        return x
    whole = (len(blocks) - 1) * size
    last = x[..., x.shape[-2] - (rows - whole) :, :]
    return jnp.concatenate([x[..., :whole, :], last], axis=-2)
