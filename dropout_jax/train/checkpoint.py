"""Save and restore checkpoints: the last complete one is found, bitwise, whatever happened since.

A checkpoint is one file, `checkpoint-12.npz`, or one file for each process of several. The layout
is NumPy's, and not a library's of its own: a file is complete or absent by one rename, each array
has a checksum, and any number of devices or processes reads what another number wrote.
"""

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dropout_jax.train import archive, pieces, processes
from dropout_jax.train.folder import CheckpointError as CheckpointError
from dropout_jax.train.folder import Folder
from dropout_jax.train.folder import clear as clear
from dropout_jax.train.folder import open_folder as open_folder
from dropout_jax.typing import Array

FORMAT = 2  # 1 was Orbax's
KEPT = 2


def save(folder: Folder, step: int, state: Any, about: Any, kind: str = "run") -> None:
    """Write `state` (a pytree of arrays and typed keys) and `about` (JSON) as checkpoint `step`.

    `kind` is "run" or "model"; what is restored has to be of the same kind. Every process writes
    the pieces of the arrays that are on its devices. The two last complete checkpoints stay.

    Raises:
      CheckpointError: the disk is full, or the folder can no longer be written; the checkpoints
        that were there stay.
    """
    leaves = pieces.named_leaves(state)
    files = jax.process_count()
    path = folder.file(step, jax.process_index(), files)
    here = pieces.pieces_here(leaves)
    header = {
        "format": FORMAT,
        "kind": kind,
        "save": processes.common_number(),  # tells files of one save from those of another
        "arrays": pieces.signature(leaves),
        "pieces": [piece.about for piece in here],
        "about": about,
    }
    problem = ""
    try:
        archive.write(path, header, ((p.about["member"], np.asarray(p.values)) for p in here))
    except OSError as error:
        problem = f"cannot write {path}: {error.strerror}; the checkpoints before it are complete."
    if not processes.everywhere(not problem):
        raise CheckpointError(problem or f"another process cannot write its part of {path}.")
    if jax.process_index() == 0:
        _remove_old(folder, step, files)


def _remove_old(folder: Folder, step: int, files: int) -> None:
    """Leave the checkpoint just written and the last before it, and what is not ours."""
    kept = 0
    for other, paths in folder.saved():
        if not all(archive.looks_complete(path) for path in paths):
            continue  # cut short, or another's file of that name: not ours to delete
        newest = (other, len(paths)) == (step, files)
        wanted = newest or (other < step and paths[0] not in folder.damaged)
        kept += wanted
        if not wanted or kept > KEPT:
            for path in paths:
                with contextlib.suppress(OSError):
                    path.unlink()


def restore(folder: Folder, like: Any, kind: str = "run") -> tuple[Any, Any] | None:
    """The latest checkpoint that can be read, as a pytree like `like`, with its `about`.

    Where a later one is damaged or a part of it is missing, a warning says so.

    Args:
      folder: from `open_folder`.
      like: a pytree of arrays, or of `jax.ShapeDtypeStruct`s; the arrays go to its devices.
      kind: as given to `save`.

    Returns:
      (state, about), or None where there is no checkpoint.

    Raises:
      CheckpointError: it holds other arrays than `like` has; or there are checkpoints, and none can
        be read.
    """
    leaves = pieces.named_leaves(like)

    def read(archives: list[archive.Archive]):
        _check_kind(folder, archives[0].about["kind"], kind)
        saved = archives[0].about["arrays"]
        if saved != pieces.signature(leaves):
            raise CheckpointError(
                f"what is saved in {folder.path} is another model or optimizer: "
                f"{_differences(saved, pieces.signature(leaves))}. Make it as it was, or choose "
                "another folder."
            )
        return _arrays(archives, leaves), archives[0].about["about"]

    found, problems = _latest(folder, read)
    if found is None:
        if problems:
            raise CheckpointError(f"no checkpoint in {folder.path} can be read: {problems}.")
        return None
    if problems:
        warnings.warn(
            f"in {folder.path} {problems}; going back to the checkpoint before.", stacklevel=2
        )
    arrays, about = found
    return jax.tree.unflatten(jax.tree.structure(like), arrays), about


def next_step(folder: Folder, kind: str) -> int:
    """The step after all that are there.

    Raises:
      CheckpointError: what is there is of another kind.
    """
    there, _ = _latest(folder, lambda archives: archives[0].about["kind"])
    if there is not None:
        _check_kind(folder, there, kind)
    return max((step + 1 for step, _ in folder.saved()), default=0)


def _check_kind(folder: Folder, there: str, wanted: str) -> None:
    if there != wanted:
        holds = {"run": "the checkpoints of a run of fit", "model": "a model that dj.save wrote"}
        raise CheckpointError(f"{folder.path} holds {holds[there]}; choose another folder.")


def _latest(folder: Folder, read: Callable[[list[archive.Archive]], Any]) -> tuple[Any, str]:
    """What `read` finds in the latest checkpoint it can read, and what is wrong with later ones.

    All processes take the same checkpoint. The folder is listed anew each time, for another process
    may save and delete in it meanwhile.
    """
    problems = {}
    while True:
        saved = {(step, len(paths)): paths for step, paths in folder.saved()}
        untried = [which for which in saved if which not in problems]
        which = processes.of_the_first(untried[0] if untried else (-1, 0))
        if which == (-1, 0):
            there = [problem for which, problem in problems.items() if which in saved]
            return None, "; ".join(there)
        problem, found = "", None
        paths = [folder.file(which[0], i, which[1]) for i in range(which[1])]
        try:
            with contextlib.ExitStack() as stack:
                found = read(_opened(paths, stack))
        except archive.DamagedError as error:
            problem = str(error)
        if processes.everywhere(not problem):
            return found, "; ".join(p for which, p in problems.items() if which in saved)
        problems[which] = problem or f"another process cannot read {paths[0].name}"
        folder.damaged.add(paths[0])


def _opened(paths: list[Path], stack: contextlib.ExitStack) -> list[archive.Archive]:
    """The files of one checkpoint."""
    archives = [stack.enter_context(archive.Archive(path)) for path in paths]
    for path, opened in zip(paths, archives, strict=True):
        if opened.about["format"] > FORMAT:
            raise CheckpointError(
                f"{path} was written by a newer version of dropout_jax; install that one."
            )
        if opened.about["save"] != archives[0].about["save"]:
            raise archive.DamagedError(f"{path.name} and {paths[0].name} are of two saves")
    return archives


def _arrays(archives: list[archive.Archive], leaves: pieces.Leaves) -> list[Array]:
    found: dict[str, list[tuple[archive.Archive, dict[str, Any]]]] = {name: [] for name in leaves}
    for opened in archives:
        for piece in opened.about["pieces"]:
            found[piece["array"]].append((opened, piece))

    def put_together(name):
        abouts = [about for _, about in found[name]]

        def read(i):
            opened, about = found[name][i]
            return opened.array(about["member"], about["shape"], about["dtype"])

        try:
            return pieces.put_together(leaves[name], abouts, read)
        except pieces.MissingPieceError:
            raise archive.DamagedError(f"{archives[0].path.name} lacks a part of {name}") from None

    return [put_together(name) for name in leaves]


def _differences(saved: dict[str, str], wanted: dict[str, str]) -> str:
    """The first few arrays that are not the same."""
    lines = [f"{name} is {saved[name]} there and {wanted[name]} here"
             for name in saved if name in wanted and saved[name] != wanted[name]]  # fmt: skip
    lines += [f"{name} is not there" for name in wanted if name not in saved]
    lines += [f"{name} is there and not here" for name in saved if name not in wanted]
    more = f", and {len(lines) - 3} more" if len(lines) > 3 else ""
    return ", ".join(lines[:3]) + more
