"""What a model is measured by: means over examples, however many there are."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from dropout_jax._sharding import parts_of, rows_of
from dropout_jax.train.convolutions import fast_convolutions
from dropout_jax.typing import Array

Metrics = Mapping[str, Callable[[nnx.Module, Array, Array], Array]]
CHUNK = 2500


def cross_entropy(model: nnx.Module, x: Array, y: Array) -> Array:
    """Mean softmax cross-entropy of the model's logits against integer labels."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(model(x), y))


def error_rate(model: nnx.Module, x: Array, y: Array) -> Array:
    """The share of examples whose largest logit is not the label's, in [0, 1]."""
    return jnp.mean(jnp.argmax(model(x), axis=-1) != y)


CLASSIFICATION: Metrics = {"loss": cross_entropy, "error": error_rate}


def measured(metrics: Metrics, model: nnx.Module, x: Array, y: Array) -> dict[str, Array]:
    """The metrics of some examples, together, so that they share one forward pass."""
    return {
        name: number_of(f"the metric {name!r}", metric, model, x, y)
        for name, metric in metrics.items()
    }


def number_of(name: str, function: Callable, model: nnx.Module, x: Array, y: Array) -> Array:
    """function(model, x, y), a loss or a metric. Raises TypeError where that is no number."""
    example = "jnp.mean(optax.l2_loss(model(x), y))"
    if not _takes_a_model(function):
        raise TypeError(
            f"{name} is {getattr(function, '__name__', function)}, which does not take (model, x, "
            f"y); write a function that does, such as lambda model, x, y: {example}."
        )
    value = function(model, x, y)
    if isinstance(value, (tuple, list, dict)):
        raise TypeError(f"{name} is a {type(value).__name__}; write one number, such as {example}.")
    if jnp.shape(value) != ():
        raise TypeError(
            f"{name} has shape {jnp.shape(value)}; write its mean over the examples, such as "
            f"{example}."
        )
    return value


def _takes_a_model(function: Callable) -> bool:
    """False for what cannot be called with three arguments, and for optax's, which take outputs."""
    if str(getattr(function, "__module__", "")).startswith("optax."):
        return False
    try:
        inspect.signature(function).bind("model", "x", "y")
    except TypeError:
        return False
    except ValueError:  # it has no signature to tell by
        pass
    return True


def mean_in_chunks(measure: Callable[[Array, Array], Any], x: Array, y: Array) -> Any:
    """The mean of per-example means over all of x, a few thousand examples at a time."""
    measure = fast_convolutions(measure)
    shards = max(map(parts_of, (x, y)))
    size = max(CHUNK // shards, 1) * shards
    whole = len(x) // size * size
    parts, counts = [], []
    if whole:
        rows = jnp.arange(whole).reshape(-1, size)
        means = jax.lax.map(lambda rows: measure(*(rows_of(a, rows) for a in (x, y))), rows)
        parts.append(jax.tree.map(lambda values: jnp.mean(values, axis=0), means))
        counts.append(whole)
    if whole < len(x):
        parts.append(measure(x[whole:], y[whole:]))
        counts.append(len(x) - whole)

    def mean(*means):
        return sum(m * n for m, n in zip(means, counts, strict=True)) / len(x)

    return jax.tree.map(mean, *parts)
