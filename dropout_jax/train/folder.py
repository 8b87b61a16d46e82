"""Folders of checkpoints: named files, written by one process or run at a time."""

import re
import shutil
import tempfile
from pathlib import Path

import jax

from dropout_jax.train import archive, processes
from dropout_jax.train.lock import FileLock

NAME = re.compile(r"checkpoint-(\d+)(?:\.(\d+)-of-(\d+))?\.npz")


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read, or that is not of the run that asks for it."""

    __module__ = "dropout_jax"


class Folder:
    """The checkpoints in one folder: `open_folder` makes it; close it, or use it in `with`."""

    def __init__(self, path: Path, lock: FileLock | None):
        self.path = path
        self.damaged = set()  # the first files of checkpoints that could not be read
        self._lock = lock

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Let others write here."""
        if self._lock is not None:
            self._lock.release()

    def saved(self) -> list[tuple[int, list[Path]]]:
        """The step and the files of each checkpoint, the latest first; some may be damaged."""
        found = {}
        for path in self.path.iterdir():
            if match := NAME.fullmatch(path.name):
                step, _, files = (int(part or 1) for part in match.groups())
                found[step, files] = [self.file(step, i, files) for i in range(files)]
        return [(step, paths) for (step, _), paths in sorted(found.items(), reverse=True)]

    def file(self, step: int, process: int, processes: int) -> Path:
        """Where a process writes its part of a checkpoint."""
        part = "" if processes == 1 else f".{process}-of-{processes}"
        return self.path / f"checkpoint-{step}{part}.npz"


def open_folder(folder: str | Path, *, read_only: bool = False, wait: float = 0.0) -> Folder:
    """The checkpoints in `folder`, which is made if need be; nobody else can write there meanwhile.

    Args:
      folder: one that all processes can read and write.
      read_only: to read what is there, while others may write.
      wait: seconds to wait for another process that writes there.

    Raises:
      CheckpointError: the folder cannot be written, another process writes there, or it holds what
        an earlier version of dropout_jax wrote.
    """
    if "://" in str(folder):
        raise CheckpointError(
            f"{folder} is no folder of this machine; give one, and copy it there."
        )
    try:
        path = Path(folder).expanduser().resolve()
    except RuntimeError:
        raise CheckpointError(
            f"{folder} begins with ~, and this user has no home folder; write the whole path."
        ) from None
    if path.is_file():
        raise CheckpointError(f"{folder} is a file; write a folder, such as {path.parent}.")
    if read_only and not path.is_dir():
        raise CheckpointError(f"there is no folder {folder}; give one that dj.save wrote.")
    lock = None if read_only else FileLock(path / ".lock")
    problem = ""
    if lock is not None and jax.process_index() == 0:
        problem = _prepare(path, folder, lock, wait)
    if not processes.everywhere(not problem):
        raise CheckpointError(problem or f"the first process cannot write to {folder}.")
    opened = Folder(path, lock)
    for inside in path.iterdir():
        if inside.name.isdigit() and (inside / "_CHECKPOINT_METADATA").exists():
            opened.close()
            raise CheckpointError(
                f"{inside} was written by an earlier version of dropout_jax, and this one does not "
                "read it; choose another folder, or read it with version 0.1."
            )
    return opened


def clear(folder: str | Path) -> None:
    """Delete a folder of checkpoints with all that is in it, so that a run begins anew.

    Raises:
      CheckpointError: another process is writing there.
    """
    path = Path(folder)
    if not path.is_dir():
        return
    lock = FileLock(path / ".lock")
    if problem := _prepare(path, folder, lock, wait=0.0):
        raise CheckpointError(problem)
    shutil.rmtree(path, ignore_errors=True)
    lock.release()


def _prepare(path: Path, folder: str | Path, lock: FileLock, wait: float) -> str:
    """Make and lock the folder, and remove what killed processes left; what is wrong, if it is."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
        if not lock.acquire(wait):
            return (
                f"another process or run is writing to {folder}; wait until it ends, or choose "
                "another folder."
            )
        for left in path.glob(f".checkpoint-*{archive.UNFINISHED}"):
            left.unlink()
    except OSError as error:
        return f"cannot write checkpoints to {folder}: {error.strerror}."
    return ""
