"""Packed Bernoulli words: 32 decisions of one rate in a uint32, at the cost of their entropy.

A decision with probability rate = T/2^k + r/2^k (T an integer, 0 <= r < 1) is a comparison of a
random binary fraction with the rate, done for 32 lanes at once: fold k random words, from the least
significant bit of T upwards, with `word | acc` where the bit is 1 and `word & acc` where it is 0.
What is left, r, starts the fold as one Bernoulli(r) decision that the 32 lanes share. Each lane is
then set with probability *exactly* rate, and two lanes of a word have covariance 4^-k r (1 - r).
k (9 to 15) keeps their correlation under 2^-14 at every rate.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dropout_jax._arrays import aligned
from dropout_jax._checks import is_static
from dropout_jax._xla import materialised
from dropout_jax.masks.threefry import pair_source, word_source
from dropout_jax.typing import Array, Key, Rate

LANES = 32
DEPTHS = (9, 11, 13, 15)
MAX_DEPTH = DEPTHS[-1]
_ALL = np.uint32(0xFFFFFFFF)


class Layout(NamedTuple):
    """How elements sit in words: `lead` axes are left alone, `size` elements share lanes."""

    lead: tuple[int, ...]
    size: int

    @property
    def words(self) -> tuple[int, ...]:
        return (*self.lead, -(-self.size // LANES))


def layout(shape: tuple[int, ...]) -> Layout:
    """The words of a draw of `shape`: lanes run along the minor axis.

    Where that would leave lanes unused the axes before it join in, all but the first, which
    belongs to the batch.
    """
    lead, size = list(shape[:-1]), math.prod(shape[-1:])
    while size % LANES and len(lead) > 1:
        size *= lead.pop()
    return Layout(tuple(lead), size)


def depth(rate):
    """k, the words folded, and 2^k: no two lanes of a word then correlate by more than 2^-14.

    The correlation is at most 4^-k / (4 rate (1 - rate)), and at most 2^-k for the rarest events.
    """
    other = 1 - rate
    event = np.minimum(rate, other) if isinstance(rate, np.floating) else jnp.minimum(rate, other)
    k, scale = DEPTHS[0], np.float32(2 ** DEPTHS[0])
    for limit in (2**-5, 2**-9, 2**-13):
        rare = event < np.float32(limit)
        k, scale = k + 2 * rare.astype(np.int32), scale * (1 + 3 * rare.astype(np.float32))
    return k, scale


def _plan_static(rate: np.float32) -> tuple[int, int, int]:
    """Depth, threshold and 2^32 r of a known rate, without words that cannot change the outcome."""
    k, scale = depth(rate)
    threshold, rest = divmod(float(rate) * float(scale), 1)
    k, threshold, shared = int(k), int(threshold), int(rest * 2**32)
    if threshold and not shared:
        k -= (threshold & -threshold).bit_length() - 1
        threshold //= threshold & -threshold
    return k, threshold, shared


def fold_static(word, rate: np.float32) -> Array:
    """The fold for a known rate."""
    k, threshold, shared = _plan_static(rate)
    acc = np.uint32(0)
    if shared:
        acc = jnp.where(word(k) < np.uint32(shared), _ALL, acc)
    for i in reversed(range(k)):
        acc = word(i) | acc if threshold >> (k - 1 - i) & 1 else word(i) & acc
    return cast(Array, acc)  # a word was drawn, for k is 1 or more


def loop_static(pair, rate: np.float32) -> Callable[[Array], Array] | None:
    """From zeros to `~fold_static`, in a loop; None where it takes a hash or two."""
    k, threshold, shared = _plan_static(rate)
    last = (k if shared else k - 1) // 2
    if pair is None or last < 2:
        return None
    return lambda zeros: _fold_in_loop(pair, last, zeros, k, threshold, shared, False)


def loop_traced(pair, rate: Array) -> Callable[[Array], Array] | None:
    """From zeros to `~fold_traced`, in a loop; None for a rate a lane."""
    if pair is None or rate.shape[-1] != 1:
        return None
    plan = *_thresholds(rate[..., 0]), rate[..., 0] >= 1
    return lambda zeros: _fold_in_loop(pair, MAX_DEPTH // 2, zeros, *plan)


def _fold_in_loop(pair, last: int, zeros: Array, k, threshold, shared, everything) -> Array:
    """The fold, a hash a turn: a program with one hash compiles much faster than one with five.

    k, threshold, shared and whether everything is dropped are numbers, or arrays that broadcast
    against the words. A set bit means kept.
    """

    def fold(acc, word, i):
        unused = i >= k  # leaves acc, still empty, as it is
        shift = jnp.where(unused, 0, k - 1 - i).astype(jnp.uint32)
        bit = ~unused & ((jnp.asarray(threshold, jnp.uint32) >> shift) & 1 == 1)
        both, either = (jnp.where(b, _ALL, np.uint32(0)) for b in (bit | unused, bit))
        return (acc & (word | both)) | (word & either)

    def turn(n, acc):
        index = jnp.asarray(last - n, jnp.int32)
        even, odd = pair(index)
        acc = fold(acc, odd, 2 * index + 1)
        decision = jnp.where(odd < jnp.asarray(shared, jnp.uint32), _ALL, np.uint32(0))
        acc = jnp.where(2 * index + 1 == k, decision, acc)
        acc = fold(acc, even, 2 * index)
        return jnp.where(index == 0, jnp.where(everything, np.uint32(0), ~acc), acc)

    return lax.fori_loop(0, last + 1, turn, zeros)


def fold_traced(word, rate: Array) -> Array:
    """The same fold, bit for bit, with the rates as data: shape (*lead, words, lanes), or 1s there.

    A rate costs its bits, MAX_DEPTH or more operations: it should be that of as many decisions.
    """
    k, threshold, decision = _plan_traced(word, rate)

    # All positions at once, along a new first axis: one program for 32 lanes, not one a position.
    position = lax.broadcasted_iota(jnp.int32, (MAX_DEPTH + 1,) + (1,) * rate.ndim, 0)
    unused = position >= k[None]  # leaves acc, still empty, as it is
    shift = jnp.where(unused, 0, k[None] - 1 - position).astype(jnp.uint32)
    bit = ~unused & ((threshold[None] >> shift) & 1 == 1)
    both, either, starts = pack(bit | unused), pack(bit), pack(position == k[None])
    decision = pack(decision)

    acc = np.uint32(0)
    for i in reversed(range(MAX_DEPTH + 1)):
        acc = (acc & (word(i) | both[i])) | (word(i) & either[i])
        if i in DEPTHS:
            acc = (acc & ~starts[i]) | (decision & starts[i])
    return acc | pack(rate >= 1)


def _compare_lanes(word, rate: Array) -> Array:
    """The same decisions for rates (*lead, words, lanes): the fraction of each lane is compared."""
    drawn = [word(i) for i in range(MAX_DEPTH + 1)]
    words = materialised(lambda: jnp.stack(drawn), (len(drawn), *drawn[0].shape), *drawn)
    k, threshold, decision = _plan_traced(lambda i: words[i], rate)
    fraction, lane = jnp.zeros(rate.shape, jnp.uint32), lanes(rate.ndim)
    for i in range(MAX_DEPTH):
        fraction = fraction << 1 | ~words[i][..., None] >> lane & 1
    fraction >>= (MAX_DEPTH - k).astype(jnp.uint32)
    drop = (fraction < threshold) | (fraction == threshold) & decision
    return pack(drop | (rate >= 1))


def _plan_traced(word, rate: Array) -> tuple[Array, Array, Array]:
    """Depth, threshold, and the decision that lanes of one rate share, for rates that are data."""
    k, threshold, shared = _thresholds(rate)
    decider = word(MAX_DEPTH)[..., None]
    for depth_below in DEPTHS[:-1]:
        decider = jnp.where(k == depth_below, word(depth_below)[..., None], decider)
    return k, threshold, decider < shared


def _thresholds(rate: Array) -> tuple[Array, Array, Array]:
    """Depth, threshold and 2^32 r of rates that are data."""
    k, scale = depth(rate)
    scaled = rate * scale
    whole = jnp.floor(scaled)
    return k, whole.astype(jnp.uint32), ((scaled - whole) * 2.0**32).astype(jnp.uint32)


def _is_shared(rate: Array, words: tuple[int, ...]) -> bool:
    """True where each rate serves a whole word, or on average MAX_DEPTH decisions or more."""
    rates, decisions = math.prod(rate.shape), math.prod(words) * LANES
    known = isinstance(rates, int) and isinstance(decisions, int)  # jax.export may not know them
    return rate.shape[-1] == 1 or (known and decisions >= MAX_DEPTH * rates)


def pack(bits: Array) -> Array:
    """Boolean (..., 32) -> words (...,); a lane axis of size 1 stands for 32 equal lanes."""
    if bits.shape[-1] == 1:
        return jnp.where(bits[..., 0], _ALL, np.uint32(0))
    return jnp.sum(bits.astype(jnp.uint32) << lanes(bits.ndim), axis=-1, dtype=jnp.uint32)


def lanes(ndim: int) -> Array:
    """0 to 31 along the last of `ndim` axes."""
    return lax.broadcasted_iota(jnp.uint32, (1,) * (ndim - 1) + (LANES,), ndim - 1)


def _rate_of_lanes(rate: Array, shape: tuple[int, ...]) -> Array:
    """A rate that broadcasts against `shape`, laid out as (*lead, words, lanes)."""
    lead, size = layout(shape)
    rate = aligned(rate, len(shape))
    front, back = rate.shape[: len(lead)], rate.shape[len(lead) :]
    if math.prod(back) == 1:
        return rate.reshape(*front, 1, 1)
    words = -(-size // LANES)
    rate = jnp.broadcast_to(rate, (*front, *shape[len(lead) :])).reshape(*front, size)
    rate = jnp.pad(rate, [(0, 0)] * len(front) + [(0, words * LANES - size)])
    return rate.reshape(*front, words, LANES)


def keep_words(key: Key, rate: Rate, shape: tuple[int, ...]) -> Array:
    """Words for a draw of `shape`, where a set bit (probability exactly 1 - rate) means kept.

    The rate is rounded to float32 first, so that a Python number and a traced one draw alike. Of
    rates under 2^-24 the part below 2^-47 is lost.
    """
    words = layout(shape).words
    if is_static(rate):
        number = np.float32(rate)
        if number in (0, 1):
            return jnp.full(words, _ALL if number == 0 else 0, jnp.uint32)
        return materialised(
            lambda: ~fold_static(word_source(key, words), number),
            words,
            jax.random.key_data(key),
            loop=loop_static(pair_source(key, words), number),
        )
    rate = _rate_of_lanes(jnp.asarray(rate, jnp.float32), shape)
    draw = fold_traced if _is_shared(rate, words) else _compare_lanes
    return materialised(
        lambda: ~jnp.broadcast_to(draw(word_source(key, words), rate), words),
        words,
        jax.random.key_data(key),
        rate,
        loop=loop_traced(pair_source(key, words), rate),
    )


def unpack(words: Array, shape: tuple[int, ...]) -> Array:
    """Words of `layout(shape)` -> the boolean draw; axes that were mapped over stay in front."""
    lead, size = layout(shape)
    batch = words.shape[: words.ndim - len(lead) - 1]
    words = words[..., None]
    bits = ((words >> lanes(words.ndim)) & np.uint32(1)) != 0
    bits = bits.reshape(*batch, *lead, words.shape[-2] * LANES)[..., :size]
    return bits.reshape(*batch, *shape)
