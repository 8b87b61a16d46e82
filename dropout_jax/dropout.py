"""The paper: masking in training, scaling at inference, both conventions and their map."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from dropout_jax import bits, masks
from dropout_jax._typing import (
    Array,
    Key,
    Rate,
    check_broadcasts,
    check_floating,
    check_keep,
    check_key,
    check_rate,
    is_static,
    shared_shape,
    wide_dtype,
)


def dropout(
    key: Key,
    x: Array,
    rate: Rate,
    *,
    broadcast_dims: Sequence[int] = (),
    residual: Literal["packed", "key"] = "packed",
) -> Array:
    r"""Drop each element with probability `rate`, and scale the others up: mean one.

    $$y = m \odot x / (1 - \text{rate}), \qquad m_i \sim \text{Bernoulli}(1 - \text{rate}).$$
    Nothing is to be done at inference. Dropped elements are 0 even where x is NaN or infinite; the
    factor is applied in float32 or wider and rounded once, so that the mean is right in bfloat16
    too. Everything is finite, in value and gradient, at rates 0 (y = x) and 1 (y = 0).

    Args:
      key: a typed key; the same key gives the same mask under jit, vmap and any sharding.
      x: floating-point, any shape.
      rate: probability of dropping, in [0, 1]: a Python number, a traced scalar, or an array that
        broadcasts against x. Not differentiated.
      broadcast_dims: axes that share one draw; (1, 2) on (batch, height, width, channel) drops
        whole channels.
      residual: what the backward pass keeps: "packed", one bit an element, or "key", nothing but
        the key, for drawing the mask again.

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError: `key` is missing or not a typed key; x does not hold floating-point numbers.
      ValueError: a concrete rate outside [0, 1]; an axis out of range or repeated; a rate that
        does not broadcast against x; an unknown residual.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> y = dj.dropout(jax.random.key(0), jnp.ones(1000), 0.5)
      >>> sorted(set(y.tolist()))
      [0.0, 2.0]

    Source: Srivastava et al. 2014, section 4, with the scaling of section 10.
    """
    if residual not in ("packed", "key"):
        raise ValueError(f"residual is {residual!r}; write 'packed' or 'key'.")
    return _masked(key, x, rate, broadcast_dims, residual, scaled=True)


def dropout_unscaled(
    key: Key, x: Array, rate: Rate, *, broadcast_dims: Sequence[int] = ()
) -> Array:
    r"""The paper's training step: drop with probability `rate`, scale nothing.

    $$y = m \odot x, \qquad m_i \sim \text{Bernoulli}(1 - \text{rate}).$$
    Use the weights of `scale_for_inference` at test time. The mask is that of `dropout` for the
    same key.

    Args:
      key, x, rate, broadcast_dims: as `dropout`.

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError, ValueError: as `dropout`.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> y = dj.dropout_unscaled(jax.random.key(0), jnp.ones(1000), 0.5)
      >>> sorted(set(y.tolist()))
      [0.0, 1.0]

    Source: Srivastava et al. 2014, section 4 (equations for r, y-tilde).
    """
    return _masked(key, x, rate, broadcast_dims, "packed", scaled=False)


def _masked(key, x, rate, broadcast_dims, residual, scaled) -> Array:
    check_key(key)
    x = check_floating(x)
    check_rate(rate)
    drawn = shared_shape(x.shape, broadcast_dims)
    if is_static(rate):
        if rate == 0:
            return x
        if rate == 1:
            return jnp.zeros_like(x)
        return _apply_static(key, x, float(rate), drawn, residual, scaled)
    rate = jnp.asarray(rate)
    check_broadcasts("rate", rate.shape, drawn)
    return _apply_traced(key, x, rate, drawn, residual, scaled)


def _apply(key, x, rate, drawn, residual, scaled):
    def draw_and_multiply(source, x):
        key, *traced = source  # a static rate stays a number: its fold is the cheaper one
        of = traced[0] if traced else rate
        mask = masks.PackedMask(bits.keep_words(key, of, drawn), x.shape, drawn)
        return masks.multiply(x, mask, masks.scale_of(of if scaled else 0.0, x.dtype))

    if residual == "key":
        draw_and_multiply = masks.recomputed(draw_and_multiply)
    return draw_and_multiply((key,) if is_static(rate) else (key, rate), x)


# Jitted, so that a call outside jit is one dispatch.
_apply_static = jax.jit(_apply, static_argnums=(2, 3, 4, 5))
_apply_traced = jax.jit(_apply, static_argnums=(3, 4, 5))


def scale_for_inference(params: Any, keep: Any) -> Any:
    r"""The paper's test-time weights: each weight times the probability its input was kept.

    $$W_\text{test} = \text{keep} \cdot W.$$
    Only for networks trained with `dropout_unscaled`. Biases are not scaled: they have no dropped
    input.

    Args:
      params: a pytree of arrays, or one array. In a pytree, leaves with fewer than two axes
        (biases) are left alone.
      keep: the probability of keeping a unit that *feeds* the weight, in [0, 1]: a number, or a
        pytree prefix of `params` with a number a subtree, such as {"hidden": 0.8, "output": 0.5}.

    Returns:
      A pytree like `params`.

    Raises:
      TypeError: a weight that is not floating-point.
      ValueError: a keep outside [0, 1], or one that is not a prefix of `params`.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> params = {"output": {"kernel": jnp.ones((2, 1)), "bias": jnp.ones(1)}}
      >>> test = dj.scale_for_inference(params, {"output": 0.5})
      >>> test["output"]["kernel"].ravel().tolist(), test["output"]["bias"].tolist()
      ([0.5, 0.5], [1.0])

    Source: Srivastava et al. 2014, section 4, W_test = p W.
    """
    bare = jax.tree.structure(params) == jax.tree.structure(0)

    def scale_subtree(keep, subtree):
        check_keep(keep)
        return jax.tree.map(lambda w: _scaled_weight(w, keep, bare), subtree)

    return jax.tree.map(scale_subtree, keep, params)


def _scaled_weight(weight, keep, always):
    if not always and jnp.ndim(weight) < 2:
        return weight
    # NumPy's float64 stays what it is, with JAX's 64-bit mode or without.
    weight = weight if isinstance(weight, np.ndarray) else jnp.asarray(weight)
    check_floating(weight, "weight")
    wide = weight.dtype if weight.dtype.itemsize > 4 else wide_dtype(weight)
    return (weight.astype(wide) * keep).astype(weight.dtype)


_POWERS = {"init_scale": 1, "max_norm": 1, "learning_rate": 2, "weight_decay": -2, "l1": -1}


def to_scaled_convention(hyper: Mapping[str, Any], keep: float) -> dict[str, Any]:
    r"""Hyperparameters of a weight matrix, from the paper's convention to scaling in training.

    With W' = keep W, for the weights whose *input* is kept with probability `keep`:
    $$\sigma' = \text{keep}\,\sigma, \quad c' = \text{keep}\,c, \quad
      \epsilon' = \text{keep}^2 \epsilon, \quad \lambda_2' = \lambda_2 / \text{keep}^2, \quad
      \lambda_1' = \lambda_1 / \text{keep}.$$
    SGD, with or without momentum, then follows the same trajectory of predictions. Biases keep
    their hyperparameters. Optimizers that rescale the gradient (Adam) follow another map.

    Args:
      hyper: any of `init_scale` (standard deviation), `max_norm` (c), `learning_rate`,
        `weight_decay` (coefficient of w in the gradient) and `l1` (of sign(w)); numbers, arrays,
        or schedules (functions of the step).
      keep: the probability that the input of the weights is kept, in (0, 1].

    Returns:
      A dict with the same names.

    Raises:
      ValueError: an unknown name, or a keep outside (0, 1].

    Example:
      >>> import dropout_jax as dj
      >>> dj.to_scaled_convention({"learning_rate": 0.1, "max_norm": 2.0}, keep=0.5)
      {'learning_rate': 0.025, 'max_norm': 1.0}

    Source: Srivastava et al. 2014, section 10, which states the equivalence; the powers follow
    from the chain rule, since dL/dW' = (dL/dW) / keep.
    """
    return _mapped(hyper, keep, 1)


def to_paper_convention(hyper: Mapping[str, Any], keep: float) -> dict[str, Any]:
    """The inverse of `to_scaled_convention`: from scaling in training to the paper's convention.

    Args:
      hyper, keep: as `to_scaled_convention`.

    Returns:
      A dict with the same names.

    Raises:
      ValueError: an unknown name, or a keep outside (0, 1].

    Example:
      >>> import dropout_jax as dj
      >>> dj.to_paper_convention({"learning_rate": 0.025, "max_norm": 1.0}, keep=0.5)
      {'learning_rate': 0.1, 'max_norm': 2.0}

    Source: Srivastava et al. 2014, section 10.
    """
    return _mapped(hyper, keep, -1)


def _mapped(hyper, keep, sign):
    check_keep(keep)
    if not isinstance(keep, jax.core.Tracer) and np.any(np.asarray(keep) == 0):
        raise ValueError("keep is 0: nothing would be kept; write a keep in (0, 1].")
    unknown = sorted(set(hyper) - set(_POWERS))
    if unknown:
        raise ValueError(f"unknown hyperparameter {unknown[0]!r}; known: {', '.join(_POWERS)}.")
    return {name: _times(value, keep ** (sign * _POWERS[name])) for name, value in hyper.items()}


def _times(value: float | Array | Callable, factor: float):
    if callable(value):
        return functools.wraps(value)(lambda step: value(step) * factor)
    return value * factor
