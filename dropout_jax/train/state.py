"""The state of a training run: all that it needs to go on, as one pytree."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from dropout_jax._nnx import Structure, rekey, split
from dropout_jax.keys import site_key
from dropout_jax.train.optimizers import adapted
from dropout_jax.typing import Array, Key


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """All that a run needs to go on: a pytree, whose static part is the model's structure.

    Attributes:
      key: decides the order of the examples, the noise, and the sub-networks of thinned training.
      step: updates made, int32.
      hyper: hyperparameters, any pytree of numbers.
      params: the trained variables of the model.
      rest: its other variables: random streams, statistics, rates that are arrays.
      opt_state: the optimizer's state.
      structure: what of the model is no array.
      best: (params, rest) of the best evaluation so far, where a run keeps them.
    """

    key: Key
    step: Array
    hyper: Any
    params: Any
    rest: Any
    opt_state: Any
    structure: Structure = dataclasses.field(metadata={"static": True})
    best: Any = None

    def model(self) -> nnx.Module:
        """The model, of its own: what changes it does not change the state."""
        return self.structure.merge(self.params, self.rest)


def start(
    key: Key, hyper: Any, model: nnx.Module, optimizer: optax.GradientTransformation
) -> State:
    """The first state of a run from a model; its random streams begin anew from the key."""
    structure, params, rest = split(model, nnx.Param, ...)
    rest = rekey(rest, site_key(key, "noise"))
    opt_state = adapted(optimizer).init(params)
    return State(key, jnp.zeros((), jnp.int32), hyper, params, rest, opt_state, structure)
