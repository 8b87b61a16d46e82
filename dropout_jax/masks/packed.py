"""Dropout masks as values: draw, pack to one bit an element, unpack. True means kept."""

import ast
import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.export
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from dropout_jax._checks import (
    check_broadcasts,
    check_key,
    check_rate,
    consumed,
    is_static,
    shared_shape,
)
from dropout_jax._sharding import check_sharding, parts, sharding_of, spread
from dropout_jax.masks import bits
from dropout_jax.typing import Array, Key, Rate


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["words"], meta_fields=["shape", "drawn"]
)
@dataclasses.dataclass(frozen=True)
class PackedMask:
    """A mask of one bit an element: a pytree with one uint32 leaf, to save, scan over or reuse.

    Made by `packed_mask`.

    Attributes:
      words: uint32, 32 mask bits each; axes that `jax.vmap` mapped over come first.
      shape: the mask's shape, static.
      drawn: the same with 1 for the axes that share a draw, static.

    Example:
      >>> import dropout_jax as dj, jax
      >>> mask = dj.packed_mask(jax.random.key(0), 0.5, (3, 100))
      >>> jax.tree.map(jax.numpy.shape, mask).words
      (3, 4)
    """

    words: Array
    shape: tuple[int, ...]
    drawn: tuple[int, ...]

    def unpack(self) -> Array:
        """The mask as booleans of `shape`, behind any axes that were mapped over."""
        where, more = sharding_of(self.words), len(self.drawn) - len(bits.layout(self.drawn).words)
        spec = (*where.spec, *(None,) * more)[: self.words.ndim + more]
        where = where.update(spec=PartitionSpec(*spec))
        return spread(where, _unpack, self.words, self.shape, self.drawn)


def _unpack(words, shape, drawn):
    mask = bits.unpack(words, drawn)
    return jnp.broadcast_to(mask, mask.shape[: mask.ndim - len(shape)] + shape)


# So that a function that takes or returns a mask can be exported.
jax.export.register_pytree_node_serialization(
    PackedMask,
    serialized_name="dropout_jax.PackedMask",
    serialize_auxdata=lambda shapes: repr(shapes).encode(),
    deserialize_auxdata=lambda text: ast.literal_eval(text.decode()),
)


def packed_mask(
    key: Key,
    rate: Rate,
    shape: Sequence[int],
    *,
    broadcast_dims: Sequence[int] = (),
    out_sharding: NamedSharding | PartitionSpec | None = None,
) -> PackedMask:
    r"""A mask held as one bit an element.

    $$m_i \sim \text{Bernoulli}(1 - \text{rate}),$$
    exactly, for every float32 rate of 2^-24 or more (a smaller one is rounded to a multiple of
    2^-47). Two elements in one 32-bit word with the same rate have a correlation under 2^-14; all
    others are independent, as far as the random generator goes.

    Args:
      key: from `jax.random.key`.
      rate: probability of dropping, in [0, 1]: a Python number, a traced scalar, or an array that
        broadcasts against `shape`.
      shape: the mask's shape, any number of axes.
      broadcast_dims: axes that share one draw.
      out_sharding: how the mask is divided over a mesh of explicit axes, as `jax.random` takes it;
        that of the rate unless given. Words are divided along the last axis where none is cut.

    Returns:
      A `PackedMask`; `.unpack()` gives booleans of `shape`, True for kept.

    Raises:
      TypeError: `key` is missing or not a key.
      ValueError: a concrete rate outside [0, 1]; an axis out of range or repeated; a rate that
        does not broadcast against the draw.

    Example:
      >>> import dropout_jax as dj, jax
      >>> mask = dj.packed_mask(jax.random.key(0), 0.5, (4, 64))
      >>> mask.words.shape, mask.unpack().shape
      ((4, 2), (4, 64))

    Source: the masks r of Srivastava et al. 2014, section 4, equation for r^(l); the fold is
    described in `dropout_jax.masks.bits`.
    """
    key = check_key(key)
    check_rate(rate)
    drawn = shared_shape(shape, broadcast_dims)
    shape = tuple(shape)
    where = check_sharding(out_sharding, shape)
    if is_static(rate):
        words = spread(_of_words(where, drawn), _words_static, consumed(key), float(rate), drawn)
        return PackedMask(words, shape, drawn)
    rate = jnp.asarray(rate)
    check_broadcasts("rate", rate.shape, drawn)
    where = _of_words(where or _as_rate(rate, drawn), drawn)
    return PackedMask(spread(where, _words_traced, consumed(key), rate, drawn), shape, drawn)


def _as_rate(rate: Array, drawn: tuple[int, ...]) -> NamedSharding:
    """The sharding of a draw that is divided as its rates are."""
    where = sharding_of(rate)
    return where.update(spec=PartitionSpec(*(None,) * (len(drawn) - rate.ndim), *where.spec))


def _of_words(where: NamedSharding | None, drawn: tuple[int, ...]) -> NamedSharding | None:
    """The sharding of the words of a draw: whole along axes that share a draw or lanes."""
    if where is None:
        return None
    lead, size = bits.layout(drawn)
    spec = [part if n > 1 else None for part, n in zip(where.spec, drawn, strict=True)]
    alone = len(lead) == len(drawn) - 1 and size % (bits.LANES * parts(where, -1)) == 0
    last = spec[-1] if alone else None
    return where.update(spec=PartitionSpec(*spec[: len(lead)], last))


# Jitted, so that a call outside jit is one dispatch.
_words_static = jax.jit(bits.keep_words, static_argnums=(1, 2))
_words_traced = jax.jit(bits.keep_words, static_argnums=2)


def bernoulli_mask(
    key: Key,
    rate: Rate,
    shape: Sequence[int],
    *,
    broadcast_dims: Sequence[int] = (),
    out_sharding: NamedSharding | PartitionSpec | None = None,
) -> Array:
    r"""A boolean mask, True = kept: exactly the mask that `dropout` uses for that key.

    $$m_i \sim \text{Bernoulli}(1 - \text{rate}).$$

    Args:
      key: from `jax.random.key`.
      rate: probability of dropping, in [0, 1]: a Python number, a traced scalar, or an array that
        broadcasts against `shape`.
      shape: the mask's shape.
      broadcast_dims: axes that share one draw.
      out_sharding: how the mask is divided over a mesh of explicit axes, as `jax.random` takes it;
        that of the rate unless given.

    Returns:
      Booleans of `shape`.

    Raises:
      TypeError, ValueError: as `packed_mask`.

    Example:
      >>> import dropout_jax as dj, jax
      >>> dj.bernoulli_mask(jax.random.key(0), 0.5, (2, 3)).dtype
      dtype('bool')

    Source: Srivastava et al. 2014, section 4.
    """
    sharing = {"broadcast_dims": broadcast_dims, "out_sharding": out_sharding}
    mask = packed_mask(key, rate, shape, **sharing).unpack()
    return mask if out_sharding is None else jax.sharding.reshard(mask, out_sharding)
