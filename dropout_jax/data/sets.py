"""Data sets as NumPy arrays: embedded digits, MNIST-format files, UCI folders.

MNIST and Fashion-MNIST are looked for in `data_dir=`, in the folder that the environment variable
DROPOUT_JAX_DATA names, in the cache, and are then downloaded to the cache. Every file is compared
with its published checksum before it is read, wherever it was found.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dropout_jax._lazy import package
from dropout_jax.data import idx


class Dataset(NamedTuple):
    """A training and a test set.

    x is float32 (cases, features), y is int32 (cases,) for classes and float32 for regression.
    `sha256` is the checksum of the four arrays (dtypes, shapes, values), to go into a record.
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    sha256: str


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """The classification set of that name: "digits", "mnist" or "fashion_mnist".

    Args:
      name: which set.
      data_dir: as in `load_mnist`; "digits" is embedded and has no files.

    Raises:
      ValueError: there is no set of that name.
      DataError: as `load_mnist`.

    Example:
      >>> load("digits").train_x.shape
      (1437, 64)
    """
    if name == "digits":
        return load_digits()
    if name in idx.MD5:
        return _load_idx(name, data_dir)
    names = ", ".join(["digits", *idx.MD5])
    raise ValueError(f"no data set is called {name!r}; choose one of {names}.")


def load_digits() -> Dataset:
    """The 1797 hand-written digits of 8x8 pixels that scikit-learn embeds; needs no file.

    x = pixel / 16. 360 images are the test set: a stratified shuffle (scikit-learn's
    `train_test_split`, `random_state=0`), the same in every call.

    Returns:
      `Dataset`: train_x (1437, 64) and test_x (360, 64) in [0, 1]; labels 0 to 9.

    Example:
      >>> digits = load_digits()
      >>> digits.train_x.shape, digits.test_x.shape, float(digits.train_x.max())
      ((1437, 64), (360, 64), 1.0)

    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), test part.
    """
    # scikit-learn takes a second to import, and only this function needs it.
    datasets = package("sklearn.datasets", "load_digits")
    model_selection = package("sklearn.model_selection", "load_digits")

    x, y = datasets.load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = model_selection.train_test_split(
        (x / 16).astype(np.float32), y.astype(np.int32), test_size=360, stratify=y, random_state=0
    )
    return make_dataset("digits", train_x, train_y, test_x, test_y)


def load_mnist(data_dir: str | Path | None = None) -> Dataset:
    """MNIST: 60 000 training and 10 000 test images of hand-written digits, x = pixel / 255.

    Args:
      data_dir: the folder of the four original .gz files, or the folder that holds it as `mnist/`.
        None: the folder DROPOUT_JAX_DATA, then the cache, then a download (11 MB) to the cache.

    Returns:
      `Dataset`: train_x (60000, 784) and test_x (10000, 784) in [0, 1]; labels 0 to 9.

    Raises:
      DataError: a file is missing, truncated, corrupted or swapped, or no mirror delivers it.

    Example:
      >>> load_mnist(data_dir="empty")
      Traceback (most recent call last):
      ...
      dropout_jax.data.DataError: empty/train-images-idx3-ubyte.gz is missing...

    Source: LeCun, Bottou, Bengio and Haffner 1998, Gradient-based learning applied to document
    recognition, section III.
    """
    return _load_idx("mnist", data_dir)


def load_fashion_mnist(data_dir: str | Path | None = None) -> Dataset:
    """Fashion-MNIST: MNIST's sizes and format, ten kinds of clothing.

    Arguments, result and errors are those of `load_mnist`; the folder is called `fashion_mnist/`
    and the download is 31 MB.

    Example:
      >>> load_fashion_mnist(data_dir="empty")
      Traceback (most recent call last):
      ...
      dropout_jax.data.DataError: empty/train-images-idx3-ubyte.gz is missing...

    Source: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747.
    """
    return _load_idx("fashion_mnist", data_dir)


def split_validation(dataset: Dataset, n: int) -> tuple[Dataset, tuple[np.ndarray, np.ndarray]]:
    """Set the last n training cases aside for validation.

    The papers hold 10 000 of MNIST's training images out at random; the last n are the same
    images whatever the key of the run.

    Args:
      dataset: its test set is left alone.
      n: how many, from 1 to one less than there are.

    Returns:
      The data set with a shorter training set (`sha256` is still that of the whole), and the
      validation set (x, y).

    Raises:
      ValueError: n is out of range.

    Example:
      >>> fitted, (valid_x, valid_y) = split_validation(load_digits(), 237)
      >>> fitted.train_x.shape, valid_x.shape
      ((1200, 64), (237, 64))

    Source (the size): Srivastava et al. 2014, appendix B.1.
    """
    cases = len(dataset.train_x)
    if not 1 <= n < cases:
        raise ValueError(f"n = {n}; take from 1 to {cases - 1} of the {cases} training cases.")
    x, y = dataset.train_x, dataset.train_y
    return dataset._replace(train_x=x[:-n], train_y=y[:-n]), (x[-n:], y[-n:])


def make_dataset(
    name: str, train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray
) -> Dataset:
    digest = hashlib.sha256()
    for array in (train_x, train_y, test_x, test_y):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return Dataset(name, train_x, train_y, test_x, test_y, digest.hexdigest())


def _load_idx(name: str, data_dir: str | Path | None) -> Dataset:
    train_x, train_y, test_x, test_y = idx.read_files(name, data_dir)
    return make_dataset(
        name, _pixels(train_x), train_y.astype(np.int32), _pixels(test_x), test_y.astype(np.int32)
    )


def _pixels(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
