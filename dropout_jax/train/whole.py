"""Metrics of a whole data set, from scikit-learn: AUC, F1, top-k accuracy, confusion matrix.

Such a metric is no mean over examples, so that the means of its parts are another number. Here the
outputs of all examples are collected first.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dropout_jax._lazy import package
from dropout_jax.typing import Array


def as_they_are(outputs: Array) -> Array:
    """The model's outputs."""
    return outputs


@dataclasses.dataclass(frozen=True)
class Whole:
    """A metric of all examples together: `metrics={"kappa": Whole(cohen_kappa, labels)}`.

    Attributes:
      function: (y, scores), both NumPy arrays of all examples -> a number or an array. It has the
        order of arguments that scikit-learn has.
      scores: from the model's outputs to what `function` takes, in JAX.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> from sklearn.metrics import balanced_accuracy_score
      >>> from flax import nnx
      >>> model = dj.layers.MLP((4, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> balanced = dj.train.Whole(balanced_accuracy_score, lambda logits: logits.argmax(-1))
      >>> x, y = jnp.eye(4), jnp.array([0, 1, 1, 0])
      >>> sorted(dj.evaluate(model, x, y, metrics={"balanced": balanced}))
      ['balanced']
    """

    function: Callable[[np.ndarray, np.ndarray], Any]
    scores: Callable[[Array], Array] = as_they_are

    def __call__(self, model: Any, x: Any, y: Array) -> float:
        raise TypeError(
            "a metric of the whole data set cannot be computed inside of make_train or make_loop, "
            "batch by batch; call dj.evaluate with it."
        )


def _sklearn(name: str) -> Callable:
    return getattr(package("sklearn.metrics", "this metric"), name)


def probabilities(outputs: Array) -> Array:
    """Softmax of logits; one logit for two classes is left as it is."""
    if outputs.ndim < 2 or outputs.shape[-1] == 1:
        return outputs.reshape(len(outputs))
    return jax.nn.softmax(outputs)


def labels(outputs: Array) -> Array:
    """The class with the largest logit; of one logit, 1 where it is over 0."""
    if outputs.ndim < 2 or outputs.shape[-1] == 1:
        return (outputs.reshape(len(outputs)) > 0).astype(int)
    return outputs.argmax(-1)


def _auc(y: np.ndarray, scores: np.ndarray) -> float:
    if len(np.unique(y)) < 2:
        return math.nan  # it is not defined
    if scores.ndim == 1 or scores.shape[1] == 2:
        return _sklearn("roc_auc_score")(y, scores if scores.ndim == 1 else scores[:, 1])
    present = np.unique(y)
    found = [_sklearn("roc_auc_score")(y == c, scores[:, c]) for c in present]
    return float(np.mean(found))


def _f1(y: np.ndarray, predicted: np.ndarray) -> float:
    average = "binary" if max(y.max(), predicted.max()) < 2 else "macro"
    return _sklearn("f1_score")(y, predicted, average=average, zero_division=0)


def _confusion(y: np.ndarray, scores: np.ndarray) -> np.ndarray:
    classes = 2 if scores.ndim == 1 else scores.shape[1]
    predicted = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)
    return _sklearn("confusion_matrix")(y, predicted, labels=range(classes))


def _r2(y: np.ndarray, outputs: np.ndarray) -> float:
    return _sklearn("r2_score")(*_alike(y, outputs))


def _rmse(y: np.ndarray, outputs: np.ndarray) -> float:
    return _sklearn("root_mean_squared_error")(*_alike(y, outputs))


def _alike(y: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if y.size != outputs.size:
        raise ValueError(
            f"the model's outputs have shape {outputs.shape} and the targets {y.shape}; give one "
            "output for each target."
        )
    for name, values in (("targets", y), ("model's outputs", outputs)):
        if bad := int((~np.isfinite(values)).sum()):
            raise ValueError(
                f"the {name} hold {bad} values that are NaN or infinite; leave those examples out."
            )
    return y.reshape(len(y), -1), outputs.reshape(len(y), -1)


def top_k(k: int) -> Whole:
    """The share of examples whose label is among the k largest logits: the metric "top_k"."""

    def share(y: np.ndarray, scores: np.ndarray) -> float:
        if k >= scores.shape[1]:
            return 1.0
        classes = range(scores.shape[1])
        return _sklearn("top_k_accuracy_score")(y, scores, k=k, labels=classes)

    return Whole(share, probabilities)


BY_NAME = {
    "auc": Whole(_auc, probabilities),
    "f1": Whole(_f1, labels),
    "confusion_matrix": Whole(_confusion, probabilities),
    "r2": Whole(_r2),
    "rmse": Whole(_rmse),
}
