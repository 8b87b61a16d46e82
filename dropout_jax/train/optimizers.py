"""What an optax optimizer takes beside the gradient: the loss, a gradient elsewhere, slow weights.

Optax has optimizers with arguments of their own (`optax.lbfgs`, `optax.contrib.sam`,
`optax.contrib.sophia`), one that takes two copies of the weights (`optax.lookahead`), and one that
takes a gradient for each example (`optax.contrib.dpsgd`).
"""

import inspect
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

PER_EXAMPLE = "differentially_private_aggregate."
EXTRA = ("value", "grad", "value_fn", "grad_fn", "obj_fn")


class WithSlow(NamedTuple):
    """The state of `optax.lookahead`, and its slow weights."""

    inner: Any
    slow: Any


def adapted(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """An optimizer of plain weights, whose update takes all that a step can give.

    Args:
      optimizer: any of optax.

    Returns:
      An optimizer whose update takes `value`, `grad`, `value_fn`, `grad_fn` and `obj_fn`, and
      passes on those that `optimizer` takes.

    Raises:
      TypeError: what is no optax transformation.
    """
    if not hasattr(optimizer, "init") or not hasattr(optimizer, "update"):
        raise TypeError(f"optimizer is {optimizer!r}; write one of optax's, as optax.adam(1e-3).")
    if _name(optimizer.init).startswith("lookahead."):
        return adapted(_with_slow_inside(optimizer))
    takes = _taken_by(optimizer)

    def update(updates, state, params=None, **extra):
        given = {name: value for name, value in extra.items() if name in takes}
        return optimizer.update(updates, state, params, **given)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


def _taken_by(optimizer: optax.GradientTransformation) -> set[str]:
    """The names of what its update takes, or an update inside: it may refuse all other names."""
    if not isinstance(optimizer, optax.GradientTransformationExtraArgs):
        return set()
    functions = functions_in(optimizer.update)
    named = {name for f in functions for name in inspect.signature(f).parameters}
    return named & set(EXTRA) or set(EXTRA[:3])


def _with_slow_inside(lookahead: optax.GradientTransformation) -> optax.GradientTransformation:
    """`optax.lookahead` of the fast weights, with the slow ones in its state."""

    def init(params):
        slow = jax.tree.map(jnp.array, params)
        return WithSlow(lookahead.init(optax.LookaheadParams(params, slow)), slow)

    def update(updates, state, params: Any = None):
        both = optax.LookaheadParams(params, state.slow)
        moved, inner = lookahead.update(updates, state.inner, both)
        assert isinstance(moved, optax.LookaheadParams)
        return moved.fast, WithSlow(inner, optax.apply_updates(state.slow, moved.slow))

    return optax.GradientTransformation(init, update)


def takes_a_gradient_for_each_example(optimizer: optax.GradientTransformation) -> bool:
    """True for `optax.contrib.dpsgd`, alone or in a chain."""
    return any(_name(f).startswith(PER_EXAMPLE) for f in functions_in(optimizer.update))


def functions_in(function: Callable) -> list[Callable]:
    """A function and those that it closes over, those that they close over, and so on."""
    found, left, met = [], [function], set()
    while left:
        value = left.pop()
        if id(value) in met:
            continue
        met.add(id(value))
        if isinstance(value, types.FunctionType):
            found.append(value)
            left += [cell.cell_contents for cell in value.__closure__ or () if _is_set(cell)]
        elif isinstance(value, (tuple, list)):
            left += value
        elif isinstance(value, dict):
            left += value.values()
    return found


def _is_set(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _name(function: Callable) -> str:
    return getattr(function, "__qualname__", "")
