"""How to run a model in training and evaluation: an NNX module, a Linen module, or a function."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen, nnx

from dropout_jax.diagnose.watch import Norm, Site, dotted, watched
from dropout_jax.typing import Array, Key

SWITCHES = {"train": True, "training": True, "is_training": True, "deterministic": False}


class Pass(NamedTuple):
    """One run of a model: its outputs, and what was seen on the way."""

    outputs: list[np.ndarray]
    sites: list[Site]
    norms: list[Norm]


class Runner(NamedTuple):
    """How to run a model: (step, x) -> a Pass, in training and, where that is known, evaluation."""

    train: Callable[..., Pass]
    """With quiet=True every layer of noise gives its inputs back."""
    evaluate: Callable[[int, Any], Pass] | None
    pure: Callable[[Any], Array]
    """x -> outputs in training, with the same masks in every call; to differentiate."""
    compiled: Callable[[int, Any], list[np.ndarray]]
    """As `train`, one program for all steps."""
    shares: bool = False
    """attention shares its masks among the examples, as it was asked to"""


def runner_of(model: Any, variables: Any, key: Key, train: Any, evaluate: Any) -> Runner:
    """How to run an NNX module, a Linen module with its variables, or a function (key, x)."""
    if isinstance(model, nnx.Module):
        return _nnx_runner(model, key, train or {}, evaluate or {})
    if isinstance(model, linen.Module):
        if variables is None:
            raise TypeError(
                "model is a Linen module, and its variables are missing; write variables=variables."
            )
        return _linen_runner(model, variables, key, train, evaluate)
    if not callable(model):
        raise TypeError(
            f"model is {type(model).__name__}; write an nnx.Module, a Linen module and its "
            "variables, or a function (key, x) -> outputs in training."
        )
    return _function_runner(model, key, evaluate)


def _nnx_runner(model, key, train, evaluate):
    twin = nnx.clone(model)
    names = {id(module): dotted(path) for path, module in nnx.iter_modules(twin)}
    modules = [module for _, module in nnx.iter_modules(twin)]
    needs_rngs = _takes(twin, "rngs") is inspect.Parameter.empty

    def options(step, given):
        more = {"rngs": nnx.Rngs(jax.random.fold_in(key, step))} if needs_rngs else {}
        return more | dict(given)

    def run(step, x, given, quiet=False):
        with watched(modules, names, quiet) as seen:
            outputs = twin(x, **options(step, given))
        return Pass(_leaves(outputs), *seen)

    def in_training(step, x, quiet=False):
        twin.train()
        return run(step, x, train, quiet)

    def in_evaluation(step, x):
        twin.eval()
        return run(step, x, evaluate)

    def pure(x):
        graphdef, state = nnx.split(twin)
        copy = nnx.merge(graphdef, state, copy=True)
        copy.train()
        return copy(x, **options(0, train))

    program = nnx.jit(lambda model, x, more: model(x, **more, **train))

    def compiled(step, x):
        twin.train()
        return _leaves(program(twin, x, options(step, {})))

    shares = any(getattr(module, "broadcast_dropout", False) for module in modules)
    return Runner(in_training, in_evaluation, pure, compiled, shares)


def _linen_runner(module, variables, key, train, evaluate):
    switch = next((name for name in SWITCHES if _takes(module, name) is not None), None)
    if train is None and switch:
        train = {switch: SWITCHES[switch]}
    if evaluate is None and switch:
        evaluate = {switch: not SWITCHES[switch]}

    def apply(key, x, given):
        names = ("dropout", "params", "noise")
        rngs = {name: jax.random.fold_in(key, i) for i, name in enumerate(names)}
        outputs, _ = module.apply(variables, x, **(given or {}), rngs=rngs, mutable=True)
        return outputs

    def run(step, x, given, quiet=False):
        with watched([], {}, quiet) as seen:
            outputs = apply(jax.random.fold_in(key, step), x, given)
        return Pass(_leaves(outputs), *seen)

    program = jax.jit(lambda key, x: apply(key, x, train))
    return Runner(
        lambda step, x, quiet=False: run(step, x, train, quiet),
        None if evaluate is None else lambda step, x: run(step, x, evaluate),
        lambda x: apply(jax.random.fold_in(key, 0), x, train),
        lambda step, x: _leaves(program(jax.random.fold_in(key, step), x)),
    )


def _function_runner(function, key, evaluate):
    def run(function, step, x, quiet=False):
        with watched([], {}, quiet) as seen:
            outputs = function(jax.random.fold_in(key, step), x)
        return Pass(_leaves(outputs), *seen)

    program = jax.jit(function)
    return Runner(
        lambda step, x, quiet=False: run(function, step, x, quiet),
        None if evaluate is None else lambda step, x: run(evaluate, step, x),
        lambda x: function(jax.random.fold_in(key, 0), x),
        lambda step, x: _leaves(program(jax.random.fold_in(key, step), x)),
    )


def _takes(model: Any, name: str) -> Any:
    """The default of a parameter of the model's call; None where there is no such parameter."""
    found = inspect.signature(type(model).__call__).parameters.get(name)
    return None if found is None else found.default if found.default is not None else False


def _leaves(outputs: Any) -> list[np.ndarray]:
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(outputs)]
