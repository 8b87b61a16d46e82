"""The lives of sub-networks: each is drawn, taken out, trained for some updates, and put back."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dropout_jax.keys import site_key
from dropout_jax.train.gather import put, take
from dropout_jax.train.ports import at
from dropout_jax.train.state import State
from dropout_jax.train.units import Plan, draw
from dropout_jax.typing import Array

Stretch = Callable[[State, Any], tuple[State, Array]]
"""(state, batches) -> (state, losses): some updates in turn."""


def in_lives(
    stretch: Stretch, plan: Plan, steps: int, state: State, rows: Any
) -> tuple[State, Any]:
    """Train on the batches `rows`, `steps` of them a life; the last life may be shorter."""
    updates = len(jax.tree.leaves(rows)[0])
    whole = updates // steps * steps
    lives = jax.tree.map(lambda a: a[:whole].reshape(-1, steps, *a.shape[1:]), rows)
    state, losses = jax.lax.scan(lambda s, rows: thinned(stretch, plan, s, rows), state, lives)
    if whole == updates:
        return state, losses.reshape(updates)
    last_rows = jax.tree.map(lambda a: a[whole:], rows)
    state, last = thinned(stretch, plan, state, last_rows)
    return state, jnp.concatenate([losses.reshape(whole), last])


def thinned(stretch: Stretch, plan: Plan, state: State, rows: Any) -> tuple[State, Array]:
    """The life of one sub-network: take it out, train it on the batches `rows`, put it back."""
    units = draw(jax.random.fold_in(site_key(state.key, "thin"), state.step), plan)
    whole = {name: getattr(state, name) for name in ("params", "rest", "opt_state")}
    try:
        small, losses = stretch(dataclasses.replace(state, **take(whole, plan, units)), rows)
    except (TypeError, ValueError) as error:
        error.add_note(
            "This was a sub-network, where the layers of Thin have fewer units. A layer between "
            "them with weights for each unit does not fit, unless it is a BatchNorm that a Pair "
            "names: Pair(..., between='norm'). Leave out the units around it."
        )
        raise
    part = {name: getattr(small, name) for name in whole}
    return dataclasses.replace(small, **put(whole, part, plan, units)), losses


class Scaling(nnx.Module):
    """What a hidden dropout is inside a sub-network: the factor width / kept."""

    def __init__(self, factor: float):
        self.factor = factor

    def __call__(self, x: Array, **_: Any) -> Array:
        return x * self.factor


def as_subnetwork(model: nnx.Module, plan: Plan) -> None:
    """Make a model that holds a sub-network's arrays compute, in place, with the mean of the whole.

    Each dropout that a pair names gives way to the factor width / kept; where there is none, the
    users' weights are scaled. Attributes that count units count those of the sub-network.
    """
    for hidden in plan.hidden:
        for place, name, count in hidden.counts:
            layer = at(model, place)
            whole = getattr(layer, name)
            setattr(layer, name, (count, *whole[1:]) if isinstance(whole, tuple) else count)
        factor = hidden.width / hidden.kept
        if hidden.dropout is not None:
            _replace(model, hidden.dropout, Scaling(factor))
        elif factor != 1:
            for place in hidden.users:
                kernel = at(model, place).kernel
                kernel[...] = kernel[...] * factor


def _replace(model: nnx.Module, place: tuple[str, ...], layer: nnx.Module) -> None:
    parent, name = at(model, place[:-1]), place[-1]
    if name.isdigit():
        parent[int(name)] = layer
    else:
        setattr(parent, name, layer)
