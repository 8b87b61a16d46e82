"""What a model is measured by: means over examples, however many there are."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dropout_jax._sharding import parts_of, rows_of
from dropout_jax.losses.ready import check_classes, cross_entropy
from dropout_jax.train.convolutions import fast_convolutions
from dropout_jax.typing import Array

Metrics = Mapping[str, Callable[[nnx.Module, Array, Array], Array]]
CHUNK = 2500


def error_rate(model: nnx.Module, x: Array, y: Array) -> Array:
    """The share of examples whose largest logit is not the label's, in [0, 1]."""
    return jnp.mean(jnp.argmax(check_classes(model(x)), axis=-1) != y)


error_rate.takes_labels = True
CLASSIFICATION: Metrics = {"loss": cross_entropy, "error": error_rate}


def measured(metrics: Metrics, model: nnx.Module, x: Array, y: Array) -> dict[str, Array]:
    """The metrics of some examples, together, so that they share one forward pass."""
    return {
        name: number_of(f"the metric {name!r}", metric, model, x, y)
        for name, metric in metrics.items()
    }


def number_of(name: str, function: Callable, model: nnx.Module, *data: Array) -> Array:
    """function(model, x, y), a loss or a metric, or with weights as a fourth argument.

    Raises:
      TypeError: where that is no number.
    """
    example = "jnp.mean(optax.l2_loss(model(x), y))"
    if not _takes(function, len(data) + 1):
        called = getattr(function, "__name__", function)
        if len(data) == 3:
            raise TypeError(
                f"{name} is {called}, which takes no weights; write a function (model, x, y, "
                "weights) -> a number, such as dj.losses.mse."
            )
        raise TypeError(
            f"{name} is {called}, which does not take (model, x, y); write a function that does, "
            f"such as lambda model, x, y: {example}."
        )
    value = function(model, *data)
    if isinstance(value, (tuple, list, dict)):
        raise TypeError(f"{name} is a {type(value).__name__}; write one number, such as {example}.")
    if jnp.shape(value) != ():
        raise TypeError(
            f"{name} has shape {jnp.shape(value)}; write its mean over the examples, such as "
            f"{example}."
        )
    return value


def _takes(function: Callable, arguments: int) -> bool:
    """False for what cannot be called with so many, and for optax's, which take outputs."""
    if str(getattr(function, "__module__", "")).startswith("optax."):
        return False
    try:
        inspect.signature(function).bind(*range(arguments))
    except TypeError:
        return False
    except ValueError:  # it has no signature to tell by
        pass
    return True


def mean_in_chunks(measure: Callable[[Array, Array], Any], x: Array, y: Array) -> Any:
    """The mean of per-example means over all of x, a few thousand examples at a time."""
    counts, values = in_chunks(measure, x, y)

    def mean(many, last):
        parts = [] if many is None else [jnp.mean(many, axis=0) * counts[0]]
        parts += [] if last is None else [last * counts[1]]
        return sum(parts) / sum(counts)

    return _mapped(mean, values)


def outputs_in_chunks(call: Callable[[Any], Any], x: Any) -> Any:
    """call(x), a few thousand examples at a time."""
    _, values = in_chunks(call, x)

    def joined(many, last):
        parts = [] if many is None else [many.reshape(-1, *many.shape[2:])]
        return jnp.concatenate(parts + ([] if last is None else [last]))

    return _mapped(joined, values)


def in_chunks(f: Callable, *data: Any) -> tuple[tuple[int, int], tuple[Any, Any]]:
    """f of chunks: how many examples are in full ones and in the last, and both values, or None."""
    f = fast_convolutions(f)
    data = jax.tree.map(jnp.asarray, data)  # NumPy's arrays take no traced rows
    leaves = jax.tree.leaves(data)
    n, shards = len(leaves[0]), max(map(parts_of, leaves))
    size = max(CHUNK // shards, 1) * shards
    whole = n // size * size
    many = last = None
    if whole:
        rows = jnp.arange(whole).reshape(-1, size)
        many = jax.lax.map(lambda rows: f(*jax.tree.map(lambda a: rows_of(a, rows), data)), rows)
    if whole < n:
        last = f(*jax.tree.map(lambda a: a[whole:], data))
    return (whole, n - whole), (many, last)


def _mapped(f: Callable, values: tuple[Any, Any]) -> Any:
    trees = [tree for tree in values if tree is not None]
    many, last = values
    if len(trees) == 2:
        return jax.tree.map(f, many, last)
    return jax.tree.map(lambda a: f(a, None) if last is None else f(None, a), trees[0])
