"""Loops made of a loop: several passes over few images in one call of the program, and training
cases that each run draws for itself."""

import jax

import dropout_jax as dj
from dropout_jax import train
from dropout_jax.typing import Array

CALL_UPDATES = 400  # of training sets so small that the host would spend its time on calls


def passes_of_a_call(epochs: int, every: int, per_epoch: int) -> int:
    """How many epochs one call of the program holds: evaluations still fall between calls."""
    most = max(1, CALL_UPDATES // per_epoch)
    return max(n for n in range(1, most + 1) if epochs % n == every % n == 0)


def in_passes(loop: train.Loop, passes: int) -> train.Loop:
    """The loop whose epoch is so many of `loop`'s."""
    if passes == 1:
        return loop

    def epoch(state, data):
        state, losses = jax.lax.scan(lambda s, _: loop.epoch(s, data), state, length=passes)
        return state, losses.reshape(-1)

    return loop._replace(epoch=epoch)


def some_rows(split: train.Split, cases: int, key: Array) -> Array:
    """Which training cases a run draws for itself."""
    order = jax.random.permutation(dj.site_key(key, "training cases"), len(split[0]))
    return order[:cases]


def on_own_rows(loop: train.Loop) -> train.Loop:
    """The loop of runs that each see the training cases of their `hyper["rows"]` alone."""

    def own(state, data):
        rows = state.hyper["rows"]
        return {k: (x[rows], y[rows]) if k == "train" else (x, y) for k, (x, y) in data.items()}

    return loop._replace(
        epoch=lambda state, data: loop.epoch(state, own(state, data)),
        evaluate=lambda state, data: loop.evaluate(state, own(state, data)),
    )
