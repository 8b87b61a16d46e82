"""Evaluate a model: what Keras users call evaluate, for any NNX model."""

import functools
from typing import Any

import jax
import numpy as np
from flax import nnx

from dropout_jax._advice import advised
from dropout_jax._nnx import Structure, split
from dropout_jax._sharding import devices_of
from dropout_jax.losses.ready import cross_entropy
from dropout_jax.train.batches import Batches, are_batches
from dropout_jax.train.calls import in_evaluation
from dropout_jax.train.checks import check_lengths, check_targets, told_not_finite
from dropout_jax.train.examples import Examples, as_examples, count
from dropout_jax.train.metrics import mean_in_chunks, measured, outputs_in_chunks
from dropout_jax.train.named import metrics_of
from dropout_jax.train.other_names import EVALUATE
from dropout_jax.train.same import Same
from dropout_jax.train.whole import Whole

Split = tuple[Examples, Examples]


@advised("dj.evaluate(model, x, y)", EVALUATE)
def evaluate(
    model: nnx.Module, x: Any, y: Any = None, *, metrics: Any = None
) -> dict[str, float | np.ndarray]:
    """The metrics of a model on examples, without dropout; neither its mode nor its streams change.

    Args:
      model: any `nnx.Module` with `model(x)`.
      x: inputs (examples, ...), an array, a DataFrame, or a dict or tuple of arrays; they go
        through a few thousand at a time. Or an iterable of batches (x, y), without y.
      y: targets (examples, ...).
      metrics: names, such as ["accuracy", "auc"], or a mapping name -> (model, x, y) -> a mean
        over the examples, or -> a name or a `train.Whole`. By default the cross-entropy as "loss"
        and the share of wrong answers as "error". Names of means: those of the losses, accuracy,
        error. Names of metrics of the whole data set, by scikit-learn: auc, f1, top_5 (of any
        number), confusion_matrix, r2, rmse.

    Returns:
      name -> value.

    Raises:
      TypeError: a model that is no `nnx.Module`; labels that are no integers, or outputs that are
        no logits, for the default metrics; a metric that takes no (model, x, y) or is no number; x
        or y of text, categories or None.
      ValueError: lengths that differ, no examples, labels that are no classes of the model; NaN for
        a metric where x or y holds one.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> from flax import nnx
      >>> model = dj.layers.MLP((4, 8, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> x, y = jnp.eye(4), jnp.array([0, 1, 1, 0])
      >>> sorted(dj.evaluate(model, x, y))
      ['error', 'loss']
      >>> dj.evaluate(model, x, y, metrics=["confusion_matrix"])["confusion_matrix"].shape
      (2, 2)

    Source: `Model.evaluate` of Keras, for what it takes and returns.
    """
    structure, state = split(model)
    metrics = metrics_of(metrics, cross_entropy)
    if y is None and are_batches(x):
        data = Batches(x, again=False)
        example = data.first()
    else:
        data = example = as_examples(x, "x"), as_examples(y, "y")
        check_lengths("x", *data)
    check_targets(model, {"y": example[:2]}, metrics=metrics)
    with devices_of(jax.tree.leaves(example)[0]):
        found = measure(Same(tuple(metrics.items()), model), structure, (state,), data)
    # Not before: a metric of the user's may leave out targets that are NaN.
    if any(np.isnan(value).any() for value in found.values()) and (bad := told_not_finite(data)):
        raise ValueError(bad)
    return found


def measure(
    metrics: Same, structure: Structure, states: tuple[nnx.State, ...], data: Batches | Split
) -> dict[str, float | np.ndarray]:
    """The metrics, means and of the whole set, of examples or of all batches."""
    of = _of_batches if isinstance(data, Batches) else _of_examples
    return of(metrics, structure, states, data)


def _of_examples(metrics, structure, states, data):
    means, outputs = _in_chunks(metrics, structure, states, *data)
    return _values(metrics, means, np.asarray(data[1]) if outputs else None, outputs)


def _of_batches(metrics, structure, states, batches):
    sizes, means, targets, outputs = [], [], [], []
    for x, y, *_ in batches.epoch(0):
        found, scores = _in_chunks(metrics, structure, states, x, y)
        sizes.append(count(x))
        means.append(found)
        targets.append(y if scores else None)
        outputs.append(jax.tree.map(np.asarray, scores))
    shares = [size / sum(sizes) for size in sizes]
    mean = {name: sum(float(m[name]) * s for m, s in zip(means, shares, strict=True))
            for name in means[0]}  # fmt: skip
    joined = {name: np.concatenate([o[name] for o in outputs]) for name in outputs[0]}
    return _values(metrics, mean, np.concatenate(targets) if joined else None, joined)


def _values(metrics, means, y, outputs):
    found = {}
    for name, metric in metrics.value:
        if isinstance(metric, Whole):
            value = np.asarray(metric.function(y, np.asarray(outputs[name])))
            found[name] = value if value.ndim else float(value)
        else:
            found[name] = float(means[name])
    return found


@functools.partial(jax.jit, static_argnums=(0, 1))
def _in_chunks(metrics, structure, states, x, y):
    """The means over examples, and for the other metrics what they are computed from."""
    means = {name: m for name, m in metrics.value if not isinstance(m, Whole)}
    wholes = {name: m for name, m in metrics.value if isinstance(m, Whole)}

    def evaluated(f):  # of a model for each chunk: it may write variables as it evaluates
        return in_evaluation(structure.merge(*states), f)

    def scores(x):
        outputs = evaluated(lambda model: model(x))
        return {name: whole.scores(outputs) for name, whole in wholes.items()}

    found = {}
    if means:
        found = mean_in_chunks(
            lambda x, y: evaluated(lambda model: measured(means, model, x, y)), x, y
        )
    return found, outputs_in_chunks(scores, x) if wholes else {}
