"""Data for runs of seconds."""

import numpy as np

from dropout_jax import data


def images(train: int = 400, test: int = 200) -> data.Dataset:
    """Ten classes of 16 pixels that a small net can learn."""
    rng = np.random.Generator(np.random.PCG64(0))
    y = rng.integers(0, 10, train + test).astype(np.int32)
    x = (np.eye(10, 16)[y] + rng.normal(0, 0.1, (train + test, 16))).astype(np.float32)
    return data.Dataset("mnist", x[:train], y[:train], x[train:], y[train:], "ab" * 32)
