"""One update of a model's parameters by an optax optimizer."""

import dataclasses
from collections.abc import Callable

import jax
import optax
from flax import nnx

from dropout_jax.train.convolutions import fast_convolutions
from dropout_jax.train.metrics import number_of
from dropout_jax.train.state import State
from dropout_jax.typing import Array


def make_step(
    optimizer: optax.GradientTransformation,
    loss: Callable,
    edit: Callable[[nnx.Module], None] = lambda model: None,
) -> Callable[[State, Array, Array], tuple[State, Array]]:
    """(state, x, y) -> (state, loss): one update of the model that `edit` may have changed."""

    def step(state: State, x: Array, y: Array) -> tuple[State, Array]:
        def objective(params):
            model = state.structure.merge(params, state.rest)
            model.train()
            edit(model)
            value = number_of("the loss", loss, model, x, y)
            nnx.pop(model, nnx.Intermediate)  # what is sown in a step stays in it
            return value, nnx.merge_state(state.rest, nnx.state(model, nnx.Not(nnx.Param)))

        gradient = fast_convolutions(jax.value_and_grad(objective, has_aux=True))
        (value, rest), grads = gradient(state.params)
        # Those that search along a line, say, want more than the gradient: under the same masks.
        more = {"value": value, "grad": grads, "value_fn": lambda params: objective(params)[0]}
        update = optax.with_extra_args_support(optimizer).update
        updates, opt_state = update(grads, state.opt_state, state.params, **more)
        params = optax.apply_updates(state.params, updates)
        # Array hyperparameters promote the state of low-precision weights; a scan's carry stays.
        opt_state = jax.tree.map(_as_before, opt_state, state.opt_state)
        new = {"params": params, "rest": rest, "opt_state": opt_state}
        return dataclasses.replace(state, step=state.step + 1, **new), value

    return step


def _as_before(new: Array, old: Array) -> Array:
    return new if new.dtype == old.dtype else new.astype(old.dtype)
