"""Write and read arrays as a NumPy .npz file that is complete or absent, with checksums.

`numpy.load` opens such a file too. It is a zip file: of each array it holds a CRC-32, and its table
of contents is its end, so that a byte that flipped and a file that was cut short are both found.
"""

import contextlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

ABOUT = "about.json"
MARK = b"dropout_jax"
UNFINISHED = ".unfinished"


class DamagedError(Exception):
    """A file that cannot be read, or does not hold what was written; the message names it."""


def write(path: Path, about: dict[str, Any], arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write a file that is complete and on the disk, or raise and leave what was there.

    Args:
      path: the file, which is replaced at once where there is one.
      about: JSON to be kept beside the arrays.
      arrays: name -> array, one after another.

    Raises:
      OSError: the disk is full, or the folder cannot be written.
    """
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        with open(unfinished, "wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                archive.comment = MARK
                archive.writestr(ABOUT, json.dumps(about))
                for name, array in arrays:
                    _write_array(archive, name, array)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def _write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    array = np.ascontiguousarray(array).reshape(array.shape)  # the first makes a row of a number
    if array.dtype.kind == "V":  # bfloat16 and others that NumPy's format does not know
        array = array.view(f"u{array.dtype.itemsize}")
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        header = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(member, header | {"fortran_order": False})
        if array.size:
            member.write(array.reshape(-1).view(np.uint8).data)


def _sync_folder(folder: Path) -> None:
    """Have the file's new name on the disk as well, where the system can do that for a folder."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def looks_complete(path: Path) -> bool:
    """Whether `write` made the file and it has its end; its arrays are not read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment == MARK
    except (OSError, zipfile.BadZipFile, ValueError):
        return False


class Archive:
    """A file that `write` made: its `about`, and its arrays one by one, each with its checksum.

    Raises:
      DamagedError: the file is absent, cannot be read, or is not as it was written.
    """

    def __init__(self, path: Path):
        self.path = path
        with self._named():
            self._archive = zipfile.ZipFile(path)
            if self._archive.comment != MARK:
                raise DamagedError(f"{path.name} is no checkpoint of dropout_jax")
            self.about = json.loads(self._archive.read(ABOUT))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._archive.close()

    def array(self, name: str, shape: list[int], dtype: str) -> np.ndarray:
        """The array of that name, which `write` was given."""
        with self._named():
            data = self._archive.read(f"{name}.npy")  # checks the CRC
            kind = jnp.dtype(dtype)
            size = int(np.prod(shape)) * kind.itemsize
            return np.frombuffer(data, kind, offset=len(data) - size).reshape(shape)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Give every error of reading the file's name."""
        try:
            yield
        except (MemoryError, DamagedError):
            raise
        except FileNotFoundError:
            raise DamagedError(f"{self.path.name} is missing") from None
        except OSError as error:
            raise DamagedError(f"{self.path.name} cannot be read ({error.strerror})") from None
        except Exception as error:  # whatever zip and JSON say where a byte is wrong
            raise DamagedError(f"{self.path.name} is damaged ({error})") from None
