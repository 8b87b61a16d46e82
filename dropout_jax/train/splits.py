"""The data of a run from the arguments of `fit`: training, validation, and weights."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dropout_jax._sharding import parts_of
from dropout_jax.keys import site_key
from dropout_jax.train import checks
from dropout_jax.train.batches import Batches, are_batches
from dropout_jax.train.examples import Examples, as_examples, count
from dropout_jax.typing import Key

Split = tuple[Examples, ...]
"""(x, y) or (x, y, weights)."""


def training_data(
    x: Any, y: Any, *, class_weight: Any, sample_weight: Any, integer_labels: bool
) -> Split:
    """x and y as arrays, with the weights of the examples if there are any.

    Raises:
      TypeError, ValueError: what is no array of numbers; lengths that differ.
    """
    x, y = as_examples(x, "x"), as_examples(y, "y")
    checks.check_lengths("train", x, y)
    if integer_labels and getattr(y, "dtype", np.dtype(int)).kind == "b":
        y = y.astype(jnp.int32)
    if sample_weight is not None:
        sample_weight = as_examples(sample_weight, "sample_weight")
    weights = checks.weights_for(y, class_weight, sample_weight)
    return (x, y) if weights is None else (x, y, weights)


def held_out(data: Split, share: float, key: Key) -> tuple[Split, Split]:
    """Training and validation data: a share of the examples, drawn by the key, is held out.

    Raises:
      ValueError: a share outside of (0, 1), or of no example; examples spread over devices.
    """
    n = count(data)
    held = round(n * share) if isinstance(share, (int, float)) else 0
    if not 0 < held < n:
        raise ValueError(
            f"validation_split is {share!r}, which takes {held} of {n} examples; write a share, "
            "such as 0.1."
        )
    if max(map(parts_of, jax.tree.leaves(data))) > 1:
        raise ValueError("x is spread over devices; split it before, and write validation_data=.")
    order = jax.random.permutation(site_key(key, "validation"), n)
    rest, held = jnp.sort(order[held:]), jnp.sort(order[:held])
    taken = [jax.tree.map(lambda a, rows=rows: a[rows], data) for rows in (rest, held)]
    return taken[0], taken[1][:2]


def watched(validation_data: Any) -> dict[str, Split | Batches]:
    """What is evaluated after each epoch, by name, from what `fit` was given.

    Raises:
      TypeError, ValueError: neither (x, y) nor batches, nor a mapping to these.
    """
    if validation_data is None:
        return {}
    if isinstance(validation_data, Mapping):
        return {str(name): _split(data, str(name)) for name, data in validation_data.items()}
    return {"val": _split(validation_data, "val")}


def _split(data: Any, name: str) -> Split | Batches:
    pair = isinstance(data, Sequence) and len(data) == 2 and not are_batches(data)
    if not pair and are_batches(data):
        return Batches(data, "validation_data")
    if not isinstance(data, Sequence) or len(data) != 2:
        shown = (
            f"has {len(data)} parts" if isinstance(data, Sequence) else "is " + type(data).__name__
        )
        raise ValueError(
            f"validation_data {shown}; write (x, y), held out beforehand with "
            "dj.data.split_validation, say, and weigh the examples in metrics of your own."
        )
    x, y = as_examples(data[0], f"the x of {name}"), as_examples(data[1], f"the y of {name}")
    checks.check_lengths(name, x, y)
    if bad := checks.not_finite(x):
        warnings.warn(
            f"{bad} of {count(x)} examples of {name} have a NaN or an infinite number in x: so "
            "will the metrics, but for shares of right or wrong answers, which count such an "
            "example as one or the other.",
            stacklevel=3,
        )
    return x, y
