"""A model in two halves, as `jax.jit` takes it: its structure, and the arrays that it holds."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dropout_jax.keys import site_key
from dropout_jax.typing import Key


class Structure:
    """What of a model is no array, as a static argument of `jax.jit`.

    That has to be hashable, and a model with a list or a dict among its attributes is not. Here it
    is, by a copy: a list that is changed later makes another structure.
    """

    def __init__(self, graphdef: nnx.GraphDef):
        try:
            self._hash = hash(graphdef)
        except TypeError:
            graphdef, self._hash = copy.deepcopy(graphdef), 0
        self.graphdef = graphdef

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Structure) and self.graphdef == other.graphdef

    def merge(self, *states: nnx.State) -> nnx.Module:
        """A model of its own, whose changes do not reach the one that was split."""
        return nnx.merge(self.graphdef, *states, copy=True)


def split(model: nnx.Module, *filters: Any) -> tuple[Any, ...]:
    """The structure of a model and its state, or a state for each filter, as `nnx.split`."""
    graphdef, *states = nnx.split(check_module(model), *filters)
    return Structure(graphdef), *states


def check_module(model: Any) -> nnx.Module:
    """Return `model`, or raise if it is no module of Flax NNX."""
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"model is {type(model).__name__} and no nnx.Module; write it as one, or wrap a Linen "
            "model with flax.nnx.bridge.ToNNX and its lazy_init."
        )
    return model


def rekey(rest: Any, key: Key) -> Any:
    """Start every random stream of a model anew, from a key by its place: `key` decides all."""

    def fresh(path, variable):
        if isinstance(variable, nnx.RngKey):
            keys = jax.random.split(site_key(key, jax.tree_util.keystr(path)), variable.shape)
            return variable.replace(keys)
        if isinstance(variable, nnx.RngCount):
            return variable.replace(jnp.zeros_like(variable[...]))
        return variable

    return jax.tree_util.tree_map_with_path(
        fresh, rest, is_leaf=lambda node: isinstance(node, nnx.Variable)
    )
