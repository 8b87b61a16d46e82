"""A file lock that is gone when the process that holds it is, however that one ends."""

import contextlib
import os
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt


class FileLock:
    """An exclusive lock of the operating system on a file, which it makes and leaves there.

    The system releases the lock when the process ends, also by SIGKILL. On a file system that has
    no locks nothing is locked.

    Args:
      path: the file.
    """

    def __init__(self, path: Path):
        self._path = path
        self._file, self._process = None, os.getpid()

    def acquire(self, seconds: float = 0.0) -> bool:
        """Take the lock, and wait for it up to so many seconds; True where that succeeds."""
        self._file = open(self._path, "a+b")
        deadline = time.monotonic() + seconds
        while not _try_to_lock(self._file):
            if time.monotonic() >= deadline:
                self.release()
                return False
            time.sleep(0.05)
        return True

    def __del__(self):
        self.release()

    def release(self) -> None:
        """Give the lock back; nothing happens without one."""
        if self._file is not None:
            # For children that were forked too, which have the same open file; not by them.
            if fcntl is not None and self._process == os.getpid():
                with contextlib.suppress(OSError):
                    fcntl.flock(self._file, fcntl.LOCK_UN)
            self._file.close()
            self._file = None


def _try_to_lock(file) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):  # another holds it
        return False
    except OSError:  # the file system has no locks
        return True
    return True
