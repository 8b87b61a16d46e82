"""When a run saves a checkpoint, and whether the one that it finds is its own."""

import datetime
import json
import sys
import time
from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import jax

from dropout_jax.train import checkpoint, processes
from dropout_jax.train.fingerprint import DIFFERENCES, identity_of, platform, weights_of
from dropout_jax.train.loop import Data, State

Every = int | datetime.timedelta | None
"""Epochs or time between two checkpoints."""
Row = dict[str, Any]
SHARE = 0.1  # of the time, for saving by default

# The weights of models that runs of this process left behind where they ended by an error: the same
# call with such a model goes on.
_left: dict[str, list[list[int]]] = {}


class _Complete(NamedTuple):
    """An epoch from which a run can go on."""

    epoch: int
    state: State
    rows: list[Row]
    seconds: float


class Saver:
    """The checkpoints of one run, or nothing at all without a folder; to be used in `with`.

    At its end it saves the last complete epoch, however the run ended, and lets the folder go.

    Args:
      folder: where the checkpoints go, or None.
      every: epochs or time between two; None for as often as takes a tenth of the time.
      epoch: (state, data) -> (state, losses), for the run's fingerprint.
      state: the first state of the run.
      data: its training data.

    Raises:
      TypeError, ValueError: `every` is neither epochs nor a time.
      CheckpointError: the folder cannot be written, or another process writes there.
    """

    def __init__(
        self, folder: str | Path | None, every: Every, epoch: Callable, state: State, data: Data
    ):
        _check_every(every)
        self._dir, self._every, self._folder = folder, every, None
        self._epochs, self._saved = 0, 0
        self._rows, self._last, self._before = [], None, None
        self._time, self._next = time.monotonic(), 0.0
        if folder is not None:
            self._identity = identity_of(epoch, state, data)
            self._platform = platform(state, data)
            self._folder = checkpoint.open_folder(folder)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if self._folder is None:
            return
        try:
            if error is not None and jax.process_count() == 1:
                left = [some.state for some in (self._before, self._last) if some]
                _left[str(self._folder.path)] = [w for state in left for w in _held(state)]
            # Of several processes this one may be the only one that ends.
            alone = error is None or jax.process_count() == 1
            if alone and not isinstance(error, checkpoint.CheckpointError):
                self._save()
        finally:
            self._folder.close()

    def resume(self, state: State, epochs: int) -> tuple[State, list[Row], int, float]:
        """The state to go on from, its rows of metrics, its epoch, and seconds since the last row.

        Raises:
          CheckpointError: the checkpoint found is of another run, or of more than `epochs` epochs.
        """
        self._epochs = epochs
        found = None if self._folder is None else checkpoint.restore(self._folder, state)
        if not found:
            return state, [], 0, 0.0
        restored, about = found
        elsewhere = self._check(about, state, restored)
        self._saved, self._rows = about["epoch"], about["rows"]
        if self._saved > epochs:
            raise checkpoint.CheckpointError(
                f"the run in {self._dir} has made {self._saved} epochs, and {epochs} were asked "
                "for; write as many or more, or choose another folder."
            )
        if jax.process_index() == 0:
            print(f"going on from epoch {self._saved} in {self._dir}{elsewhere}", file=sys.stderr)
        return restored, [json.loads(row) for row in self._rows], self._saved, about["seconds"]

    def complete(self, epoch: int, state: State, rows: list[Row], seconds: float) -> None:
        """Say that an epoch is complete, from where the run can go on.

        Args:
          epoch: its number, from 1.
          state: the state after it.
          rows: all rows of metrics until now.
          seconds: of training since the last row.
        """
        if self._folder is not None:
            self._before, self._last = self._last, _Complete(epoch, state, rows, seconds)

    def save_if_due(self) -> None:
        """Save the last complete epoch if it is time to."""
        if self._folder is not None and self._last is not None:
            self._before = None
            if processes.of_the_first([self._is_due(self._last)])[0]:
                self._save()

    def where(self) -> str:
        """What is saved, and where."""
        if self._folder is None:
            return "nothing saved: no checkpoint_dir was given"
        return (
            f"{self._saved} of {self._epochs} epochs complete, saved in {self._dir}; the same call "
            "goes on from there"
        )

    def _is_due(self, last: _Complete) -> bool:
        if last.epoch == self._epochs:
            return True
        if self._every is None:
            evaluated = bool(last.rows) and last.rows[-1]["epoch"] == last.epoch
            return evaluated and time.monotonic() >= self._next
        if isinstance(self._every, datetime.timedelta):
            return time.monotonic() - self._time >= self._every.total_seconds()
        return last.epoch % self._every == 0

    def _save(self) -> None:
        """Save the last complete epoch, unless it is saved."""
        if self._folder is None or self._last is None or self._last.epoch <= self._saved:
            return
        start, last = time.monotonic(), self._last
        self._rows += map(json.dumps, last.rows[len(self._rows) :])  # each is written once
        about = {"identity": self._identity, "platform": self._platform, "epoch": last.epoch}
        about |= {"seconds": last.seconds, "rows": self._rows}
        checkpoint.save(self._folder, last.epoch, last.state, about)
        self._saved, self._time = last.epoch, time.monotonic()
        self._next = self._time + (self._time - start) * (1 / SHARE - 1)

    def _check(self, about: dict[str, Any], state: State, restored: State) -> str:
        """What else is to be said, or an error where the checkpoint is of another run."""
        assert self._folder is not None  # for there is a checkpoint
        there, here = about["platform"], self._platform
        changes = [f"{name} {there[name]} then and {here[name]} now"
                   for name in here if there.get(name) != here[name]]  # fmt: skip
        # The program's text is another with each of these.
        saved = about["identity"]
        same = {"devices"} if saved["portable"] and self._identity["portable"] else set()
        ported = any(there.get(name) != here[name] for name in here.keys() - same)
        for part, difference in DIFFERENCES.items():
            if saved[part] == self._identity[part] or (part == "program" and ported):
                continue
            left = _left.get(str(self._folder.path), [])
            if part == "weights" and self._identity[part] in [*_held(restored), *left]:
                continue  # a model that this run has trained so far
            raise checkpoint.CheckpointError(
                f"the checkpoint in {self._dir} is of a run with {difference}; choose "
                "another folder, or call fit as for that run."
            )
        self._identity["weights"] = saved["weights"]
        if not changes:
            return "."
        return f" ({', '.join(changes)}): from here the run is no longer bitwise the same."


def _held(state: State) -> list[list[int]]:
    """The checksums of the weights that a model may have been given from a state."""
    best = [] if state.best is None else [state.best[0]]
    return [weights_of(params) for params in (state.params, *best)]


def _check_every(every: Every) -> None:
    example = "write a number of epochs, such as 10, or datetime.timedelta(minutes=5)."
    if isinstance(every, datetime.timedelta):
        if every <= datetime.timedelta(0):
            raise ValueError(f"checkpoint_every is {every}; {example}")
    elif every is not None and (isinstance(every, bool) or not isinstance(every, Integral)):
        raise TypeError(f"checkpoint_every is {every!r}; {example}")
    elif every is not None and every < 1:
        raise ValueError(f"checkpoint_every is {every}; {example}")
