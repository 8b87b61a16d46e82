"""Variational dropout: Gaussian noise with a learned variance, on units or on weights."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropout_jax._arrays import safe_sqrt
from dropout_jax._checks import (
    check_broadcasts,
    check_dense,
    check_floating,
    check_key,
    shared_shape,
    wide_dtype,
)
from dropout_jax._sharding import sharding_of, sharding_of_product, spread
from dropout_jax.masks import apply
from dropout_jax.typing import Array, Key


def variational_dropout(
    key: Key, x: ArrayLike, log_alpha: ArrayLike, *, broadcast_dims: Sequence[int] = ()
) -> Array:
    r"""Multiply by Gaussian noise of mean one and a learned variance.

    $$y = x \odot \xi, \qquad \xi_i \sim N(1, \alpha), \qquad \alpha = \min(e^{\log\alpha}, 1).$$
    It is `gaussian_dropout` at alpha = rate / (1 - rate), differentiable in log_alpha. With one
    draw a unit and example this is the paper's type A: the weights of one unit share their noise.
    At inference use x as it is.

    Args:
      key: from `jax.random.key`.
      x: floating-point, any shape.
      log_alpha: a number, or an array that broadcasts against the draw. Above 0 it acts as 0, with
        no gradient, as the paper's alpha stays at most 1.
      broadcast_dims: axes that share one draw.

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError: `key` is missing or not a key; x does not hold floating-point numbers.
      ValueError: an axis out of range or repeated; a log_alpha that does not broadcast against the
        draw.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> y = dj.variational_dropout(jax.random.key(0), jnp.ones(1000), jnp.log(0.25))
      >>> bool(0.4 < y.std() < 0.6)
      True

    Source: Kingma, Salimans and Welling 2015, "Variational Dropout and the Local
    Reparameterization Trick".
    """
    key = check_key(key)
    x = check_floating(x)
    drawn = shared_shape(x.shape, broadcast_dims)
    check_broadcasts("log_alpha", jnp.shape(log_alpha), drawn)
    return spread(sharding_of(x), _multiply_noise, key, x, log_alpha, drawn)


@functools.partial(jax.jit, static_argnums=3)
def _multiply_noise(key, x, log_alpha, drawn):
    dtype = jnp.finfo(wide_dtype(x)).dtype
    stddev = jnp.exp(_at_most_one(jnp.asarray(log_alpha, dtype)) / 2)
    noise = 1 + jnp.broadcast_to(stddev, drawn) * jax.random.normal(key, drawn, dtype)
    return apply.multiply(x, jnp.ones((), bool), noise)


def variational_dense(key: Key, x: ArrayLike, kernel: ArrayLike, log_alpha: Array) -> Array:
    r"""A dense layer without bias whose weights have Gaussian noise, drawn at its outputs.

    $$u \sim N\!\left(x W,\; (x \odot x)(\alpha \odot W \odot W)\right), \qquad
      \alpha = \min(e^{\log\alpha}, 1),$$
    which is the law of x W' for W'_ij ~ N(W_ij, alpha_ij W_ij^2) drawn for each example (the local
    reparameterisation): the paper's type B, at one draw an output instead of one a weight.

    Args:
      key: from `jax.random.key`.
      x: floating-point (..., in).
      kernel: W, floating-point (in, out).
      log_alpha: a number, or an array that broadcasts against the kernel. Above 0 it acts as 0.

    Returns:
      An array (..., out).

    Raises:
      TypeError: `key` is missing or not a key; x or kernel do not hold floating-point
        numbers.
      ValueError: shapes that do not fit.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> x, kernel = jnp.ones((4, 8)), jnp.ones((8, 2))
      >>> dj.variational_dense(jax.random.key(0), x, kernel, -1.0).shape
      (4, 2)

    Source: Kingma, Salimans and Welling 2015, as `variational_dropout`.
    """
    key = check_key(key)
    x, kernel = check_noisy(x, kernel, log_alpha, "log_alpha")
    return spread(sharding_of_product(x, kernel), _variational, key, x, kernel, log_alpha)


@jax.jit
def _variational(key, x, kernel, log_alpha):
    kernel_wide = kernel.astype(wide_dtype(kernel))
    alpha = jnp.exp(_at_most_one(jnp.asarray(log_alpha, kernel_wide.dtype)))
    return draw_outputs(key, x, kernel, jnp.broadcast_to(alpha, kernel.shape) * kernel_wide**2)


def variational_kl(log_alpha: ArrayLike) -> Array:
    r"""KL divergence to the log-uniform prior, of each noisy weight or unit, up to a constant.

    $$\text{KL} = -\tfrac12 \log\alpha - c_1 \alpha - c_2 \alpha^2 - c_3 \alpha^3, \qquad
      \alpha = \min(e^{\log\alpha}, 1),$$
    c = (1.16145124, -1.50204118, 0.58629921). It asks for more noise. To the mean over N training
    examples of the negative log likelihood add its sum over N. Up to the constant it is within
    0.021 of the exact divergence.

    Args:
      log_alpha: any shape, an element for each weight or unit with noise of its own. Above 0 it
        acts as 0, where the cubic stops to hold.

    Returns:
      An array of that shape, in float32 or wider.

    Raises:
      TypeError: a log_alpha that is not an array of numbers.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> kl = dj.variational_kl(jnp.array([-4.0, -2.0]))
      >>> bool(kl[0] > kl[1])
      True

    Source: Kingma, Salimans and Welling 2015, as `variational_dropout`: its approximation
    to the divergence.
    """
    log_alpha = _at_most_one(jnp.asarray(log_alpha, wide_dtype(log_alpha)))
    alpha = jnp.exp(log_alpha)
    cubic = alpha * (1.16145124 + alpha * (-1.50204118 + alpha * 0.58629921))
    return -log_alpha / 2 - cubic


def draw_outputs(key: Key, x: Array, kernel: Array, variance: Array) -> Array:
    """A draw of N(x W, (x * x) variance): a dense layer whose weights have that variance."""
    dtype = wide_dtype(jnp.result_type(x, kernel))
    x_wide = x.astype(dtype)
    stddev = safe_sqrt((x_wide * x_wide) @ variance.astype(dtype))
    noise = jax.random.normal(key, stddev.shape, dtype)
    return (x_wide @ kernel.astype(dtype) + stddev * noise).astype(jnp.result_type(x, kernel))


def check_noisy(x: ArrayLike, kernel: ArrayLike, array: Array, name: str) -> tuple[Array, Array]:
    """x and kernel as arrays, or an error; `array` must broadcast against the kernel."""
    x, kernel = check_dense(x, kernel)
    check_broadcasts(name, jnp.shape(array), kernel.shape)
    return x, kernel


def _at_most_one(log_alpha):
    return jnp.minimum(log_alpha, 0)
