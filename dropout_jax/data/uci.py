"""Regression sets of UCI with fixed train and test splits."""

from pathlib import Path

import numpy as np

from dropout_jax.data.idx import DataError
from dropout_jax.data.sets import Dataset, make_dataset


def load_uci(folder: str | Path, split: int) -> Dataset:
    """One of the fixed splits of a UCI regression set, in its own units (not standardised).

    The folder, or its `data/`, holds data.txt (one row a case), index_features.txt,
    index_target.txt, and for each split index_train_<k>.txt and index_test_<k>.txt, which
    together name each row once.

    Args:
      folder: the set's folder, for example `uci/yacht`; its name becomes the set's name.
      split: which split, from 0.

    Returns:
      `Dataset`: x float32 (cases, features), y float32 (cases,).

    Raises:
      DataError: a file is missing or malformed, or the indices do not fit the rows.

    Example:
      >>> load_uci("empty", 0)
      Traceback (most recent call last):
      ...
      dropout_jax.data.DataError: empty/data.txt is missing...

    Source: Hernandez-Lobato and Adams 2015, section 5; Gal and Ghahramani 2016, section 5.2.
    """
    folder = Path(folder).expanduser()
    files = folder / "data" if (folder / "data").is_dir() else folder
    table = np.atleast_2d(_numbers(files / "data.txt"))
    rows, columns = table.shape
    features = _indices(files / "index_features.txt", columns)
    target = _indices(files / "index_target.txt", columns)
    train = _indices(files / f"index_train_{split}.txt", rows)
    test = _indices(files / f"index_test_{split}.txt", rows)
    if len(target) != 1 or target[0] in features:
        raise DataError(f"{files}/index_target.txt must name one column that is not a feature.")
    if not np.array_equal(np.sort(np.concatenate([train, test])), np.arange(rows)):
        raise DataError(
            f"{files}: index_train_{split}.txt and index_test_{split}.txt must name each of the "
            f"{rows} rows of data.txt once."
        )
    x, y = table[:, features].astype(np.float32), table[:, target[0]].astype(np.float32)
    name = (files.resolve().parent if files.name == "data" else files.resolve()).name
    return make_dataset(name, x[train], y[train], x[test], y[test])


def _numbers(path: Path) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"{path} is missing; load_uci describes the files of a set.")
    if not path.stat().st_size:
        raise DataError(f"{path} is empty.")
    try:
        numbers = np.loadtxt(path)
    except ValueError as error:
        raise DataError(f"{path} is no table of numbers: {error}") from error
    if not np.isfinite(numbers).all():
        raise DataError(f"{path} holds values that are not finite.")
    return numbers


def _indices(path: Path, size: int) -> np.ndarray:
    """Indices into `size` rows or columns; the files hold them as floats."""
    numbers = np.atleast_1d(_numbers(path))
    indices = numbers.astype(np.int64)
    if not (np.array_equal(indices, numbers) and np.all((0 <= indices) & (indices < size))):
        raise DataError(f"{path} must hold whole numbers from 0 to {size - 1}.")
    return indices
