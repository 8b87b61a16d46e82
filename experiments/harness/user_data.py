"""Read a user's own table of cases (.csv or .npz), look at it, split and standardise it."""

import csv
import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

MOST_CLASSES = 1000
SCALES, BALANCE = 10, 3  # factors between columns' scales, between classes, that are worth a word


class Cases(NamedTuple):
    """Cases to classify: x (cases, features), y (cases,) from 0, the names of the classes."""

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    sha256: str


def read(path: Path, target: str | None = None) -> Cases:
    """The cases of a file.

    Args:
      path: an .npz with arrays x and y, or a .csv with a column a feature.
      target: of a .csv, the name of the column that holds the class; the last one if not given.

    Raises:
      ValueError: the file holds no such table; the message says what to write.
    """
    if path.suffix == ".csv":
        x, y = _read_csv(path, target)
    elif zipfile.is_zipfile(path):
        with np.load(path) as arrays:
            if not {"x", "y"} <= set(arrays.files):
                raise ValueError(f"{path} holds {sorted(arrays.files)}; it needs x and y")
            x, y = arrays["x"], arrays["y"]
    else:
        raise ValueError(
            f"{path} is no .csv and no .npz file; write one with np.savez(file, x=x, y=y)"
        )
    if len(x) != len(y) or y.ndim != 1 or x.ndim < 2:
        raise ValueError(
            f"x is {x.shape} and y {y.shape}; write a row of x and one class of y a case"
        )
    x = x.reshape(len(x), -1).astype(np.float32)
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"x holds a number that is not finite (case {row}, column {column})")
    names, y = np.unique(_classes(y), return_inverse=True)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Cases(x, y.astype(np.int32), tuple(map(str, names)), digest)


def _classes(y: np.ndarray) -> np.ndarray:
    """Whole numbers or words; ValueError for quantities."""
    if np.issubdtype(y.dtype, np.floating):
        if not np.array_equal(y, np.round(y)):
            example = y[y != np.round(y)][0]
            raise ValueError(
                f"y holds numbers such as {example:g}, a quantity; this compares errors of "
                "classes: write whole numbers or words"
            )
        y = y.astype(np.int64)
    if len(np.unique(y)) > MOST_CLASSES:
        raise ValueError(f"y holds {len(np.unique(y))} different classes; is it the right column?")
    return y


def _read_csv(path: Path, target: str | None) -> tuple[np.ndarray, np.ndarray]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if line]
    if len(lines) < 2:
        raise ValueError(f"{path} holds no cases; write a line a case, the class last")
    header = [f"column {i}" for i in range(1, len(lines[0]) + 1)]
    if not any(map(_is_number, lines[0])):
        header, lines = lines[0], lines[1:]
    if target is not None and target not in header:
        raise ValueError(f"--target is {target!r}; choose one of {', '.join(header)}")
    at = len(header) - 1 if target is None else header.index(target)
    for number, line in enumerate(lines, 1):
        if len(line) != len(header):
            raise ValueError(f"case {number} of {path} has {len(line)} columns, not {len(header)}")
    columns = list(zip(*lines, strict=True))
    features = [i for i in range(len(header)) if i != at]
    for i in features:
        wrong = next((cell for cell in columns[i] if not _is_number(cell)), None)
        if wrong is not None:
            raise ValueError(
                f"column {header[i]!r} holds {wrong!r}, which is no number; write numbers, for a "
                "category a column of 0 and 1 a value, and leave out cases with gaps"
            )
    x = np.array([[float(cell) for cell in columns[i]] for i in features]).T
    labels = np.array(columns[at])
    return x, labels.astype(float) if all(map(_is_number, columns[at])) else labels


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def findings(x: np.ndarray, y: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Facts about the data that would mislead a comparison, a sentence each."""
    counts = np.bincount(y, minlength=len(classes))
    lines = [f"{len(x)} cases, {x.shape[1]} columns, {len(classes)} classes"]
    changes = np.mean(y[1:] != y[:-1]) if len(y) > 1 else 0.0
    if changes < (1 - np.sum((counts / len(y)) ** 2)) / 2:
        lines.append("the cases are sorted by class or nearly so: they are shuffled")
    deviations = x.std(axis=0)
    constant, varying = int(np.sum(deviations == 0)), deviations[deviations > 0]
    if constant:
        lines.append(f"{constant} columns hold one value in all cases")
    if len(varying) and varying.max() > SCALES * varying.min():
        factor = varying.max() / varying.min()
        lines.append(f"the columns differ in scale by a factor of {factor:.3g}: x is standardised")
    if counts.max() > BALANCE * counts.min():
        most, share = classes[int(counts.argmax())], counts.max() / len(y)
        lines.append(
            f"the classes are not balanced: always to answer {most!r} has an error of "
            f"{100 * (1 - share):.2f} %"
        )
    return lines


def stratified(y: np.ndarray, share: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to set aside: one in `share` of each class, in random order.

    Raises:
      ValueError: a class has fewer than two cases, so that it cannot be in both.
    """
    rng = np.random.default_rng(0)
    train, aside = [], []
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        if len(rows) < 2:
            raise ValueError(f"class number {label} has one case; leave it out, or give more")
        cut = max(1, len(rows) // share)
        aside.append(rows[:cut])
        train.append(rows[cut:])
    return rng.permutation(np.concatenate(train)), rng.permutation(np.concatenate(aside))


def standardised(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Each column with the mean 0 and deviation 1 that it has over the training cases."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1)
    return [((x - mean) / scale).astype(np.float32) for x in (train, *others)]
