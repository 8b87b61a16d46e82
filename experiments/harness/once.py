"""A run is made once: one that was interrupted goes on, and one that has its record is read."""

import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dropout_jax import data
from dropout_jax.train import checkpoint
from experiments.records import record


def record_of(
    experiment: str, config: Any, run: Callable[[Any, Path], dict[str, Any]]
) -> record.Record:
    """The record of a config: the one that is there, with `config.resume`, or else of a new run.

    Args:
      experiment: the name of its module.
      config: a `Common`; its field `data`, where it has one, names the data set that it reads.
      run: (config, folder for checkpoints) -> a result, as `record.write` takes it.
    """
    found = record.find(experiment, config, config.out) if config.resume else None
    if found:
        return found
    checkpoints = checkpoint_folder(experiment, config)
    if not config.resume:
        checkpoint.clear(checkpoints)
    start = time.perf_counter()
    name = getattr(config, "data", None)
    digest = name and {name: data.load(name, config.data_dir).sha256}
    result = run(config, checkpoints)
    path = record.write(
        experiment,
        config,
        result,
        data_sha256=digest,
        wall_seconds=time.perf_counter() - start,
        folder=config.out,
    )
    # The record is kept, and the weights, which can be hundreds of MB, are not.
    checkpoint.clear(checkpoints)
    return record.read(path)


def checkpoint_folder(experiment: str, config: Any) -> Path:
    """Where a run is saved while it goes on: a folder a config."""
    name = zlib.crc32(repr(record.recorded_config(config)).encode())
    return config.out / experiment / "checkpoints" / f"{name:08x}"
