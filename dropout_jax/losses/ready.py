r"""Mean squared error, cross-entropy and other losses, ready for `fit` and `evaluate`.

Each is (model, x, y, weights=None) -> the mean over the examples. Outputs and targets are aligned
or refused: outputs (n, 1) and targets (n,) belong together, and never make an (n, n) array.

Given weights, it is $\frac{1}{n} \sum_i w_i \ell_i$: a weight of 2 is an example that comes twice,
and weights whose mean is 1 leave the size of the loss as it is.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from dropout_jax.typing import Array


def cross_entropy(model: nnx.Module, x: Array, y: Array, weights: Array | None = None) -> Array:
    r"""Softmax cross-entropy of logits against integer labels.

    $$L = -\frac{1}{n} \sum_i w_i \log \text{softmax}(f(x_i))_{y_i}.$$

    Args:
      model: `model(x)` are logits (examples, ..., classes).
      x: inputs (examples, ...).
      y: integer labels (examples, ...), 0 to classes - 1.
      weights: (examples,) or of y's shape; 1 by default.

    Returns:
      A scalar.

    Raises:
      ValueError: a model with one output, whose softmax is 1.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> from flax import nnx
      >>> model = dj.layers.MLP((4, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> dj.losses.cross_entropy(model, jnp.ones((3, 4)), jnp.array([0, 1, 1])).shape
      ()

    Source: Bishop 2006, "Pattern Recognition and Machine Learning", equation 4.108.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(check_classes(model(x)), y)
    return _mean(losses, weights)


def mse(model: nnx.Module, x: Array, y: Array, weights: Array | None = None) -> Array:
    r"""Mean squared error.

    $$L = \frac{1}{n} \sum_i w_i (f(x_i) - y_i)^2.$$

    Args:
      model: `model(x)` are predictions, of y's shape but for an axis of 1 at the end.
      x: inputs (examples, ...).
      y: targets (examples,) or (examples, outputs).
      weights: (examples,) or of y's shape; 1 by default.

    Returns:
      A scalar.

    Raises:
      ValueError: shapes that do not belong together.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> def twice(x):
      ...     return 2 * x
      >>> float(dj.losses.mse(twice, jnp.ones((3, 1)), jnp.array([2.0, 2.0, 5.0])))
      3.0

    Source: Bishop 2006, equation 1.2.
    """
    outputs, y = aligned(model(x), y)
    return _mean(jnp.square(outputs - y), weights)


def mae(model: nnx.Module, x: Array, y: Array, weights: Array | None = None) -> Array:
    r"""Mean absolute error.

    $$L = \frac{1}{n} \sum_i w_i |f(x_i) - y_i|.$$

    Args:
      model, x, y, weights: as for `mse`.

    Returns:
      A scalar.

    Raises:
      ValueError: as `mse`.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> def twice(x):
      ...     return 2 * x
      >>> float(dj.losses.mae(twice, jnp.ones((3, 1)), jnp.array([2.0, 2.0, 5.0])))
      1.0

    Source: Bishop 2006, equation 1.91 with q = 1.
    """
    outputs, y = aligned(model(x), y)
    return _mean(jnp.abs(outputs - y), weights)


def bce(model: nnx.Module, x: Array, y: Array, weights: Array | None = None) -> Array:
    r"""Binary cross-entropy of logits: for two classes and one output, or for many labels at once.

    $$L = -\frac{1}{n} \sum_i w_i \left[ y_i \log \sigma(f_i) + (1 - y_i) \log \sigma(-f_i)
      \right].$$

    Args:
      model: `model(x)` are logits, of y's shape but for an axis of 1 at the end.
      y: 0 or 1, or what lies between; (examples,) or (examples, labels).
      x, weights: as for `mse`.

    Returns:
      A scalar.

    Raises:
      ValueError: as `mse`.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> def unsure(x):
      ...     return 0 * x
      >>> round(float(dj.losses.bce(unsure, jnp.ones((3, 1)), jnp.array([0, 1, 1]))), 3)
      0.693

    Source: Bishop 2006, equation 4.90.
    """
    outputs, y = aligned(model(x), y)
    return _mean(optax.sigmoid_binary_cross_entropy(outputs, y), weights)


def gaussian_nll(model: nnx.Module, x: Array, y: Array, weights: Array | None = None) -> Array:
    r"""Negative log-likelihood of a normal distribution whose mean and variance the model gives.

    $$L = \frac{1}{2n} \sum_i w_i \left[ s_i + (y_i - \mu_i)^2 e^{-s_i} + \log 2\pi \right],
      \qquad (\mu_i, s_i) = f(x_i),$$
    where s is the logarithm of the variance.

    Args:
      model: `model(x)` is (examples, 2 outputs): all means, then all log-variances.
      x, y, weights: as for `mse`.

    Returns:
      A scalar.

    Raises:
      ValueError: an odd number of outputs, or as `mse`.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> def standard(x):
      ...     return jnp.zeros((len(x), 2))
      >>> round(float(dj.losses.gaussian_nll(standard, jnp.ones((3, 1)), jnp.zeros(3))), 3)
      0.919

    Source: Nix and Weigend 1994, "Estimating the mean and variance of the target probability
    distribution"; Kendall and Gal 2017 (arXiv:1703.04977), equation 8, for the logarithm.
    """
    outputs = model(x)
    if outputs.ndim < 2 or outputs.shape[-1] % 2:
        raise ValueError(
            f"the model's outputs have shape {outputs.shape}; gaussian_nll takes (examples, 2) for "
            "one target: its mean and the logarithm of its variance."
        )
    mean, log_variance = jnp.split(outputs, 2, axis=-1)
    mean, y = aligned(mean, y)
    log_variance = log_variance.reshape(mean.shape)
    square = jnp.square(y - mean) * jnp.exp(-log_variance)
    return _mean((log_variance + square + jnp.log(2 * jnp.pi)) / 2, weights)


cross_entropy.takes_labels = True  # `fit` looks at them before it starts
BY_NAME = {loss.__name__: loss for loss in (cross_entropy, mse, mae, bce, gaussian_nll)}


def loss_of(loss: Callable | str) -> Callable:
    """A loss, by its name or as it is.

    Raises:
      ValueError: no loss of that name.
    """
    if not isinstance(loss, str):
        return loss
    if loss not in BY_NAME:
        raise ValueError(
            f"there is no loss {loss!r}; write one of {', '.join(BY_NAME)}, or a function "
            "(model, x, y) -> a number."
        )
    return BY_NAME[loss]


def check_classes(logits: Any) -> Any:
    """Return the logits, or raise for those of one class: their softmax is 1, whatever they are."""
    if logits.shape[-1:] == (1,):
        raise ValueError(
            "the model has one output, and a softmax over one class is always 1: give it an output "
            "for each class, or write loss='bce', metrics=['accuracy'] for two classes and one "
            "output, or loss='mse' for numbers."
        )
    return logits


def aligned(outputs: Array, y: Array) -> tuple[Array, Array]:
    """Outputs and targets in one shape and dtype, or an error: they never broadcast.

    Args:
      outputs: (examples, ...), floating-point.
      y: of that shape, or with an axis of 1 more or less at the end.

    Returns:
      Both, in the shape of y or without its last axis of 1.

    Raises:
      ValueError: other shapes.
    """
    outputs, y = jnp.asarray(outputs), jnp.asarray(y)
    if outputs.shape == (*y.shape, 1):
        outputs = outputs[..., 0]
    elif y.shape == (*outputs.shape, 1):
        y = y[..., 0]
    if outputs.shape != y.shape:
        raise ValueError(
            f"the model's outputs have shape {outputs.shape} and the targets {y.shape}; give both "
            "the same shape: one output for each target."
        )
    return outputs, y.astype(outputs.dtype)


def _mean(losses: Array, weights: Array | None) -> Array:
    if weights is None:
        return jnp.mean(losses)
    if weights.shape != losses.shape[: weights.ndim]:
        raise ValueError(
            f"the weights have shape {weights.shape} and the losses {losses.shape}; write a weight "
            "for each example."
        )
    weights = jax.lax.expand_dims(weights, range(weights.ndim, losses.ndim))
    return jnp.mean(losses * weights.astype(losses.dtype))
