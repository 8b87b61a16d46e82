"""Concrete dropout: learn the dropout rate by gradient descent, through a relaxed mask."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dropout_jax._checks import (
    check_broadcasts,
    check_count,
    check_floating,
    check_key,
    check_positive,
    is_traced,
    shared_shape,
    wide_dtype,
)
from dropout_jax._sharding import sharding_of, spread
from dropout_jax.masks import apply
from dropout_jax.typing import Array, Key, Rate

LARGEST_LOGIT = 40.0
"""The largest logit in use: a rate 4e-18 away from 0 or 1, where everything stays finite."""
SMALLEST_TEMPERATURE = 1e-6


def concrete_dropout(
    key: Key,
    x: ArrayLike,
    logit_rate: ArrayLike,
    *,
    temperature: Rate = 0.1,
    broadcast_dims: Sequence[int] = (),
) -> Array:
    r"""Dropout with a soft mask, differentiable in the rate.

    $$y = x \odot \frac{1 - z}{1 - r}, \qquad
      z_i = \sigma\!\left(\frac{\text{logit}\,r + \text{logit}\,u_i}{t}\right), \quad
      u_i \sim U(0, 1), \quad r = \sigma(\text{logit rate}).$$
    As the temperature t tends to 0, z tends to Bernoulli(r), and y to `dropout` at rate r. At a
    positive temperature the noise has mean one at rate 1/2 only; at temperature 0.1 its mean lies
    between 0.997 and 1.017 at every rate. At inference use x as it is, or average over draws as the
    paper does.

    Args:
      key: from `jax.random.key`.
      x: floating-point, any shape.
      logit_rate: log(r / (1 - r)): a number, or an array that broadcasts against the draw.
        Differentiable; beyond +-40 it acts as +-40, with a gradient of 0.
      temperature: t, in (0, 1]; a traced one is clipped to [1e-6, 1].
      broadcast_dims: axes that share one draw.

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError: `key` is missing or not a key; x does not hold floating-point numbers.
      ValueError: a temperature outside (0, 1]; an axis out of range or repeated; a logit_rate that
        does not broadcast against the draw.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> def mean_square(logit_rate):
      ...     y = dj.concrete_dropout(jax.random.key(0), jnp.ones(1000), logit_rate)
      ...     return (y**2).mean()
      >>> bool(jax.grad(mean_square)(0.0) > 0)  # more noise
      True

    Source: Gal, Hron and Kendall 2017, "Concrete Dropout", with the scaling of their code.
    """
    key = check_key(key)
    x = check_floating(x)
    drawn = shared_shape(x.shape, broadcast_dims)
    check_broadcasts("logit_rate", jnp.shape(logit_rate), drawn)
    check_temperature(temperature)
    arguments = (key, x, logit_rate, temperature, drawn)
    return spread(sharding_of(x), _multiply_relaxed, *arguments)


@functools.partial(jax.jit, static_argnums=4)
def _multiply_relaxed(key, x, logit_rate, temperature, drawn):
    dtype = jnp.finfo(wide_dtype(x)).dtype
    logit = jnp.broadcast_to(_bounded(logit_rate, dtype), drawn)
    temperature = jnp.clip(jnp.asarray(temperature, dtype), SMALLEST_TEMPERATURE, 1)
    logit_z = (logit + jax.random.logistic(key, drawn, dtype)) / temperature
    # (1 - z) / (1 - r) in logarithms: with t <= 1 it overflows at no logit.
    noise = jnp.exp(jax.nn.softplus(logit) - jax.nn.softplus(logit_z))
    return apply.multiply(x, jnp.ones((), bool), noise)


def check_temperature(temperature: Rate) -> Rate:
    """Return `temperature`, or raise if a concrete value of it lies outside (0, 1]."""
    check_broadcasts("temperature", jnp.shape(temperature), ())
    if not is_traced(temperature) and not 0 < np.asarray(temperature) <= 1:
        raise ValueError(
            f"temperature is {temperature}, and must lie over 0 and up to 1: write 0.1, or use "
            "dropout for the limit 0."
        )
    return temperature


def concrete_kl(
    kernel: ArrayLike, logit_rate: Array, *, length_scale: Rate, inputs: int | None = None
) -> Array:
    r"""KL divergence to the prior of a layer that follows `concrete_dropout`, up to a constant.

    $$\text{KL} = \frac{l^2}{2 (1 - r)} \lVert W \rVert^2 - K\,H(r), \qquad
      H(r) = -r \log r - (1 - r) \log(1 - r).$$
    The weights pull the rate towards 0, the entropy towards 1/2; without this term in the loss the
    rate falls to 0. To the mean over N training examples of the negative log likelihood add KL / N;
    to the mean squared error, for observation noise of precision tau, add 2 KL / (N tau).

    Args:
      kernel: W, the weights that the noisy units feed, floating-point (..., in, out).
      logit_rate: log(r / (1 - r)), a number; or an array (in,), a rate for each unit, whose
        entropies are then summed.
      length_scale: l, of the Gaussian prior over the weights, > 0; greater pulls them to 0.
      inputs: K, the number of noisy units, by default the `in` of the kernel's shape. Write it for
        a kernel of another form: in_features of a grouped convolution, whose kernel has in /
        groups; the product of the input axes of a linear layer with several.

    Returns:
      A scalar, in float32 or wider.

    Raises:
      TypeError: a kernel that does not hold floating-point numbers.
      ValueError: a kernel with fewer than two axes; a logit_rate that does not broadcast against
        (in,); a concrete length_scale that is not positive; `inputs` that is not a whole number
        over 0, or is given with an array of rates.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> round(float(dj.concrete_kl(jnp.zeros((3, 2)), 0.0, length_scale=0.01)) / 3, 4)
      -0.6931

    Source: Gal, Hron and Kendall 2017, "Concrete Dropout". Their code has the coefficients
    l^2 / (N tau) and 2 / (N tau), for squared error: ours times 2 / (N tau).
    """
    kernel = check_floating(kernel, "kernel")
    if kernel.ndim < 2:
        raise ValueError(f"kernel has shape {kernel.shape}; write it as (..., in, out).")
    units = kernel.shape[-2:-1] if inputs is None else ()
    check_broadcasts("logit_rate", jnp.shape(logit_rate), units)
    check_positive("length_scale", length_scale, 0.01)
    each = 1 if inputs is None else check_count("inputs", inputs, 8)
    dtype = wide_dtype(kernel)
    logit = jnp.broadcast_to(_bounded(logit_rate, dtype), units)
    others = (*range(kernel.ndim - 2), -1) if units else None
    squares = jnp.sum(kernel.astype(dtype) ** 2, axis=others)
    weights = jnp.sum(jnp.exp(jax.nn.softplus(logit)) * squares) * (length_scale**2 / 2)
    # log r and log(1 - r) by softplus, since 1 - r rounds to 0
    entropies = jax.nn.sigmoid(logit) * jax.nn.softplus(-logit)
    entropies += jax.nn.sigmoid(-logit) * jax.nn.softplus(logit)
    return weights - each * jnp.sum(entropies)


def _bounded(logit, dtype):
    return jnp.clip(jnp.asarray(logit, dtype), -LARGEST_LOGIT, LARGEST_LOGIT)
