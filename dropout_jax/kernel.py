"""`dropout` as one kernel of an NVIDIA GPU, bit for bit the same.

XLA draws the words in a kernel of its own, which waits for nothing but arithmetic, and multiplies
in a second one, which waits for nothing but memory. Here both are one, written with Pallas, so that
the hashes of some blocks are computed while the numbers of others are on their way. The backward
pass is XLA's: it reads the words, and is bound by memory already. It is written for Pallas' Triton
backend, of which JAX 0.11 says that a later version will remove it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dropout_jax import bits, masks
from dropout_jax._typing import Array, Key, Rate, is_static
from dropout_jax.dropout import dropout as dropout_of_xla

WORDS, WARPS = 128, 4  # of a block: a word a thread
GROUP = 8  # elements read at a time: 16 bytes of bfloat16


def dropout(key: Key, x: Array, rate: Rate) -> Array:
    r"""`dropout_jax.dropout`, in one pass over x on an NVIDIA GPU.

    $$y = m \odot x / (1 - \text{rate}), \qquad m_i \sim \text{Bernoulli}(1 - \text{rate}),$$
    with the mask, the values and the gradients of `dropout_jax.dropout` for the same key. It is for
    large arrays that nothing but dropout reads and writes: XLA fuses no work of the neighbours
    into the kernel and does not partition it, so that over several devices it belongs inside
    `jax.shard_map`. Elsewhere, and for what the kernel cannot do, it is `dropout_jax.dropout`.

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
    if not fits(key, x, rate):
        return dropout_of_xla(key, x, rate)
    return lax.platform_dependent(
        key,
        x,
        cuda=lambda key, x: values_and_words(key, x, float(rate))[0],
        default=lambda key, x: dropout_of_xla(key, x, rate),
    )


def fits(key: Key, x: Array, rate: Rate) -> bool:
    """Whether the kernel can make this draw; bad inputs do not fit, and XLA's function says why."""
    return (
        is_static(rate)
        and 0 < np.float32(rate) < 1
        and jnp.issubdtype(getattr(key, "dtype", None), jax.dtypes.prng_key)
        and key.ndim == 0
        and jax.random.key_impl(key) == "threefry2x32"
        and isinstance(x, jax.Array)
        and x.dtype in (jnp.float32, jnp.bfloat16, jnp.float16)
        and x.ndim > 0
        and x.shape[-1] % bits.LANES == 0
        and x.size % (WORDS * bits.LANES) == 0
        and 0 < x.size < 2**31  # Triton counts elements in int32
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def values_and_words(
    key: Key, x: Array, rate: float, interpret: bool = False
) -> tuple[Array, Array]:
    """y, and the words of `bits.keep_words`."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    blocks, groups = x.size // (WORDS * bits.LANES), WORDS * bits.LANES // GROUP
    numbers = pl.BlockSpec((groups, GROUP), lambda i: (i, 0))
    y, words = pl.pallas_call(
        functools.partial(_block, rate=np.float32(rate), interpret=interpret),
        grid=blocks,
        in_specs=[pl.BlockSpec((2,), lambda i: (0,)), numbers],
        out_specs=[numbers, pl.BlockSpec((WORDS,), lambda i: (i,))],
        out_shape=[
            jax.ShapeDtypeStruct((blocks * groups, GROUP), x.dtype),
            jax.ShapeDtypeStruct((blocks * WORDS,), jnp.uint32),
        ],
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        interpret=interpret,
    )(jax.random.key_data(key), x.reshape(-1, GROUP))
    return y.reshape(x.shape), words.reshape(bits.layout(x.shape).words)


@values_and_words.defjvp
def _jvp(rate, interpret, primals, tangents):
    (key, x), (_, dx) = primals, tangents
    y, words = values_and_words(key, x, rate, interpret)
    mask = masks.PackedMask(words, x.shape, x.shape)
    dy = masks.multiply(dx, mask, masks.scale_of(rate, x.dtype))
    return (y, words), (dy, np.zeros(words.shape, jax.dtypes.float0))


def _block(key_ref, x_ref, y_ref, words_ref, *, rate: np.float32, interpret: bool):
    """Every thread draws a word, and reads those of its elements when all are there."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    first = pl.program_id(0).astype(jnp.uint32) * np.uint32(WORDS)
    counter = first + lax.broadcasted_iota(jnp.uint32, (WORDS,), 0)
    source = bits.threefry_source((key_ref[0], key_ref[1]), counter)
    words_ref[...] = ~bits.fold_static(source, rate)
    if not interpret:  # one block after another, each line as a whole
        triton.debug_barrier()
    group = lax.broadcasted_iota(jnp.int32, x_ref.shape[:1], 0)
    a_word = bits.LANES // GROUP
    words = words_ref[group // a_word] >> (group % a_word * GROUP).astype(jnp.uint32)
    lane = lax.broadcasted_iota(jnp.uint32, x_ref.shape, 1)
    kept = words[:, None] >> lane & np.uint32(1) != 0
    x = x_ref[...].astype(jnp.float32) * masks.scale_of(rate, x_ref.dtype)
    y_ref[...] = jnp.where(kept, x, 0).astype(y_ref.dtype)
