"""Small checkpoints, and saves that are cut short, for test_faults.

    python faulty_saves.py

reads lines "FOLDER N" and answers each with "killed" or "saved": a child process saves step 3 in
FOLDER and is killed by SIGKILL at its N-th call that writes. It is forked before JAX has started
any thread, which is what makes hundreds of such cases cheap.
"""

import errno
import functools
import os
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np

from dropout_jax.train import archive, checkpoint


def state_of(step):
    """Every kind of leaf: floats, bfloat16, a scalar, a key, an empty array."""
    key = jax.random.key(step)
    return {
        "key": key,
        "n": jnp.int32(step),
        "none": jnp.zeros((0, 3)),
        "w": jnp.full((16, 9), step, jnp.float32),
        "v": jnp.full(7, 1 / step, jnp.bfloat16),
    }


def about_of(step):
    return {"epoch": step, "rows": [f"{i} of {step}" for i in range(step)]}


def save(folder, *steps):
    with checkpoint.open_folder(folder) as opened:
        for step in steps:
            checkpoint.save(opened, step, state_of(step), about_of(step))


def restore(folder):
    """The step that is found, after a check that every bit of it is as it was saved; or None."""
    like = jax.tree.map(jnp.zeros_like, state_of(1))
    with checkpoint.open_folder(folder) as opened:
        found = checkpoint.restore(opened, like)
    if found is None:
        return None
    state, about = found
    step = int(state["n"])
    expected = jax.tree.map(as_numpy, state_of(step))
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(as_numpy, state), expected)
    assert about == about_of(step)
    return step


def as_numpy(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


class Counted:
    """Calls `act` before the N-th call that writes, counted from 0, and before all that follow.

    Every write reaches the system by itself, without a buffer, and one that is cut leaves half.
    """

    def __init__(self, n, act):
        self.calls, self.n, self.act = 0, n, act

    def __call__(self, function, *arguments):
        self.calls += 1
        if self.calls > self.n:
            self.act(function, *arguments)
        return function(*arguments)

    def open(self, path, mode):
        return _File(open(path, mode, buffering=0), self)

    def replace(self, setattr, *names):
        """Count what `archive` writes, and these functions of `os`, by setattr(owner, name, f)."""
        setattr(archive, "open", self.open)
        for name in ("replace", "fsync", *names):
            setattr(os, name, functools.partial(self, getattr(os, name)))


class _File:
    """A file whose writes are counted."""

    def __init__(self, file, counted):
        self._file, self._counted = file, counted

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def write(self, data):
        return self._counted(self._file.write, data)


def half(function, *arguments):
    """Do half of a write."""
    if arguments and not isinstance(arguments[0], (str, os.PathLike, int)):
        data = bytes(arguments[0])
        function(data[: len(data) // 2])


def killed(function, *arguments):
    half(function, *arguments)
    os.kill(os.getpid(), signal.SIGKILL)


def full(function, *arguments):
    half(function, *arguments)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


if __name__ == "__main__":
    for line in sys.stdin:
        folder, n = line.split()
        child = os.fork()
        if not child:
            Counted(int(n), killed).replace(setattr, "unlink", "remove")
            save(folder, 3)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        print({0: "saved", signal.SIGKILL: "killed"}.get(status, status), flush=True)
