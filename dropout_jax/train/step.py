"""One update of a model's parameters by an optax optimizer."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import nnx

from dropout_jax._nnx import rekey
from dropout_jax.keys import site_key
from dropout_jax.train import calls
from dropout_jax.train.convolutions import fast_convolutions
from dropout_jax.train.metrics import number_of
from dropout_jax.train.optimizers import adapted, takes_a_gradient_for_each_example
from dropout_jax.train.state import State
from dropout_jax.typing import Array, Key

Edit = Callable[[nnx.Module], None]


def make_step(
    optimizer: optax.GradientTransformation, loss: Callable, edit: Edit | None = None
) -> Callable[..., tuple[State, Array]]:
    """The update of a training step: (state, x, y) -> (state, loss), to jit or to scan over.

    Args:
      optimizer: an optax transformation; it gets the loss and its function too, if it takes them.
      loss: (model, x, y) -> a scalar, or (model, x, y, weights) if the step is given weights.
      edit: changes the model, in place, before each call.

    Returns:
      (state, x, y) or (state, x, y, weights) -> (state, loss).
    """
    for_each = takes_a_gradient_for_each_example(optimizer)
    optimizer = adapted(optimizer)

    def step(state: State, *data: Any) -> tuple[State, Array]:
        def objective(params):
            return _objective(state, loss, edit, params, state.rest, *data)

        if for_each:
            value, rest, grads = _for_each_example(state, loss, edit, data)
        else:
            gradient = fast_convolutions(jax.value_and_grad(objective, has_aux=True))
            (value, rest), grads = gradient(state.params)
        # Those that search along a line, say, want more than the gradient: under the same masks.
        more = {
            "value": value,
            "grad": grads,
            "value_fn": lambda params: objective(params)[0],
            "obj_fn": lambda params: objective(params)[0],
            "grad_fn": lambda params, _: jax.grad(lambda p: objective(p)[0])(params),
        }
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params, **more)
        params = optax.apply_updates(state.params, updates)
        # Array hyperparameters promote the state of low-precision weights; a scan's carry stays.
        opt_state = jax.tree.map(_as_before, opt_state, state.opt_state)
        new = {"params": params, "rest": rest, "opt_state": opt_state}
        return dataclasses.replace(state, step=state.step + 1, **new), value

    return step


def _objective(state, loss, edit, params, rest, *data):
    """The loss, and what the model holds afterwards beside its parameters."""
    model = state.structure.merge(params, rest)
    model.train()
    if edit is not None:
        edit(model)
    before = calls.counts(model)
    called = calls.with_rngs(model, lambda: _key_of_step(state))
    value = number_of("the loss", loss, called, *data)
    if edit is None:
        calls.warn_if_silent(model, before)
    nnx.pop(model, nnx.Intermediate)  # what is sown in a step stays in it
    return value, nnx.merge_state(rest, nnx.state(model, nnx.Not(nnx.Param)))


def _for_each_example(state, loss, edit, data):
    """The mean loss, what the model holds afterwards, and a gradient for each example."""

    def one(key, *example):
        data = jax.tree.map(lambda a: a[None], example)
        rest = rekey(state.rest, key)  # a mask of its own
        gradient = jax.value_and_grad(
            lambda params: _objective(state, loss, edit, params, rest, *data), has_aux=True
        )
        (value, _), grads = gradient(state.params)
        return value, grads

    keys = jax.random.split(_key_of_step(state), len(jax.tree.leaves(data)[0]))
    values, grads = jax.vmap(one)(keys, *data)
    return values.mean(), state.rest, grads


def _key_of_step(state: State) -> Key:
    return jax.random.fold_in(site_key(state.key, "call"), state.step)


def _as_before(new: Array, old: Array) -> Array:
    return new if new.dtype == old.dtype else new.astype(old.dtype)
