"""The UCI sets that a data folder holds, and the settings of the authors beside them."""

import os
from pathlib import Path

import numpy as np


def uci_folder(data_dir: Path | None) -> Path:
    """The folder of the sets: uci/ in the data's."""
    root = data_dir or os.environ.get("DROPOUT_JAX_DATA")
    folder = Path(root or ".").expanduser() / "uci"
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is no folder; write --data-dir, the folder that holds uci/<set>/data."
        )
    return folder


def found_sets(folder: Path) -> list[str]:
    """The sets of a folder, the one with the smallest file first."""
    files = sorted(folder.glob("*/data/data.txt"), key=lambda file: file.stat().st_size)
    return [file.parent.parent.name for file in files]


def set_folder(data_dir: Path | None, name: str) -> Path:
    """The folder of one set."""
    folder = uci_folder(data_dir)
    if name not in found_sets(folder):
        there = ", ".join(found_sets(folder)) or "none"
        raise ValueError(f"there is no set {name!r} in {folder}; there are: {there}")
    return folder / name


def settings(folder: Path, name: str, default: float | tuple[float, ...]) -> list[float]:
    """The numbers in <name>.txt beside a set's data, or the default where there is no such file."""
    path = folder / "data" / f"{name}.txt"
    return np.atleast_1d(np.loadtxt(path) if path.exists() else default).tolist()


def splits(folder: Path) -> int:
    """How many splits a set has files for."""
    return len(list((folder / "data").glob("index_train_*.txt")))


def training_cases(folder: Path) -> int:
    """How many cases the first split trains on."""
    return len(np.loadtxt(folder / "data" / "index_train_0.txt"))
