"""A short run with checkpoints, for test_checkpoint to kill.

    python killed_run.py FOLDER EVENT PATTERN

kills itself with SIGKILL at the first audit event EVENT ("os.rename", "open", ...) of which a path
below FOLDER matches PATTERN: between two system calls of a save. EVENT "epoch" kills it between two
epochs, after so many as PATTERN says; "sigint" is a Ctrl-C there; "stopped" waits there for a
minute; "none" lets it run.
"""

import os
import re
import signal
import sys
import time

import jax
import numpy as np
import optax

from dropout_jax import data, layers, train
from dropout_jax.train import runner

EPOCHS = 4


def complete(folder, on_epoch=lambda state: None):
    """All leaves of the last state, after EPOCHS epochs counted from the first start."""
    digits = data.load_digits()
    loop = train.make_loop(
        lambda rngs, hyper: layers.MLP((64, 32, 10), rates=(0.2, 0.5), rngs=rngs),
        lambda hyper: optax.adam(1e-3),
        batch_size=64,
    )
    splits = {"train": (digits.train_x, digits.train_y), "test": (digits.test_x, digits.test_y)}
    state, history = runner.run(
        loop, loop.init(jax.random.key(0), {}, splits), splits, epochs=EPOCHS,
        checkpoint_dir=folder, checkpoint_every=1, progress=False, on_epoch=on_epoch,
    )  # fmt: skip
    return [*map(as_numpy, jax.tree.leaves(state)), *history.metrics.values()]


def as_numpy(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def die_at(folder, event, pattern):
    """Have this process killed at the first such event."""

    def hook(name, arguments):
        if name == event:
            for path in arguments:
                if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(folder):
                    if re.search(pattern, os.fspath(path)[len(folder) :]):
                        os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    folder, event, pattern = sys.argv[1:]
    epochs = []

    def on_epoch(state):
        epochs.append(state)
        if len(epochs) == int(pattern) + 1:  # the first is the state that the run starts from
            if event != "stopped":
                os.kill(os.getpid(), {"epoch": signal.SIGKILL, "sigint": signal.SIGINT}[event])
            time.sleep(60)

    if event in ("epoch", "sigint", "stopped"):
        complete(folder, on_epoch)
    else:
        die_at(folder, event, pattern)
        complete(folder)
