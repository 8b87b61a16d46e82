"""Standardise inputs and targets inside a model, so that it takes and gives them in their units."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dropout_jax._checks import is_traced, wide_dtype
from dropout_jax.losses.ready import loss_of
from dropout_jax.typing import Array

Loss = Callable[[nnx.Module, Array, Array], Array]


class Standardized(nnx.Module):
    r"""A regression model with the scales of its training data: predictions in the targets' units.

    $$f(x) = \bar y + s_y \, g\!\left(\frac{x - \bar x}{s_x}\right),$$
    with the model g, and the means and standard deviations of the training data, one a column.
    A model g that also gives logarithms of variances, as the second half of its outputs, has
    $2 \log s_y$ added to them. Train it with `standardized_loss(loss)`: the loss is then of the
    standardised targets, so that the learning rate does not depend on their units.

    Attributes:
      model: g, whose parameters are all that is trained.
      x_mean, x_stddev: `nnx.Variable`s, (features, ...), of the inputs.
      y_mean, y_stddev: `nnx.Variable`s, (targets,), of the targets.

    Args:
      model: an `nnx.Module` of standardised inputs; outputs (..., targets) or (..., 2 * targets).
      x: the training inputs (examples, features, ...), and no others: those of a test set tell the
        model about it.
      y: the training targets (examples, targets), or (examples,) for one.

    Raises:
      TypeError: a model that is not an `nnx.Module`; x or y that are no real numbers.
      ValueError: values that are not finite, no examples, or a column that is constant: such a
        column says nothing, and its scale is 0.

    Example:
      >>> import dropout_jax as dj, numpy as np
      >>> from flax import nnx
      >>> x, y = np.random.default_rng(0).normal(5, 3, (50, 4)), np.linspace(100, 200, 50)
      >>> model = dj.layers.MLP((4, 8, 1), rates=0.1, rngs=nnx.Rngs(0))
      >>> model = dj.layers.Standardized(model, x, y)
      >>> model(x.astype("float32")).shape, round(float(model.y_mean[...][0]))
      ((50, 1), 150)

    Source: Hernandez-Lobato and Adams 2015, "Probabilistic Backpropagation", section 5: inputs and
    targets of zero mean and unit variance, undone in the predictions.
    """

    def __init__(self, model: nnx.Module, x: Array, y: Array):
        if not isinstance(model, nnx.Module):
            raise TypeError(f"model is {type(model).__name__}; write an nnx.Module.")
        self.model = model
        y = jnp.asarray(y)
        self.x_mean, self.x_stddev = _scales("x", x)
        self.y_mean, self.y_stddev = _scales("y", y[:, None] if y.ndim == 1 else y)

    def __call__(self, x: Array, **options: Any) -> Array:
        """Predictions in the units of the targets.

        Args:
          x: inputs (..., features), in their units.
          **options: what the model takes, such as `deterministic` and `rngs`.

        Returns:
          (..., targets); or (..., 2 * targets), means and then logarithms of variances.

        Raises:
          ValueError: outputs of the model that are neither.
        """
        outputs = self.model(self.scale_x(x), **options)
        targets = len(self.y_mean[...])
        if outputs.shape[-1:] == (targets,):
            return self._unscale(outputs)
        if outputs.shape[-1:] != (2 * targets,):
            raise ValueError(
                f"the model's outputs have shape {outputs.shape}, and it was given {targets} "
                f"target(s): give it {targets} outputs, the means, or {2 * targets}, means and "
                "then logarithms of variances."
            )
        means, log_variances = jnp.split(outputs, 2, axis=-1)
        more = jnp.broadcast_to(2 * jnp.log(self.y_stddev[...]), means.shape)
        return jnp.concatenate([self._unscale(means), log_variances + more], axis=-1)

    def scale_x(self, x: Array) -> Array:
        """Inputs as the model g takes them."""
        mean, stddev = (jnp.broadcast_to(v[...], x.shape) for v in (self.x_mean, self.x_stddev))
        return (x - mean) / stddev

    def scale_y(self, y: Array) -> Array:
        """Targets as the model g is trained on them: (..., targets), in standard deviations."""
        targets = len(self.y_mean[...])
        y = y[:, None] if targets == 1 and y.ndim == 1 else y
        mean, stddev = (jnp.broadcast_to(v[...], y.shape) for v in (self.y_mean, self.y_stddev))
        return (y - mean) / stddev

    def _unscale(self, y: Array) -> Array:
        mean, stddev = (jnp.broadcast_to(v[...], y.shape) for v in (self.y_mean, self.y_stddev))
        return mean + stddev * y


def standardized_loss(loss: Loss | str) -> Loss:
    """The loss of a `Standardized` model in standard deviations of the targets, not in their units.

    Args:
      loss: (model, x, y) -> a scalar, or a name such as "mse", as `fit` takes it; it sees the inner
        model, with inputs and targets (examples, targets) standardised.

    Returns:
      A loss of a `Standardized` model and of data in their units.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp, numpy as np
      >>> from flax import nnx
      >>> x, y = np.eye(4, dtype="float32"), np.arange(4.0)
      >>> model = dj.layers.MLP((4, 8, 1), rates=0, rngs=nnx.Rngs(0))
      >>> model = dj.layers.Standardized(model, x, y)
      >>> loss = dj.layers.standardized_loss("mse")
      >>> in_units = dj.losses.mse(model, x, y)
      >>> bool(jnp.isclose(loss(model, x, y) * y.var(), in_units))
      True

    Source: Hernandez-Lobato and Adams 2015, "Probabilistic Backpropagation", section 5, for targets
    of unit variance.
    """

    loss = loss_of(loss)

    def standardized(model: nnx.Module, x: Array, y: Array, *weights: Any, **named: Any) -> Array:
        if not isinstance(model, Standardized):
            raise TypeError(
                f"the model is {type(model).__name__}; write dj.layers.Standardized(model, x, y), "
                "or the loss without standardized_loss."
            )
        return loss(model.model, model.scale_x(x), model.scale_y(y), *weights, **named)

    return standardized


def _scales(name: str, values: Array | np.ndarray) -> tuple[nnx.Variable, nnx.Variable]:
    """Mean and standard deviation over the examples, a column each."""
    if is_traced(values):
        mean, stddev = jnp.mean(values, axis=0), jnp.std(values, axis=0)
        stddev = jnp.where(stddev > 0, stddev, 1)  # a column that is constant here is only centred
    else:
        values = np.asarray(values)
        columns = _check_columns(name, values)
        mean, stddev = np.mean(columns, axis=0), np.std(columns, axis=0)
    dtype = wide_dtype(values)
    return nnx.Variable(jnp.asarray(mean, dtype)), nnx.Variable(jnp.asarray(stddev, dtype))


def _check_columns(name: str, values: np.ndarray) -> np.ndarray:
    """float64, so that a mean far from 0 does not blur the deviation."""
    if not (np.issubdtype(values.dtype, np.number) or values.dtype == bool) or np.iscomplexobj(
        values
    ):
        raise TypeError(f"{name} has dtype {values.dtype}; write real numbers.")
    if values.ndim < 2 or not values.size:
        raise ValueError(f"{name} has shape {values.shape}; write (examples, columns).")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise ValueError(
            f"{name} holds {bad} values that are NaN or infinite; drop those examples, or fill "
            "the values in."
        )
    constant = np.argwhere(np.ptp(values, axis=0) == 0)
    if len(constant):
        where = ", ".join(str(tuple(index) if len(index) > 1 else index[0]) for index in constant)
        raise ValueError(
            f"{name} is the same in every example in column {where}: it says nothing, and cannot "
            f"be scaled. Leave it out, as {name}[:, np.ptp({name}, axis=0) > 0] does."
        )
    return values
