"""The four gzipped IDX files of MNIST and its kin: find, download, check and read them."""

import gzip
import hashlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from dropout_jax._lazy import package

# file -> shape of what it holds
FILES = {
    "train-images-idx3-ubyte.gz": (60_000, 28, 28),
    "train-labels-idx1-ubyte.gz": (60_000,),
    "t10k-images-idx3-ubyte.gz": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte.gz": (10_000,),
}
# MD5 of the four files, in the order of FILES, as torchvision and zalandoresearch publish them.
MD5 = {
    "mnist": (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "fashion_mnist": (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
}
# Tried in this order.
MIRRORS = {
    "mnist": (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    "fashion_mnist": (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
}


class DataError(RuntimeError):
    """A file of a data set is missing, or is not what it should be."""

    __module__ = "dropout_jax.data"


def read_files(name: str, data_dir: str | Path | None) -> list[np.ndarray]:
    """The uint8 arrays of a set, in the order of FILES; `data.load_mnist` says where they lie."""
    folder = find_folder(name, data_dir)
    arrays = []
    for (file, shape), md5 in zip(FILES.items(), MD5[name], strict=True):
        path = download(name, file, md5) if folder is None else folder / file
        check(path, md5)
        arrays.append(read(path, shape))
    return arrays


def find_folder(name: str, data_dir: str | Path | None) -> Path | None:
    """Where the files of a set should be, or None where it is for the cache."""
    if data_dir is not None:
        folder = Path(data_dir).expanduser()
        return folder / name if (folder / name).is_dir() else folder
    variable = os.environ.get("DROPOUT_JAX_DATA")
    if not variable:
        return None
    folder = Path(variable).expanduser()
    if not folder.is_dir():
        raise DataError(f"DROPOUT_JAX_DATA is {variable}, which is no folder; correct or unset it.")
    return folder / name if (folder / name).is_dir() else None


def download(name: str, file: str, md5: str) -> Path:
    """The file in the cache, from the first mirror that delivers the right bytes.

    pooch downloads to a temporary name and renames once the checksum is right.
    """
    pooch = package("pooch", "downloading a data set")
    try:
        cache = Path(pooch.os_cache("dropout_jax")) / name
    except RuntimeError:  # this user has no home directory
        raise DataError(
            f"{name} is not here, and there is no home directory to download it to; set "
            f"DROPOUT_JAX_DATA to a folder that holds {name}/, or HOME."
        ) from None
    failures = []
    for mirror in MIRRORS[name]:
        try:
            return Path(pooch.retrieve(mirror + file, f"md5:{md5}", file, cache, progressbar=True))
        except (OSError, ValueError) as error:
            failures.append(f"\n  {mirror}{file}: {error}")
    raise DataError(
        f"{file} of {name} could not be downloaded:{''.join(failures)}\n"
        f"Try again later, or put the four files into a folder {name}/ and set DROPOUT_JAX_DATA "
        "to the folder that holds it."
    )


def check(path: Path, md5: str) -> None:
    if not path.is_file():
        raise DataError(
            f"{path} is missing; the folder must hold {', '.join(FILES)}. "
            "Without data_dir and DROPOUT_JAX_DATA they are downloaded."
        )
    found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if found == md5:
        return
    for name, checksums in MD5.items():
        for file, checksum in zip(FILES, checksums, strict=True):
            if found == checksum:
                raise DataError(
                    f"{path} holds the bytes of {name}/{file}; move it there and put the right "
                    "file here."
                )
    raise DataError(
        f"{path} is truncated, corrupted or not the original file (MD5 {found}, expected {md5}); "
        "replace or delete it."
    )


def read(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The array of unsigned bytes in a gzipped IDX file of known shape.

    An IDX file is big-endian: the magic number 0x0800 + rank, the dimensions, the bytes.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} is no intact gzip file ({error}); replace or delete it."
        ) from error
    header = struct.pack(f">{1 + len(shape)}i", 0x0800 + len(shape), *shape)
    if not content.startswith(header):
        raise DataError(
            f"{path} begins with {content[: len(header)].hex()} instead of {header.hex()}, the IDX "
            f"header of unsigned bytes of shape {shape}; replace or delete it."
        )
    values = np.frombuffer(content, np.uint8, offset=len(header))
    if values.size != np.prod(shape):
        raise DataError(
            f"{path} holds {values.size} values instead of the {np.prod(shape)} that its header "
            "announces; replace or delete it."
        )
    return values.reshape(shape)
