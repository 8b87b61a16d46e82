"""Weight scaling at inference, and hyperparameters for scaled or unscaled (paper) dropout."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dropout_jax._checks import check_floating, check_keep, is_traced, wide_dtype
from dropout_jax._weights import is_weight, of_each_leaf
from dropout_jax.typing import Array


def scale_for_inference(params: Any, keep: Any) -> Any:
    r"""The paper's test-time weights: each weight times the probability its input was kept.

    $$W_\text{test} = \text{keep} \cdot W.$$
    Only for networks trained with `dropout_unscaled`. Biases are not scaled: they have no dropped
    input.

    Args:
      params: a pytree of arrays, or one array. In a pytree, biases are left alone: leaves with
        fewer than two axes, and those of that name (attention's have two). So are the scales of
        normalisations.
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
    jax.tree.map(check_keep, keep)
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    return structure.unflatten(
        _scaled_weight(weight, keep) if bare or is_weight(path, weight) else weight
        for (path, weight), keep in zip(paths, of_each_leaf(keep, params), strict=True)
    )


def _scaled_weight(weight, keep):
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
    if not is_traced(keep) and np.any(np.asarray(keep) == 0):
        raise ValueError("keep is 0: nothing would be kept; write a keep in (0, 1].")
    unknown = sorted(set(hyper) - set(_POWERS))
    if unknown:
        raise ValueError(f"unknown hyperparameter {unknown[0]!r}; known: {', '.join(_POWERS)}.")
    return {name: _times(value, keep ** (sign * _POWERS[name])) for name, value in hyper.items()}


def _times(value: float | Array | Callable, factor: float):
    if callable(value):
        return functools.wraps(value)(lambda step: value(step) * factor)
    return value * factor
