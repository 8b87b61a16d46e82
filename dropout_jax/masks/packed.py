"""Dropout masks as values: draw, pack to one bit an element, unpack, apply. True means kept."""

import ast
import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.export
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike

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
    wide_dtype,
)
from dropout_jax._sharding import check_sharding, parts, sharding_of, spread
from dropout_jax._xla import recomputed
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


def apply_mask(x: ArrayLike, mask: ArrayLike | PackedMask, rate: Rate) -> Array:
    r"""Multiply x by a given mask, scaled: what `dropout` does once the mask is drawn.

    $$y = \begin{cases} x / (1 - \text{rate}) & \text{where kept} \\
                        0 & \text{where dropped,} \end{cases}$$
    so that a dropped NaN or infinity becomes 0. The backward pass keeps the mask as it was given:
    one bit an element when it is packed.

    Args:
      x: floating-point, any shape.
      mask: booleans that broadcast against x, or a `PackedMask` of x's shape.
      rate: the rate the mask was drawn with: in [0, 1], or an array that broadcasts against x.
        Not differentiated: the mask depends on it too.

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError: x does not hold floating-point numbers, or the mask is not boolean.
      ValueError: the mask or the rate does not broadcast against x; a concrete rate outside [0, 1].

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> mask = dj.packed_mask(jax.random.key(0), 0.2, (3, 64))
      >>> same = dj.apply_mask(jnp.ones((3, 64)), mask, 0.2)

    Source: Srivastava et al. 2014, section 10 (scaling in training).
    """
    x = check_floating(x)
    check_rate(rate)
    if not isinstance(mask, PackedMask):
        mask = jnp.asarray(check_given(mask, "mask"))
        if mask.dtype != jnp.bool_:
            raise TypeError(f"mask has dtype {mask.dtype}; write mask.astype(bool), True for kept.")
    elif more := mask.words.ndim - len(bits.layout(mask.drawn).words):
        raise ValueError(
            f"mask holds {mask.words.shape[:more]} masks of shape {mask.shape}; map over them: "
            "jax.vmap(apply_mask, (0, 0, None))(x, mask, rate)."
        )
    for name, shape in (("mask", mask.shape), ("rate", jnp.shape(rate))):
        check_broadcasts(name, shape, x.shape)
    return spread(sharding_of(x), multiply, x, mask, scale_of(rate, x.dtype))


def scale_of(rate: Rate, dtype) -> Array:
    """1 / (1 - rate), and 0 where everything is dropped, in float32 or in x's wider precision.

    For all but float64 x this is the factor of the very rate that the mask is drawn with.
    """
    dtype = jnp.finfo(wide_dtype(dtype)).dtype
    if is_static(rate):
        keep = 1 - dtype.type(rate)
        return jnp.asarray(1 / keep if keep > 0 else 0, dtype)
    keep = 1 - jax.lax.stop_gradient(jnp.asarray(rate, dtype))
    return jnp.where(keep > 0, 1 / jnp.where(keep > 0, keep, 1), 0)


@functools.partial(jax.jit, inline=True)
def multiply(x: Array, mask: Array | PackedMask, scale: Array) -> Array:
    """where(mask, x * scale, 0) in x's dtype, rounded once; the backward pass keeps the mask.

    The select comes before the rounding because that is faster on CPU.
    """
    return _multiply(mask, x, scale)


@recomputed
def _multiply(mask, x, scale):
    kept = mask.unpack() if isinstance(mask, PackedMask) else mask
    wide = jnp.promote_types(wide_dtype(x), scale.dtype)
    return jnp.where(aligned(kept, x.ndim), x.astype(wide) * aligned(scale, x.ndim), 0).astype(
        x.dtype
    )
