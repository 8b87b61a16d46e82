"""Checkpoints: every bit comes back, and a process may be killed at any moment."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import killed_run

from dropout_jax import layers
from dropout_jax.train import checkpoint
from dropout_jax.train.folder import NAME


def round_trip(folder, state, about=None):
    """What a second process would read of `state`."""
    with checkpoint.open_folder(folder) as manager:
        checkpoint.save(manager, 1, state, about)
    blank = jax.tree.map(jnp.zeros_like, state)
    with checkpoint.open_folder(folder) as manager:
        return checkpoint.restore(manager, blank)


def steps_in(folder):
    """The complete checkpoints there; nothing else is, but for the lock."""
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert all(NAME.fullmatch(name) for name in names)
    return sorted(int(NAME.fullmatch(name)[1]) for name in names)


def bits(leaf):
    leaf = np.asarray(leaf)
    return leaf.view(f"u{leaf.dtype.itemsize}") if leaf.dtype.itemsize in (1, 2, 4, 8) else leaf


DTYPES = ["bool", "int8", "uint8", "int16", "int32", "uint32", "float16", "bfloat16", "float32"]


def test_every_dtype_comes_back_bitwise(tmp_path):
    values = [0.0, -0.0, 1.0, 1 / 3, np.inf, np.nan]
    state = {
        dtype: jnp.asarray(
            values if jnp.issubdtype(dtype, jnp.floating) else [0, 1, 100], dtype
        ).reshape(-1, 3)
        for dtype in DTYPES
    }
    state |= {"scalar": jnp.float32(1 / 3), "complex": jnp.array([1 + 2j], jnp.complex64)}
    found, _ = round_trip(tmp_path, state)
    for name, leaf in state.items():
        assert found[name].dtype == leaf.dtype and found[name].shape == leaf.shape
        np.testing.assert_array_equal(bits(found[name]), bits(leaf))


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float64"])
def test_64_bits_come_back_bitwise(dtype, x64, tmp_path):
    state = jnp.asarray([1 / 3, 2.0**40], dtype)
    found, _ = round_trip(tmp_path, state)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, state)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_typed_keys_come_back(impl, tmp_path):
    key = jax.random.key(3, impl=impl)
    state = {"one": key, "many": jax.random.split(key, (2, 3))}
    with checkpoint.open_folder(tmp_path) as manager:
        checkpoint.save(manager, 1, state, {})
        found, _ = checkpoint.restore(manager, {"one": jax.random.key(0, impl=impl),
                                                "many": state["many"][::-1]})  # fmt: skip
    for name, keys in state.items():
        assert found[name].dtype == keys.dtype and found[name].shape == keys.shape
        np.testing.assert_array_equal(jax.random.key_data(found[name]), jax.random.key_data(keys))


def test_the_structure_is_that_of_the_likeness(tmp_path):
    state = (nnx.state(layers.MLP((4, 3, 2), rates=0.5, rngs=nnx.Rngs(0)), nnx.Param), [1.5, 2])
    found, _ = round_trip(tmp_path, state)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    for leaf, expected in zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(leaf, expected)


def test_about_is_any_json(tmp_path):
    about = {"rows": [{"loss": 0.1, "by_run": [1.5, float("inf")]}], "name": "a", "none": None}
    assert round_trip(tmp_path, jnp.ones(2), about)[1] == about
    assert np.isnan(round_trip(tmp_path / "nan", jnp.ones(2), [float("nan")])[1][0])


def test_an_empty_folder_is_made_and_holds_nothing(tmp_path):
    folder = tmp_path / "new" / "folder"
    with checkpoint.open_folder(folder) as manager:
        assert checkpoint.restore(manager, jnp.ones(2)) is None
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_keeps_the_last_two(tmp_path):
    with checkpoint.open_folder(tmp_path) as manager:
        for step in range(1, 5):
            checkpoint.save(manager, step, jnp.full(2, step), {"step": step})
        found, about = checkpoint.restore(manager, jnp.zeros(2, jnp.int32))
    assert steps_in(tmp_path) == [3, 4]
    np.testing.assert_array_equal(found, [4, 4])
    assert about == {"step": 4}


OTHER_ARRAYS = [
    ({"w": jnp.ones(3)}, r"w is float32 \(2,\) there and float32 \(3,\) here"),
    ({"w": jnp.ones((2, 1))}, r"w is float32 \(2,\) there and float32 \(2, 1\) here"),
    ({"w": jnp.ones(2, jnp.bfloat16)}, r"w is float32 \(2,\) there and bfloat16 \(2,\) here"),
    ({"w": jnp.ones(2), "b": jnp.ones(2)}, "b is not there"),
    ({}, "w is there and not here"),
    ({f"w{i}": jnp.ones(1) for i in range(4)}, "w0 is not there, .*, and 2 more"),
]


@pytest.mark.parametrize("like, difference", OTHER_ARRAYS)
def test_other_arrays_are_refused_and_named(like, difference, tmp_path):
    with checkpoint.open_folder(tmp_path) as folder:
        checkpoint.save(folder, 1, {"w": jnp.ones(2)}, {})
        with pytest.raises(checkpoint.CheckpointError, match=f"another model.*{difference}"):
            checkpoint.restore(folder, like)
        assert checkpoint.restore(folder, {"w": jnp.zeros(2)}) is not None


def test_a_key_of_another_implementation_is_refused(tmp_path):
    with checkpoint.open_folder(tmp_path) as manager:
        checkpoint.save(manager, 1, jax.random.key(0), {})
        with pytest.raises(checkpoint.CheckpointError):
            checkpoint.restore(manager, jax.random.key(0, impl="rbg"))


READ_ONLY = Path("/proc/self")


@pytest.mark.skipif(
    not READ_ONLY.is_dir(), reason="needs a folder that nobody can write: Linux's /proc"
)
def test_a_read_only_folder_is_a_clear_error():
    with pytest.raises(
        checkpoint.CheckpointError, match=f"cannot write checkpoints to {READ_ONLY}: "
    ):
        checkpoint.open_folder(READ_ONLY)


# --- killed


@pytest.fixture(scope="module")
def never_stopped():
    return killed_run.complete(None)


def start(folder, event, pattern):
    """A child process that runs killed_run.py until it dies."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, killed_run.__file__, str(folder.resolve()), event, str(pattern)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def assert_completes(folder, expected):
    found = killed_run.complete(folder)
    for leaf, wanted in zip(found, expected, strict=True):
        assert leaf.dtype == wanted.dtype
        np.testing.assert_array_equal(leaf, wanted)
    assert steps_in(folder) == [3, 4]


@pytest.mark.slow
@pytest.mark.parametrize(
    "event, pattern, left",
    [
        ("epoch", 1, []),  # before the first checkpoint
        ("epoch", 3, [1, 2]),  # between two
        ("open", r"\.checkpoint-2\b", [1]),  # the second save begins
        ("os.rename", r"\.checkpoint-2\b", [1]),  # its file is whole, and has not got its name
        ("os.remove", r"checkpoint-1\b", [1, 2, 3]),  # the third has, and the first is deleted
    ],
    ids=["no checkpoint", "between", "begun", "unnamed", "deleting"],
)
def test_a_run_killed_at_any_moment_completes_bitwise_the_same(
    event, pattern, left, tmp_path, never_stopped
):
    child = start(tmp_path, event, pattern)
    assert child.returncode == -signal.SIGKILL, child.stderr
    found = [NAME.fullmatch(path.name) for path in tmp_path.iterdir()]
    assert sorted(int(match[1]) for match in found if match) == left
    assert_completes(tmp_path, never_stopped)


@pytest.mark.slow
def test_ctrl_c_in_a_process_says_what_was_saved(tmp_path, never_stopped):
    child = start(tmp_path, "sigint", 3)
    assert child.returncode == -signal.SIGINT
    assert f"interrupted; 3 of 4 epochs complete, saved in {tmp_path.resolve()};" in child.stderr
    assert_completes(tmp_path, never_stopped)
