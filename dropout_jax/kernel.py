"""`dropout` as one kernel of an NVIDIA GPU, bit for bit the same.

XLA draws the words in a kernel of its own, which waits for nothing but arithmetic, and multiplies
in a second one, which waits for nothing but memory. Here both are one, written with Pallas, so that
the hashes of some blocks are computed while the numbers of others are on their way. The backward
pass is XLA's: it reads the words, and is bound by memory already.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

try:
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton
except ImportError:  # of a JAX that has done without it, as 0.11 announces
    triton = None
if not hasattr(jax.typeof(0), "manual_axis_type"):  # before JAX 0.10
    triton = None
from jax.typing import ArrayLike

from dropout_jax._checks import is_static
from dropout_jax.masks import apply, bits, packed, threefry
from dropout_jax.noise.dropout import dropout as dropout_of_xla
from dropout_jax.typing import Array, Key, Rate

WORDS, WARPS = 128, 4  # of a block: a word a thread
READ = 16  # bytes that a thread reads at a time


def dropout(key: Key, x: ArrayLike, rate: Rate) -> Array:
    r"""`dropout_jax.dropout`, in one pass over x on an NVIDIA GPU.

    $$y = m \odot x / (1 - \text{rate}), \qquad m_i \sim \text{Bernoulli}(1 - \text{rate}),$$
    with the mask, the values and the gradients of `dropout_jax.dropout` for the same key. XLA fuses
    no work of the neighbours into the kernel and does not partition it: over several devices it
    belongs inside `jax.shard_map`. Elsewhere, and for what the kernel cannot do, it is
    `dropout_jax.dropout`, as it is with a JAX that has dropped Pallas's Triton backend, of which
    0.11 warns. On an H200, alone, 8192x8192 bfloat16 take it 75 us at any rate, and a copy 69;
    `dropout_jax.dropout` takes 93 at rates of 0.25 and 0.5, and 119 at 0.1, 0.2 and 0.9. In a
    network that one is the better choice, whose multiplication is fused with the neighbours.

    Args:
      key: a typed key; the kernel makes draws of threefry.
      x: floating-point. The kernel takes numbers of 16 or 32 bits, a multiple of 4096 of them, in
        rows of a multiple of 32.
      rate: probability of dropping, in [0, 1]. The kernel takes Python numbers.

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError, ValueError: as `dropout_jax.dropout`.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> key, x = jax.random.key(0), jnp.ones((8, 1024))
      >>> bool((dj.kernel.dropout(key, x, 0.1) == dj.dropout(key, x, 0.1)).all())
      True

    Source: Srivastava et al. 2014, section 4, with the scaling of section 10.
    """
    return _apply(key, x, float(rate)) if fits(key, x, rate) else dropout_of_xla(key, x, rate)


def fits(key: Key, x: ArrayLike, rate: Rate) -> bool:
    """Whether the kernel can make this draw; bad inputs do not fit, and XLA's function says why."""
    return (
        triton is not None
        and is_static(rate)
        and 0 < float(np.float32(rate)) < 1
        and isinstance(key, jax.Array)
        and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        and key.ndim == 0
        and jax.random.key_impl(key) == "threefry2x32"
        and isinstance(x, jax.Array)
        and x.dtype in (jnp.float32, jnp.bfloat16, jnp.float16)
        and x.ndim > 0
        and isinstance(x.size, int)  # jax.export may not know it
        and x.size > 0
        and x.shape[-1] % bits.LANES == 0
        and x.size % (WORDS * bits.LANES) == 0
        and not any(jax.typeof(x).sharding.spec)
    )


@functools.partial(jax.jit, static_argnums=2)  # so that a call outside jit is one dispatch
def _apply(key: Key, x: Array, rate: float) -> Array:
    return lax.platform_dependent(
        key,
        x,
        cuda=lambda key, x: values(key, x, rate),
        default=lambda key, x: dropout_of_xla(key, x, rate),
    )


def values(key: Key, x: Array, rate: float, interpret: bool = False) -> Array:
    y, words = values_and_words(key, lax.stop_gradient(x), rate, interpret)
    return _product(rate, x, words, y)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _product(rate: float, x: Array, words: Array, y: Array) -> Array:
    """y, which is known to be x times the mask of the words over keep."""
    return y


@_product.defjvp
def _product_jvp(rate, primals, tangents):
    (x, words, _), (dx, _, _) = primals, tangents
    mask, scale = packed.PackedMask(words, x.shape, x.shape), apply.scale_of(rate, x.dtype)
    # By its own rule, which keeps the words; called on dx, it would be looked into and keep bytes.
    dy = jax.jvp(lambda x: apply.multiply(x, mask, scale), (x,), (dx,))[1]
    return _product(rate, *primals), dy


def values_and_words(key: Key, x: Array, rate: float, interpret: bool) -> tuple[Array, Array]:
    """y, and the words of `bits.keep_words`."""
    assert triton is not None  # `fits` has seen to that
    key_data = jax.random.key_data(key)
    # Inside shard_map what comes out varies over the devices as what goes in does.
    varies = jax.typeof(key_data[0] + jnp.zeros_like(x.ravel()[0], jnp.uint32)).manual_axis_type
    result = functools.partial(jax.ShapeDtypeStruct, manual_axis_type=varies)
    blocks, group = x.size // (WORDS * bits.LANES), READ // x.dtype.itemsize
    groups = WORDS * bits.LANES // group
    numbers = pl.BlockSpec((groups, group), lambda i: (i, 0))
    everywhere = functools.partial(pl.BlockSpec, index_map=lambda i: (0,))
    y, words = pl.pallas_call(
        functools.partial(_block, rate=np.float32(rate)),
        grid=(blocks,),
        in_specs=[everywhere((2,)), everywhere((1,)), numbers],
        out_specs=[numbers, pl.BlockSpec((WORDS,), lambda i: (i,))],
        out_shape=[
            result((blocks * groups, group), x.dtype),
            result((blocks * WORDS,), jnp.uint32),
        ],
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        interpret=interpret,
    )(key_data, jnp.full(1, apply.scale_of(rate, x.dtype)), x.reshape(-1, group))
    return y.reshape(x.shape), words.reshape(bits.layout(x.shape).words)


def _block(key_ref, scale_ref, x_ref, y_ref, words_ref, *, rate: np.float32):
    """Every thread draws a word, and hands it on to the threads that have its elements.

    The numbers are asked for first: the compiler may put that off, but not until the block has
    waited for its words. The scale is read: with a constant the compiler would choose after the
    rounding, one more instruction an element.
    """
    x = x_ref[...].astype(jnp.float32)
    first = pl.program_id(0).astype(jnp.uint32) * np.uint32(WORDS)
    counter = first + lax.broadcasted_iota(jnp.uint32, (WORDS,), 0)
    source = threefry.threefry_source((key_ref[0], key_ref[1]), counter)
    words = ~bits.fold_static(source, rate)
    words_ref[...] = words
    groups, group = x.shape
    words = jnp.broadcast_to(words[:, None], (WORDS, groups // WORDS)).reshape(groups)
    place = lax.broadcasted_iota(jnp.uint32, words.shape, 0) % np.uint32(groups // WORDS)
    words >>= place * np.uint32(group)
    lane = lax.broadcasted_iota(jnp.uint32, x.shape, 1)
    kept = words[:, None] >> lane & np.uint32(1) != 0
    y_ref[...] = (jnp.where(kept, x, 0) * scale_ref[0]).astype(y_ref.dtype)
