"""Fingerprints of a run: checksums that tell whether a checkpoint is of the run that goes on.

They do not depend on the number of devices or processes, nor on weak types, which a checkpoint does
not keep. The text of the program depends on the versions of JAX, Flax and optax.
"""

import re
import zlib
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dropout_jax._version import __version__
from dropout_jax.layers.scheduled import ScheduleNumber
from dropout_jax.train.loop import Data, State
from dropout_jax.train.processes import whole
from dropout_jax.typing import Array

DIFFERENCES = {
    "inputs": "another key, hyperparameters or training data",
    "program": "another program (batch size, rates, optimizer, loss, thin or in_turn)",
    "settings": "another rate or schedule of the rate, or numbers in the optimizer's state",
    "weights": "other initial weights (of another seed, or trained elsewhere)",
}


def identity_of(epoch: Callable, state: State, data: Data) -> dict[str, Any]:
    """The checksums of a run that starts from `state`, by the names of `DIFFERENCES`.

    What is evaluated is not among them. "portable" is whether that of the program is the same on
    any number of devices.

    Args:
      epoch: (state, data) -> (state, losses).
      state: the first state.
      data: the training data.
    """
    program, portable = _program(epoch, state, data)
    inputs = [state.key, *jax.tree.leaves(state.hyper), *jax.tree.leaves(data["train"])]
    return {
        "inputs": [_crc(value) for value in inputs],
        "program": program,
        "portable": portable,
        "settings": [_crc(value) for value in _settings(state)],
        "weights": weights_of(state.params),
    }


def weights_of(params: Any) -> list[int]:
    """The checksums of parameters."""
    return [_crc(leaf) for leaf in jax.tree.leaves(params)]


def platform(state: State, data: Data) -> dict[str, Any]:
    """What may change a run's last bits, though it is the same run."""
    leaves = [leaf for leaf in jax.tree.leaves((state, data)) if isinstance(leaf, jax.Array)]
    return {
        "dropout_jax": __version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
        "backend": jax.default_backend(),
        "devices": max((len(leaf.sharding.device_set) for leaf in leaves), default=1),
    }


def _program(epoch: Callable, state: State, data: Data) -> tuple[list[int], bool]:
    """What an epoch computes: its text, with all Python numbers, and the arrays it has captured.

    With it, whether the text is the same on any number of devices.
    """
    given = (state, data)
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), given)
    try:
        with jax.set_mesh(jax.sharding.Mesh(np.empty((), object), ())):
            jaxpr, portable = jax.make_jaxpr(epoch)(*like), True
    except Exception:  # the model itself names the axes of a mesh
        jaxpr, portable = jax.make_jaxpr(epoch)(*given), False
    text = re.sub(r"0x[0-9a-f]+", "", str(jaxpr))  # where functions are in memory differs
    return [_crc(np.frombuffer(text.encode(), np.uint8)), *map(_crc, jaxpr.consts)], portable


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


def _crc(array: Array | np.ndarray) -> int:
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return zlib.crc32(np.ascontiguousarray(whole(array)).reshape(-1).view(np.uint8).data)
