"""Split a data set into training and held-out cases, as a run's config asks for."""

from typing import Any

import jax.numpy as jnp

from dropout_jax import data
from dropout_jax.data import Dataset, split_validation
from dropout_jax.train import Split

QUICK_CASES = 2000  # of each split, with --quick

Splits = dict[str, Split]
"""Name -> (x, y): "train", and "test" or "val"."""


def load_splits(config: Any) -> Splits:
    """The splits of the data set that a config names, for its `validation` and `quick`."""
    dataset = data.load(config.data, config.data_dir)
    return splits(dataset, getattr(config, "validation", 0), QUICK_CASES if config.quick else None)


def splits(dataset: Dataset, validation: int, most: int | None = None) -> Splits:
    """The split to train on, and the one to report: "test" or, with the test set unread, "val".

    Args:
      dataset: as loaded.
      validation: how many of the last training cases to set aside as "val"; 0 for none.
      most: only the first so many cases of each.
    """
    name, held_out = "test", (dataset.test_x, dataset.test_y)
    if validation:
        name = "val"
        dataset, held_out = split_validation(dataset, validation)
    pairs = {"train": (dataset.train_x, dataset.train_y), name: held_out}
    return {name: (jnp.asarray(x[:most]), jnp.asarray(y[:most])) for name, (x, y) in pairs.items()}
