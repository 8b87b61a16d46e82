"""DropBlock: drop contiguous blocks of a feature map together, in one, two or three dimensions."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from dropout_jax._checks import (
    check_count,
    check_floating,
    check_key,
    check_order,
    check_rate,
    is_static,
    shared_shape,
    wide_dtype,
)
from dropout_jax._sharding import sharding_of, spread
from dropout_jax._xla import materialised, recomputed
from dropout_jax.masks import apply, bits, packed
from dropout_jax.typing import Array, Key, Rate


def drop_block(
    key: Key,
    x: ArrayLike,
    rate: Rate,
    *,
    block_size: int | Sequence[int],
    broadcast_dims: Sequence[int] = (),
) -> Array:
    r"""Drop blocks of a feature map until a share `rate` is gone on average, and scale up the rest.

    $$y = \frac{M}{\text{mean}(M)} \odot x, \qquad
      M_i = \prod_{j \,:\, i \in \text{block}(j)} (1 - s_j), \quad
      s_j \sim \text{Bernoulli}(\gamma),$$
    over the blocks that lie inside the map. gamma solves E[mean(M)] = 1 - rate, so that overlaps
    and edges are accounted for; the paper's gamma is its first-order approximation from below, and
    drops less. The scale is that of the whole array which the call sees, as in the paper (under
    `jax.vmap`, of one example): for a constant x the mean of y is that of x, draw by draw. A single
    element's noise has not exactly mean one, because corners are in fewer blocks.

    Args:
      key: from `jax.random.key`.
      x: floating-point, channels last: (batch, length, channel), (batch, height, width, channel) or
        (batch, depth, height, width, channel).
      rate: expected share dropped, in [0, 1]: a Python number or a traced scalar. Not
        differentiated.
      block_size: side of a block, in elements, at most the smallest side of the map; or a tuple
        with one for each side, such as (7, 10) for blocks of height 7 and width 10.
      broadcast_dims: axes that share one draw, the batch's or the channels': 3 or -1 drops the same
        blocks from all channels.

    Returns:
      An array of x's shape and dtype; zeros where everything was dropped.

    Raises:
      TypeError: `key` is missing or not a key; x does not hold floating-point numbers.
      ValueError: a concrete rate outside [0, 1], or an array of rates; an x of another rank; a
        block_size that does not fit; an axis out of range, repeated, or inside the map.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> y = dj.drop_block(jax.random.key(3), jnp.ones((1, 12, 1)), 0.3, block_size=3)
      >>> bool(jnp.isclose(y.mean(), 1))
      True

    Source: Ghiasi et al. 2018, "DropBlock: A regularization method for convolutional networks".
    """
    key = check_key(key)
    check_order(x, rate)
    x = check_floating(x)
    check_rate(rate)
    if x.ndim not in (3, 4, 5):
        raise ValueError(
            f"x has shape {x.shape}; write (batch, length, channel), (batch, height, width, "
            "channel) or (batch, depth, height, width, channel)."
        )
    sides, drawn = x.shape[1:-1], shared_shape(x.shape, broadcast_dims)
    if drawn[1:-1] != sides:
        raise ValueError(
            f"broadcast_dims {tuple(broadcast_dims)} shares a draw inside the map, where blocks "
            "are drawn; write 0 for the batch, -1 for the channels."
        )
    block = _block_of(block_size, sides)
    if jnp.shape(rate) != ():
        raise ValueError(
            f"rate has shape {jnp.shape(rate)}, and one scale is computed for the whole array; "
            "write a scalar, or map over examples with jax.vmap."
        )
    if is_static(rate):
        if rate == 0:
            return x
        if rate == 1:
            return jnp.zeros_like(x)
    places = (side - size + 1 for side, size in zip(sides, block, strict=True))
    starts = (drawn[0], *places, drawn[-1])
    return spread(sharding_of(x), _dropped, key, x, rate, starts, block)


def _dropped(key, x, rate, starts, block):
    gamma = seed_rate(rate, x.shape[1:-1], block)
    return _drop(x, packed.packed_mask(key, gamma, starts), block)


def check_block(block_size: int | Sequence[int]) -> int | tuple[int, ...]:
    """Return `block_size`, or raise if it is not a whole number over 0, or a sequence of them."""
    if isinstance(block_size, Sequence) and not isinstance(block_size, str):
        return tuple(check_count("block_size", size, 7) for size in block_size)
    return check_count("block_size", block_size, 7)


def _block_of(block_size: int | Sequence[int], sides: tuple[int, ...]) -> tuple[int, ...]:
    """The sides of a block in a map of `sides`."""
    block = check_block(block_size)
    block = (block,) * len(sides) if isinstance(block, int) else block
    if len(block) != len(sides) or any(b > s for b, s in zip(block, sides, strict=True)):
        raise ValueError(
            f"block_size is {block_size}, and a block has to fit into a map of {sides}; write a "
            "whole number from 1 to the smaller side, or one for each side."
        )
    return block


def seed_rate(rate: Rate, sides: tuple[int, ...], block: tuple[int, ...]) -> Rate:
    """gamma: the probability of dropping a block with which a share `rate` of the map is dropped.

    An element in c blocks is dropped with probability 1 - (1 - gamma)^c. The mean of that over the
    map grows with gamma, is at most gamma times the mean of c, and at least gamma: bisection.
    """
    cover = [
        np.convolve(np.ones(side - size + 1), np.ones(size))
        for side, size in zip(sides, block, strict=True)
    ]
    c, count = np.unique(functools.reduce(np.multiply.outer, cover), return_counts=True)
    share = count / count.sum()
    if is_static(rate):
        xp, rate = np, float(rate)
    else:
        rate = lax.stop_gradient(jnp.asarray(rate, jnp.float32))
        xp, c, share = jnp, jnp.asarray(c, jnp.float32), jnp.asarray(share, jnp.float32)

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        too_few = -xp.sum(share * xp.expm1(c * xp.log1p(-middle))) < rate
        return xp.where(too_few, middle, low), xp.where(too_few, high, middle)

    bracket = rate / xp.sum(share * c), rate
    if is_static(rate):
        return float(functools.reduce(lambda b, i: halve(i, b), range(40), bracket)[1])
    gamma = lax.fori_loop(0, 40, halve, bracket)[1]
    return jnp.where(rate < 1, gamma, 1)  # in float32 a share just under 1 rounds to it


def _windows(kept, axis, size):
    """The AND of every window of `size` along `axis` that touches the array, by shifted copies."""
    width = [(size - 1, size - 1) if a == axis else (0, 0) for a in range(kept.ndim)]
    padded = jnp.pad(kept, width, constant_values=np.invert(np.zeros((), kept.dtype)))
    count = kept.shape[axis] + size - 1
    shifts = [lax.slice_in_dim(padded, i, i + count, axis=axis) for i in range(size)]
    return functools.reduce(lax.bitwise_and, shifts)


@functools.partial(jax.jit, static_argnums=2)
def _drop(x, seeds, block):
    # Keeps the seeds' bits, not the mask.
    return recomputed(functools.partial(_masked, block))(seeds, x)


def _masked(block, seeds, x):
    # Where lanes are channels only, words are joined instead of elements: a 32nd of the work.
    in_words = seeds.drawn[-1] % bits.LANES == 0
    kept = seeds.words if in_words else seeds.unpack()
    spatial = dict(enumerate(block, start=1))  # axis -> size

    def joined():
        return functools.reduce(lambda kept, one: _windows(kept, *one), spatial.items(), kept)

    if in_words:  # each word is read for 32 elements
        grown = [n + spatial.get(axis, 1) - 1 for axis, n in enumerate(kept.shape)]
        kept = materialised(joined, tuple(grown), kept)
    else:
        kept = joined()
    drawn = (*kept.shape[:-1], seeds.drawn[-1])
    count = jnp.sum(lax.population_count(kept) if in_words else kept, dtype=jnp.uint32)
    mask = packed.PackedMask(kept, drawn, drawn) if in_words else kept
    dtype = jnp.finfo(wide_dtype(x)).dtype
    scale = jnp.where(count > 0, math.prod(drawn) / jnp.maximum(count, 1).astype(dtype), 0)
    return apply.multiply(x, mask, scale.astype(dtype))
