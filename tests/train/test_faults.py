"""Checkpoints that are cut short, changed, removed or written twice: nothing else is ever lost.

What would make this wrong: a state that is not, bit for bit, one that was saved; an older one than
the last that is complete, or a word less than the name of the file that is damaged; a checkpoint of
before, or a file of the user's, that is harmed; a folder that cannot be saved to afterwards.
"""

import contextlib
import errno
import functools
import io
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from helpers import faulty_saves
from helpers.faulty_saves import Counted, about_of, restore, save, state_of

import dropout_jax as dj
from dropout_jax.train import archive, checkpoint, pieces

LAST, BEFORE = "checkpoint-2.npz", "checkpoint-1.npz"
PARTS = ["checkpoint-2.0-of-2.npz", "checkpoint-2.1-of-2.npz"]
THEIRS = {"notes.txt": b"mine", "checkpoint-9.npz.bak": b"mine", "data/checkpoint-1.npz": b"mine"}
TENTHS = [i / 10 for i in range(1, 10)]


def by_two_processes(folder):
    """Step 2 as two processes would write it, each a half of w, the first all the rest."""
    leaves = pieces.named_leaves(state_of(2))
    here = pieces.pieces_here(leaves)
    for process, path in enumerate(PARTS):
        mine = []
        for piece in here:
            if piece.about["array"] == "w":
                rows = slice(8 * process, 8 * process + 8)
                about = {"member": f"w{process}", "start": [8 * process, 0], "shape": [8, 9]}
                mine.append((piece.about | about, piece.values[rows]))
            elif not process:
                mine.append((piece.about, piece.values))
        about = {"format": 2, "kind": "run", "save": 7, "arrays": pieces.signature(leaves)}
        about |= {"pieces": [about for about, _ in mine], "about": about_of(2)}
        values = ((about["member"], faulty_saves.as_numpy(v)) for about, v in mine)
        archive.write(folder / path, about, values)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders with steps 1 and 2, the second of one process and of two."""
    folders = {}
    for processes in (1, 2):
        folder = tmp_path_factory.mktemp("saved")
        save(folder, *range(1, 4 - processes))
        if processes == 2:
            by_two_processes(folder)
        for name, content in THEIRS.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        folders[processes] = folder
    return folders


def truncated(part):
    """To a share of its length, or by so many bytes."""
    return lambda path: os.truncate(path, _place(path, part))


def flipped(part, bit=0):
    def fault(path):
        content, at = bytearray(path.read_bytes()), _place(path, part)
        content[at] ^= 1 << bit
        path.write_bytes(content)

    return fault


def zeroed(part, length=64):
    """As by a block that never reached the disk."""

    def fault(path):
        with open(path, "r+b") as file:
            file.seek(_place(path, part))
            file.write(bytes(length))

    return fault


def _place(path, part):
    size = path.stat().st_size
    return int(part * size) if isinstance(part, float) else part % size


def a_folder(path):
    path.unlink()
    path.mkdir()


def a_dead_link(path):
    path.unlink()
    path.symlink_to("nowhere")


def lengthened(path):
    path.write_bytes(path.read_bytes() + bytes(100_000))


def replaced(content):
    return lambda path: path.write_bytes(content)


def another_zip(path):
    with zipfile.ZipFile(path, "w") as other:
        other.writestr("a", "b")


ENDS = (0, 5, 29, 40, -1, -4, -9, -14, -20, -22)  # of the file: headers, and the table of contents
SHAPES = {
    **{f"cut at {part}": truncated(part) for part in (0, 1, 4, 30, 100, -1, -2, -20, *TENTHS)},
    **{f"flipped at {part}": flipped(part, part % 8) for part in ENDS},
    **{f"flipped at {i}/60": flipped(i / 60, i % 8) for i in range(1, 60)},
    **{f"zeros at {part}": zeroed(part) for part in (0, *TENTHS)},
    "a folder": a_folder,
    "a dead link": a_dead_link,
    "longer": lengthened,
    "empty": replaced(b""),
    "text": replaced(b"not a checkpoint"),
    "another zip": another_zip,
    "removed": os.remove,
}
CASES = {f"{LAST} {name}": (1, [LAST], fault) for name, fault in SHAPES.items()}
CASES |= {f"{part} {name}": (2, [part], fault) for name, fault in SHAPES.items() for part in PARTS
          if "/60" not in name}  # fmt: skip
CASES |= {f"all {name}": (1, [LAST, BEFORE], fault) for name, fault in SHAPES.items()
          if "cut" in name or name.startswith("a ")}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_damage_is_named_and_the_last_complete_state_is_found(case, saved, tmp_path):
    processes, names, fault = CASES[case]
    folder = shutil.copytree(saved[processes], tmp_path / "folder")
    for name in names:
        fault(folder / name)
    check(folder, names, removed=fault is os.remove)


def check(folder, damaged, removed=False):
    """That the folder gives what it still holds, names what it does not, and takes new saves."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = restore(folder)
        except checkpoint.CheckpointError as error:
            found, said = "error", [*said, error]
    words = [str(getattr(one, "message", one)) for one in said]
    if found == 2:
        assert not words  # what the fault changed holds no information
    elif len(damaged) == 1:
        assert found == 1
        gone = removed and damaged == [LAST]  # without a trace
        assert gone or (len(words) == 1 and damaged[0] in words[0])
    elif removed:
        assert (found, words) == (None, [])
    else:
        assert found == "error" and len(words) == 1
        assert all(name in words[0] for name in damaged)
    assert all("\n" not in line and len(line) < 400 for line in words)
    check_takes_a_save(folder)


def check_takes_a_save(folder):
    save(folder, 3)
    assert restore(folder) == 3
    for name, content in THEIRS.items():
        assert (folder / name).read_bytes() == content
    assert not list(folder.glob(f".*{archive.UNFINISHED}"))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("names", [[LAST], [LAST, BEFORE]], ids=len)
def test_a_file_that_the_system_does_not_give_is_named(code, names, saved, tmp_path, monkeypatch):
    folder = shutil.copytree(saved[1], tmp_path / "folder")
    open_file = io.open

    def refuse(path, *arguments, **options):
        if os.path.basename(str(path)) in names:
            raise OSError(code, os.strerror(code))
        return open_file(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.io, "open", refuse)
        if len(names) == 1:
            with pytest.warns(match=f"{LAST} cannot be read .{os.strerror(code)}"):
                assert restore(folder) == 1
        else:
            with pytest.raises(checkpoint.CheckpointError, match=f"{LAST} cannot .* {BEFORE} can"):
                restore(folder)
    assert restore(folder) == 2


def test_files_of_two_saves_are_no_checkpoint(saved, tmp_path):
    folder = shutil.copytree(saved[2], tmp_path / "folder")
    with archive.Archive(folder / PARTS[1]) as part:
        about = part.about | {"save": 8}
        w = part.array("w1", [8, 9], "float32")
    archive.write(folder / PARTS[1], about, [("w1", w)])
    with pytest.warns(match=f"{PARTS[1]} and {PARTS[0]} are of two saves"):
        assert restore(folder) == 1


# --- saves that are cut short

# More calls than a save has: the last cases are saves that succeed.
CALLS = range(60)


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """How often a save calls a function that writes, but for the deletion of an old checkpoint."""
    counted = Counted(sys.maxsize, None)
    folder = tmp_path_factory.mktemp("counted")
    with pytest.MonkeyPatch.context() as patch:
        counted.replace(functools.partial(patch.setattr, raising=False))
        save(folder, 3)
    assert CALLS.stop / 2 < counted.calls < CALLS.stop - 2
    return counted.calls


@pytest.fixture(scope="module")
def killer():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, faulty_saves.__file__], env=environment, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    with process:
        yield process


@pytest.mark.parametrize("n", CALLS)
def test_a_save_killed_at_any_call_leaves_the_one_before(n, saved, killer, calls, tmp_path):
    folder = shutil.copytree(saved[1], tmp_path / "folder")
    print(folder, n, file=killer.stdin, flush=True)
    answer = killer.stdout.readline().strip()
    assert answer == ("killed" if n <= calls else "saved")  # the deletion of step 1 is the last
    assert restore(folder) == (2 if n < calls - 1 else 3)  # before the last one of the file, too
    check_takes_a_save(folder)


@pytest.mark.parametrize("n", CALLS)
def test_a_full_disk_at_any_call_leaves_the_one_before(n, saved, calls, tmp_path, monkeypatch):
    folder = shutil.copytree(saved[1], tmp_path / "folder")
    words = "saved"
    with monkeypatch.context() as patch:
        Counted(n, faulty_saves.full).replace(functools.partial(patch.setattr, raising=False))
        try:
            save(folder, 3)
        except checkpoint.CheckpointError as error:
            words = str(error)
    if n < calls:
        assert f"cannot write {folder / 'checkpoint-3.npz'}: No space left on device; " in words
        assert "\n" not in words
    assert restore(folder) == (2 if n < calls - 1 else 3)  # the last call has its name on the disk
    check_takes_a_save(folder)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mounted)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user may not mount a small file system")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def test_a_disk_that_is_really_full_leaves_the_one_before(small_disk):
    save(small_disk, 1, 2)
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with pytest.raises(checkpoint.CheckpointError, match="cannot write .*No space left on device"):
        save(small_disk, 3)
    assert restore(small_disk) == 2
    filler.unlink()
    save(small_disk, 3)
    assert restore(small_disk) == 3


# --- several at once


def test_a_second_writer_is_refused_and_the_first_goes_on(tmp_path):
    with checkpoint.open_folder(tmp_path) as first:
        checkpoint.save(first, 1, state_of(1), about_of(1))
        with pytest.raises(
            checkpoint.CheckpointError, match="another process or run is writing to"
        ):
            checkpoint.open_folder(tmp_path)
        checkpoint.save(first, 2, state_of(2), about_of(2))
    assert restore(tmp_path) == 2


def test_a_lock_is_given_back_though_a_child_has_the_open_file(tmp_path):
    with checkpoint.open_folder(tmp_path) as first:
        inherited = os.dup(first._lock._file.fileno())
    try:
        checkpoint.open_folder(tmp_path).close()
    finally:
        os.close(inherited)


def test_models_that_are_saved_and_loaded_at_once_are_always_whole(tmp_path):
    """Four writers, a dozen saves each, and a reader."""
    models = [nnx.Linear(3, 2, rngs=nnx.Rngs(i)) for i in range(4)]
    kernels = [np.asarray(model.kernel[...]) for model in models]
    dj.save(tmp_path, models[0])

    def load():
        model = nnx.Linear(3, 2, rngs=nnx.Rngs(9))
        dj.load(tmp_path, model)
        assert any(np.array_equal(model.kernel[...], kernel) for kernel in kernels)

    with ThreadPoolExecutor(4) as pool:
        saves = [pool.submit(dj.save, tmp_path, model) for _ in range(12) for model in models]
        while not all(one.done() for one in saves):
            load()
        for one in saves:
            one.result()
    load()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {".lock", "checkpoint-47.npz", "checkpoint-48.npz"}


def test_the_guide_says_how_many_faults_are_put_in():
    guide = (Path(__file__).parents[2] / "docs/guides/saving.md").read_text()
    assert f"put {len(CASES) + 2 * len(CALLS)} faults" in guide
