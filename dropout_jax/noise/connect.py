"""DropConnect: drop weights instead of units, and its inference by Gaussian moments."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike

from dropout_jax._arrays import safe_sqrt
from dropout_jax._checks import (
    check_broadcasts,
    check_choice,
    check_count,
    check_dense,
    check_floating,
    check_key,
    check_order,
    check_rate,
    is_static,
    wide_dtype,
)
from dropout_jax._sharding import sharding_of_product, spread
from dropout_jax._xla import recomputed
from dropout_jax.masks import apply, packed
from dropout_jax.noise.dropout import dropout
from dropout_jax.typing import Array, Key, Rate


def drop_connect(key: Key, weights: Array, rate: Rate) -> Array:
    r"""Drop each weight with probability `rate`, and scale the others up: mean one.

    $$W' = M \odot W / (1 - \text{rate}), \qquad M_{ij} \sim \text{Bernoulli}(1 - \text{rate}).$$
    It serves any layer; all of its inputs see the same mask.

    Args:
      key: from `jax.random.key`.
      weights: floating-point, any shape.
      rate: probability of dropping, in [0, 1]: a Python number, a traced scalar, or an array that
        broadcasts against `weights`. Not differentiated.

    Returns:
      An array of the weights' shape and dtype.

    Raises:
      TypeError, ValueError: as `dropout`.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> kernel = dj.drop_connect(jax.random.key(0), jnp.ones((30, 30)), 0.5)
      >>> sorted(set(kernel.ravel().tolist()))
      [0.0, 2.0]

    Source: Wan et al. 2013, "Regularization of Neural Networks using DropConnect",
    r = a((M * W) v), scaled in training.
    """
    check_order(weights, rate)
    return dropout(key, check_floating(weights, "weights"), rate)


def drop_connect_dense(
    key: Key,
    x: ArrayLike,
    kernel: ArrayLike,
    rate: Rate,
    *,
    per: Literal["example", "batch"] = "example",
) -> Array:
    r"""A dense layer without bias whose weights are dropped: the mean is that of x W.

    $$u_n = x_n\,(M_n \odot W) / (1 - \text{rate}), \qquad
      M_{nij} \sim \text{Bernoulli}(1 - \text{rate}).$$
    The paper draws a mask an example, which costs in * out bits for each, and as many
    multiplications by masked weights: 1024 to 1024 units take 128 KiB of mask an example. One mask
    a batch costs no more than the layer.

    Args:
      key: from `jax.random.key`.
      x: floating-point (..., in).
      kernel: floating-point (in, out).
      rate: probability of dropping a weight, in [0, 1]: a Python number, a traced scalar, or an
        array that broadcasts against the kernel. Not differentiated.
      per: "example", one mask for each of the leading indices of x, as in the paper; or "batch",
        one for all.

    Returns:
      An array (..., out).

    Raises:
      TypeError: `key` is not a key; x or kernel do not hold floating-point numbers.
      ValueError: a concrete rate outside [0, 1]; shapes that do not fit; an unknown `per`.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> x, kernel = jnp.ones((4, 8)), jnp.ones((8, 2))
      >>> dj.drop_connect_dense(jax.random.key(0), x, kernel, 0.5).shape
      (4, 2)

    Source: Wan et al. 2013, as `drop_connect`.
    """
    key = check_key(key)
    x, kernel = check_dense(x, kernel)
    check_rate(rate)
    check_broadcasts("rate", jnp.shape(rate), kernel.shape)
    check_choice("per", per, "example", "batch")
    shared = per == "batch" or (is_static(rate) and rate in (0, 1))  # where all masks are equal
    multiply = _multiply_shared if shared else _multiply_each
    return spread(sharding_of_product(x, kernel), multiply, key, x, kernel, rate)


def _multiply_shared(key, x, kernel, rate):
    return x @ drop_connect(key, kernel, rate)


def _multiply_each(key, x, kernel, rate):
    mask = packed.packed_mask(key, rate, (*x.shape[:-1], *kernel.shape))
    return _multiply_by_masks(mask, x, kernel, apply.scale_of(rate, kernel.dtype))


@jax.jit
@recomputed  # keeps the packed masks, not the masked weights
def _multiply_by_masks(mask, x, kernel, scale):
    kernels = apply.multiply(jnp.broadcast_to(kernel, mask.shape), mask, scale)
    return jnp.einsum("...i,...io->...o", x, kernels)


def drop_connect_moments(
    key: Key,
    x: ArrayLike,
    kernel: ArrayLike,
    rate: Rate,
    activation: Callable[[Array], Array],
    samples: int,
) -> Array:
    r"""Inference with DropConnect: the activation averaged over a Gaussian of the same moments.

    $$r = \frac{1}{Z} \sum_{z=1}^{Z} a(u_z), \qquad
      u_z \sim N\!\left(x W,\; \frac{\text{rate}}{1 - \text{rate}}\,(x \odot x)(W \odot W)\right).$$
    The sum over many weights is nearly Gaussian, and its two moments are exact. A bias belongs to
    the activation: `lambda u: jax.nn.relu(u + bias)`. At rate 1 it is a(0).

    Args:
      key: from `jax.random.key`.
      x: floating-point (..., in).
      kernel: floating-point (in, out).
      rate: the rate of training, in [0, 1]: a Python number, a traced scalar, or an array that
        broadcasts against (..., out). Not differentiated.
      activation: a, from (..., out) to any shape.
      samples: Z, the draws averaged, >= 1.

    Returns:
      An array of the activation's shape.

    Raises:
      TypeError: `key` is not a key; x or kernel do not hold floating-point numbers.
      ValueError: a concrete rate outside [0, 1]; shapes that do not fit; samples below 1.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> x, kernel = jnp.ones((4, 8)), jnp.ones((8, 2))
      >>> dj.drop_connect_moments(jax.random.key(0), x, kernel, 0.5, jax.nn.relu, 100).shape
      (4, 2)

    Source: Wan et al. 2013, as `drop_connect`, where u ~ N(p W v, p (1 - p) (W * W)
    (v * v)); ours is divided by p, and its variance by p^2, as scaled training does.
    """
    key = check_key(key)
    x, kernel = check_dense(x, kernel)
    check_rate(rate)
    check_broadcasts("rate", jnp.shape(rate), (*x.shape[:-1], kernel.shape[1]))
    check_count("samples", samples, 1000)
    where = sharding_of_product(x, kernel)
    where = where.update(spec=PartitionSpec(None, *where.spec))
    u = spread(where, _gaussian_outputs, key, x, kernel, rate, samples)
    return jnp.mean(jax.vmap(activation)(u), axis=0)


def _gaussian_outputs(key, x, kernel, rate, samples):
    mean, stddev = _moments(x, kernel, rate)
    noise = jax.random.normal(key, (samples, *mean.shape), mean.dtype)
    return (mean[None] + stddev[None] * noise).astype(jnp.result_type(x, kernel))


@jax.jit
def _moments(x, kernel, rate):
    wide = wide_dtype(jnp.result_type(x, kernel))
    x, kernel = x.astype(wide), kernel.astype(wide)
    scale = apply.scale_of(rate, wide)
    factor = jnp.sqrt(jax.lax.stop_gradient(jnp.asarray(rate, scale.dtype)) * scale)
    root = safe_sqrt((x * x) @ (kernel * kernel))
    mean = apply.multiply(x @ kernel, scale > 0, jnp.ones((), scale.dtype))
    return mean, apply.multiply(root, scale > 0, factor)
