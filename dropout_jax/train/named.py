"""Losses and metrics by name: `loss="mse"`, `metrics=["accuracy", "auc"]`."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from dropout_jax.losses import ready
from dropout_jax.train import whole
from dropout_jax.train.metrics import CLASSIFICATION, Metrics, error_rate
from dropout_jax.typing import Array


def accuracy(model: nnx.Module, x: Array, y: Array) -> Array:
    """The share of examples that get their label; of one logit, where its sign is right."""
    outputs = model(x)
    if outputs.shape == (*y.shape, 1) or outputs.shape == y.shape:
        outputs, y = ready.aligned(outputs, y)
        return jnp.mean((outputs > 0) == (y > 0.5))
    return jnp.mean(jnp.argmax(outputs, axis=-1) == y)


MEANS = ready.BY_NAME | {"accuracy": accuracy, "error": error_rate}
# Of these more is better; of all others less.
RISING = ("accuracy", "auc", "f1", "r2", "top_")


def metrics_of(metrics: Any, loss: Callable) -> Metrics:
    """Metrics by their names: from a list, a mapping, or those that go with a loss.

    Args:
      metrics: names or functions, or a mapping from names to these; None for those of the loss.
      loss: the loss, which is the metric of regression and the like.

    Returns:
      name -> (model, x, y) -> a mean, or a `Whole`.

    Raises:
      TypeError: something else.
      ValueError: no metric of that name.
    """
    if metrics is None:
        return CLASSIFICATION if takes_labels(loss) else {"loss": loss}
    if isinstance(metrics, Mapping):
        return {name: _metric(metric) for name, metric in metrics.items()}
    if isinstance(metrics, str) or callable(metrics) or not isinstance(metrics, Iterable):
        raise TypeError(
            f"metrics is {metrics!r}; write names, such as ['accuracy', 'auc'], or names and "
            'functions (model, x, y) -> a number, such as {"loss": dj.train.cross_entropy}.'
        )
    return {_name(metric): _metric(metric) for metric in metrics}


def takes_labels(loss: Callable) -> bool:
    """True for a loss whose targets are integer labels."""
    return getattr(loss, "takes_labels", False)


def rises(name: str) -> bool:
    """Whether more is better of the metric "val_" + name."""
    return any(name.split("_", 1)[-1].startswith(start) for start in RISING)


def _name(metric: Any) -> str:
    name = metric if isinstance(metric, str) else getattr(metric, "__name__", "")
    if not name or name == "<lambda>":
        raise TypeError(f"{metric!r} has no name; write metrics={{'my name': ...}}.")
    return name


def _metric(metric: Any) -> Any:
    if not isinstance(metric, str):
        return metric
    if metric.startswith("top_") and metric[4:].isdigit():
        return whole.top_k(int(metric[4:]))
    known = MEANS | whole.BY_NAME
    if metric not in known:
        raise ValueError(
            f"there is no metric {metric!r}; write one of {', '.join(known)}, top_5, or a function "
            "(model, x, y) -> a mean over the examples."
        )
    return known[metric]
