"""What tells two runs apart, as checksums: a checkpoint goes on in a run that is the same."""

import re
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dropout_jax.layers.scheduled import ScheduleNumber
from dropout_jax.train.loop import Data, State
from dropout_jax.typing import Array

DIFFERENCES = {
    "inputs": "key, hyperparameters or training data",
    "program": "program (batch size, rates, optimizer, loss, thin, in_turn, or version of JAX)",
    "settings": "rate or schedule of the rate, or numbers in the optimizer's state",
}


def identity_of(train_epoch: Callable, state: State, data: Data) -> dict[str, list[int]]:
    """The checksums of a run that starts from `state`, by the names of `DIFFERENCES`.

    Weights are not among them, for a trained model goes on from its own checkpoint, nor is what is
    evaluated.

    Args:
      train_epoch: (state, data) -> (state, losses), jitted.
      state: the first state.
      data: the training data.
    """
    inputs = [state.key, *jax.tree.leaves(state.hyper), *data["train"]]
    return {
        "inputs": [_crc(value) for value in inputs],
        "program": _program(train_epoch, state, data),
        "settings": [_crc(value) for value in _settings(state)],
    }


def _program(train_epoch: Callable, state: State, data: Data) -> list[int]:
    """What an epoch computes: its text, with all Python numbers, and the arrays it has captured."""
    jaxpr = train_epoch.trace(state, data).jaxpr
    text = re.sub(r"0x[0-9a-f]+", "", str(jaxpr))  # where functions are in memory differs
    return [_crc(np.frombuffer(text.encode(), np.uint8)), *map(_crc, jaxpr.consts)]


def _settings(state: State) -> list[Array]:
    """What is state of a run that starts, and no weight, count or key."""
    places = jax.tree_util.tree_leaves_with_path(
        state.rest, is_leaf=lambda node: isinstance(node, nnx.Variable)
    )
    numbers = {path: node[...] for path, node in places if isinstance(node, ScheduleNumber)}
    rates = [node for path, node in places if _is_rate(path) and not isinstance(node, nnx.Variable)]
    injected = [
        leaf
        for leaf in map(jnp.asarray, jax.tree.leaves(state.opt_state))
        if leaf.ndim == state.key.ndim and jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    return [*numbers.values(), *rates, *injected]


def _is_rate(path: tuple[Any, ...]) -> bool:
    return getattr(path[-1], "key", getattr(path[-1], "name", None)) == "rate"


def _crc(array: Array) -> int:
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8))
