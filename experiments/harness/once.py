"""Run a config once: read its record if there is one, go on from its checkpoint, or start."""

import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dropout_jax import data
from dropout_jax.train import checkpoint
from experiments.records import record

Run = Callable[[Any, Path], dict[str, Any]]
"""(config, folder for checkpoints) -> a result, as `record.write` takes it."""


def run_once(experiment: str, config: Any, run: Run) -> record.Record:
    """The record of a config: the one that is there or, with `config.fresh`, one of a new run.

    Args:
      experiment: the name of its module.
      config: a `Common`; its field `data`, where it has one, names the data set that it reads.
      run: makes the result.
    """
    found = None if config.fresh else record.find(experiment, config, config.out)
    if found:
        message = f"{found.path}: the record of these settings; --fresh makes another"
        print(message, file=sys.stderr)
        return found
    checkpoints = checkpoint_folder(experiment, config)
    if config.fresh:
        checkpoint.clear(checkpoints)
    name = getattr(config, "data", None)
    digest = name and {name: data.load(name, config.data_dir).sha256}
    found = write(experiment, config, lambda: run(config, checkpoints), digest)
    # The record is kept, and the weights, which can be hundreds of MB, are not.
    checkpoint.clear(checkpoints)
    return found


def write(
    experiment: str, config: Any, make: Callable[[], dict[str, Any]], data_sha256: Any
) -> record.Record:
    """Time a run and write its record under `config.out`."""
    start = time.perf_counter()
    result = make()
    path = record.write(
        experiment,
        config,
        result,
        data_sha256=data_sha256,
        wall_seconds=time.perf_counter() - start,
        folder=config.out,
    )
    return record.read(path)


def checkpoint_folder(experiment: str, config: Any) -> Path:
    """Where a run is saved while it goes on: a folder a config."""
    name = zlib.crc32(repr(record.recorded_config(config)).encode())
    return config.out / experiment / "checkpoints" / f"{name:08x}"
