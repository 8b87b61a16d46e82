"""Train on few cases: draw a subset for each run, and make several epochs in one call.

With a hundred training cases an epoch is one update, and the host would spend its time on calls of
the compiled program.
"""

import jax

import dropout_jax as dj
from dropout_jax import train
from dropout_jax.typing import Array

CALL_UPDATES = 400  # at most so many updates in one call of the program


def epochs_per_call(epochs: int, every: int, per_epoch: int) -> int:
    """How many epochs one call makes: evaluations, `every` so many epochs, fall between calls."""
    most = max(1, CALL_UPDATES // max(1, per_epoch))
    return max(n for n in range(1, most + 1) if epochs % n == every % n == 0)


def with_epochs_per_call(loop: train.Loop, count: int) -> train.Loop:
    """A loop whose epoch is `count` epochs of `loop`."""
    if count == 1:
        return loop

    def epoch(state, data):
        state, losses = jax.lax.scan(lambda s, _: loop.epoch(s, data), state, length=count)
        return state, losses.reshape(-1)

    return loop._replace(epoch=epoch)


def draw_rows(split: train.Split, cases: int, key: Array) -> Array:
    """The row numbers of the training cases that the run of `key` draws."""
    order = jax.random.permutation(dj.site_key(key, "training cases"), len(split[0]))
    return order[:cases]


def on_drawn_rows(loop: train.Loop) -> train.Loop:
    """A loop in which each run trains on the rows `hyper["rows"]` of the training split alone."""

    def drawn(state, data):
        rows = state.hyper["rows"]
        return {k: (x[rows], y[rows]) if k == "train" else (x, y) for k, (x, y) in data.items()}

    return loop._replace(
        epoch=lambda state, data: loop.epoch(state, drawn(state, data)),
        evaluate=lambda state, data: loop.evaluate(state, drawn(state, data)),
    )
