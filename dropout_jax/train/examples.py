"""What users give `fit` as x and y, as JAX arrays: NumPy, pandas, dicts and tuples of arrays."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dropout_jax.train.processes import check_shared
from dropout_jax.typing import Array

Examples = Any
"""An array (examples, ...), or a dict or tuple of such arrays."""


def as_examples(values: Any, name: str) -> Examples:
    """`values` as arrays whose first axis runs over examples.

    Args:
      values: an array, a DataFrame, nested lists of numbers; or a dict or a tuple of these.
      name: what the errors call it.

    Returns:
      An array, or a dict or tuple of arrays.

    Raises:
      TypeError: text, categories, sparse matrices, None.
      ValueError: missing values in columns that are not floating-point; lengths that differ.
    """
    check_shared(name, values)
    examples = _converted(values, name)
    sizes = {jax.tree_util.keystr(path): np.shape(leaf)[:1]
             for path, leaf in jax.tree_util.tree_leaves_with_path(examples)}  # fmt: skip
    if not sizes or () in sizes.values():
        raise TypeError(f"{name} holds {len(sizes)} arrays, or a number; write arrays of examples.")
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name}{place} has {size[0]}" for place, size in sizes.items())
        raise ValueError(f"the arrays of {name} have different numbers of examples: {told}.")
    return examples


def from_table(x: Any, name: str = "x") -> Any:
    """The numbers of a pandas DataFrame; anything else as it is."""
    is_table = hasattr(x, "columns") and hasattr(x, "to_numpy")
    return jnp.asarray(_of_columns(x, name)) if is_table else x


def count(examples: Examples) -> int:
    """How many examples there are."""
    return len(jax.tree.leaves(examples)[0])


def first(examples: Examples, n: int) -> Examples:
    """The first n examples."""
    return jax.tree.map(lambda a: a[:n], examples)


def shapes(examples: Examples) -> str:
    """The shapes, as an error shows them."""
    return str(jax.tree.map(lambda a: tuple(a.shape), examples))


def _converted(values: Any, name: str) -> Examples:
    if values is None:
        raise TypeError(f"{name} is None; write an array of examples.")
    if isinstance(values, Mapping):
        return {key: _converted(value, f"{name}[{key!r}]") for key, value in values.items()}
    if isinstance(values, tuple) and values and all(map(_holds_arrays, values)):
        return tuple(_converted(value, f"{name}[{i}]") for i, value in enumerate(values))
    if isinstance(values, jax.Array):
        return values
    if hasattr(values, "tocsr"):
        raise TypeError(f"{name} is a sparse matrix of SciPy; write {name}.toarray().")
    table = from_table(values, name)
    return table if table is not values else jnp.asarray(_numbers(values, name))


def _holds_arrays(value: Any) -> bool:
    return isinstance(value, Mapping) or bool(getattr(value, "shape", ()))


def _of_columns(frame: Any, name: str) -> np.ndarray:
    """The numbers of a pandas DataFrame; columns of True and False count as 1 and 0."""
    columns = [frame.iloc[:, i] for i in range(len(frame.columns))]
    dtypes = {c.dtype for c in columns}
    if len(dtypes) == 1 and all(isinstance(d, np.dtype) and d.kind in "iuf" for d in dtypes):
        return frame.to_numpy()
    labels = map(str, frame.columns)
    arrays = [_numbers(c, f"the column {label!r} of {name}")
              for c, label in zip(columns, labels, strict=True)]  # fmt: skip
    return np.stack(arrays, axis=1).astype(np.result_type(np.float32, *arrays))


def _numbers(values: Any, name: str) -> np.ndarray:
    dtype = getattr(values, "dtype", None)
    if str(dtype) == "category":
        raise TypeError(
            f"{name} holds categories; write their numbers, y.cat.codes, or columns of 0 and 1, "
            "pd.get_dummies(x)."
        )
    if dtype is not None and not isinstance(dtype, np.dtype) and hasattr(values, "isna"):
        missing = int(values.isna().sum())
        if missing:
            raise ValueError(
                f"{name} has {missing} missing values; fill them, as x.fillna(0), or drop the rows."
            )
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} is a list of lists of different lengths; pad them.") from None
    if array.dtype == object:
        array = _of_objects(array, name)
    if array.dtype.kind in "USmM":
        kind = "text" if array.dtype.kind in "US" else "dates"
        raise TypeError(
            f"{name} holds {kind}; write numbers, such as np.unique(y, return_inverse=True)[1] for "
            "labels, or pd.get_dummies(x) for columns."
        )
    return array


def _of_objects(array: np.ndarray, name: str) -> np.ndarray:
    """Numbers in an array of Python objects, which pandas makes of mixed columns."""
    kinds = {type(value) for value in array.flat}
    if any(issubclass(kind, (str, bytes)) for kind in kinds):
        return array.astype(str)
    try:
        if type(None) in kinds:
            raise TypeError
        return array.astype(np.float64)
    except (TypeError, ValueError):
        told = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(
            f"{name} holds {told}; write numbers, and one for what is missing."
        ) from None


def of_batch(batch: Any, name: str) -> tuple[Examples, ...]:
    """A batch of a loader, (x, y) or (x, y, weights), as arrays.

    Raises:
      TypeError: a batch that is no pair.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        parts = f" with {sorted(batch)}" if isinstance(batch, Mapping) else ""
        raise TypeError(
            f"a batch of {name} is {type(batch).__name__}{parts}; write an iterable of (x, y), "
            "such as ((b['image'], b['label']) for b in loader)."
        )
    check_shared(name, tuple(batch))
    return tuple(_batch_leaf(part, f"{name}[{i}]") for i, part in enumerate(batch))


def _batch_leaf(part: Any, name: str) -> Examples:
    if isinstance(part, (list, tuple)) and part and all(map(_holds_arrays, part)):
        return tuple(_batch_leaf(p, name) for p in part)
    if isinstance(part, Mapping):
        return {key: _batch_leaf(value, f"{name}[{key!r}]") for key, value in part.items()}
    return _converted(part, name)


@jax.jit
def all_finite(examples: Examples) -> Array:
    """Whether all floating-point numbers are finite."""
    leaves = [a for a in jax.tree.leaves(examples) if jnp.issubdtype(a.dtype, jnp.inexact)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(a)) for a in leaves] or [True]))
