"""Run a model with every dropout layer watched: what goes into each of them, and what comes out."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from dropout_jax.layers.base import NoiseLayer
from dropout_jax.typing import Array, Key

RATES = ("rate", "dropout_rate", "drop_rate", "p", "drop_prob")
SWITCHES = {"train": True, "training": True, "is_training": True, "deterministic": False}


WHOLE = "the model"
"""The name of a layer that is all of the model."""


class Site(NamedTuple):
    """One call of a layer of noise: `noise` is outputs / inputs, NaN where the input is 0."""

    name: str
    rate: float | None
    shared: tuple[int, ...]
    inputs: np.ndarray
    outputs: np.ndarray
    noise: np.ndarray
    gradient: np.ndarray | None


class Norm(NamedTuple):
    """One call of a batch normalisation: the variance of what goes in, by feature."""

    name: str
    variance: np.ndarray


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
    names = {id(module): _dotted(path) for path, module in nnx.iter_modules(twin)}
    modules = [module for _, module in nnx.iter_modules(twin)]
    needs_rngs = _takes(twin, "rngs") is inspect.Parameter.empty

    def options(step, given):
        more = {"rngs": nnx.Rngs(jax.random.fold_in(key, step))} if needs_rngs else {}
        return more | dict(given)

    def run(step, x, given, quiet=False):
        with _watched(modules, names, quiet) as seen:
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
        with _watched([], {}, quiet) as seen:
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
        with _watched([], {}, quiet) as seen:
            outputs = function(jax.random.fold_in(key, step), x)
        return Pass(_leaves(outputs), *seen)

    program = jax.jit(function)
    return Runner(
        lambda step, x, quiet=False: run(function, step, x, quiet),
        None if evaluate is None else lambda step, x: run(evaluate, step, x),
        lambda x: function(jax.random.fold_in(key, 0), x),
        lambda step, x: _leaves(program(jax.random.fold_in(key, step), x)),
    )


@contextlib.contextmanager
def _watched(
    modules: list[nnx.Module], names: dict[int, str], quiet: bool
) -> Iterator[tuple[list, list]]:
    """Watch the calls of dropout and batch normalisation, of NNX and of Linen."""
    sites, norms = [], []
    inside = []  # a layer within a layer of noise is part of it

    def called(module, name, x, outputs, gradient):
        if isinstance(x, jax.core.Tracer) or not isinstance(x, (jax.Array, np.ndarray)):
            return
        if isinstance(module, (nnx.BatchNorm, linen.BatchNorm)):
            values = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
            norms.append(Norm(name, values.var(axis=0)))
        elif getattr(outputs, "shape", None) == x.shape:
            sites.append(_site(module, _numbered(name, sites), x, outputs, gradient))

    def wrap(original):
        def call(self, *args, **options):
            if inside or not args or not isinstance(args[0], (jax.Array, np.ndarray)):
                return original(self, *args, **options)
            inside.append(self)
            try:
                is_norm = isinstance(self, nnx.BatchNorm)
                before = None if is_norm else _copied(self, original, args, options)
                outputs = original(self, *args, **options)
                name = names.get(id(self), type(self).__name__)
                gradient = before and _gradient(before, args[0], outputs)
            finally:
                inside.pop()
            called(self, name, args[0], outputs, gradient)
            return args[0] if quiet and not is_norm else outputs

        return call

    def intercept(next_function, args, options, context):
        outputs = next_function(*args, **options)
        module = context.module
        of_noise = isinstance(module, linen.BatchNorm) or _is_site(module)
        if context.method_name == "__call__" and of_noise and args:
            name = ".".join(map(str, module.path)) or type(module).__name__
            called(module, name, args[0], outputs, None)
            if quiet and not isinstance(module, linen.BatchNorm):
                return args[0]
        return outputs

    types = {nnx.Dropout, nnx.BatchNorm} | {
        type(m) for m in modules if _is_site(m) or isinstance(m, nnx.BatchNorm)
    }
    with contextlib.ExitStack() as stack:
        for kind in types:
            stack.enter_context(_replaced(kind, wrap))
        stack.enter_context(linen.intercept_methods(intercept))
        yield sites, norms


@contextlib.contextmanager
def _replaced(kind: type, wrap: Callable) -> Iterator[None]:
    """A class whose calls are wrapped, for a while."""
    own, original = "__call__" in vars(kind), kind.__call__
    kind.__call__ = wrap(original)
    try:
        yield
    finally:
        if own:
            kind.__call__ = original
        else:
            del kind.__call__


def _is_site(module: Any) -> bool:
    """A layer of noise: ours, Flax's, or a module without parts that has a rate."""
    if isinstance(module, (nnx.Dropout, NoiseLayer, linen.Dropout)):
        return True
    if isinstance(module, nnx.Module):
        parts = [m for _, m in nnx.iter_modules(module) if m is not module]
        if any(not isinstance(m, (nnx.Rngs, nnx.RngStream)) for m in parts):
            return False
    return rate_of(module) is not None


def rate_of(module: Any) -> float | None:
    """The rate that a layer states, or None."""
    for name in RATES:
        value = getattr(module, name, None)
        value = value[...] if isinstance(value, nnx.Variable) else value
        concrete = isinstance(value, (int, float, np.ndarray, jax.Array)) and not isinstance(
            value, (bool, jax.core.Tracer)
        )
        if concrete and np.ndim(value) == 0 and 0 <= float(value) <= 1:
            return float(value)
    return None


def _site(module, name, x, outputs, gradient):
    x, outputs = np.asarray(x, np.float64), np.asarray(outputs, np.float64)
    known = (x != 0) & np.isfinite(x)
    noise = np.where(known, outputs / np.where(known, x, 1), np.nan)
    shared = tuple(dim % x.ndim for dim in getattr(module, "broadcast_dims", ()) or ())
    return Site(name, rate_of(module), shared, x, outputs, noise, gradient)


def _copied(module, original, args, options):
    """The call as a function of its inputs, that draws what the call itself will draw."""
    graphdef, state = nnx.split(module)
    state = jax.tree.map(lambda leaf: leaf, state)
    options = {name: _clone(value) for name, value in options.items()}

    def again(x):
        copy = nnx.merge(graphdef, state, copy=True)
        return original(copy, x, *args[1:], **{n: _clone(v) for n, v in options.items()})

    return again


def _clone(value):
    return nnx.clone(value) if isinstance(value, (nnx.Rngs, nnx.RngStream)) else value


def _gradient(again, x, outputs):
    """The derivative of each output by its own input; None where the call cannot be repeated."""
    if isinstance(x, jax.core.Tracer) or not jnp.issubdtype(x.dtype, jnp.floating):
        return None
    repeated, pull = jax.vjp(again, x)
    if getattr(repeated, "shape", None) != x.shape or not np.array_equal(repeated, outputs):
        return None
    return np.asarray(pull(jnp.ones_like(repeated))[0], np.float64)


def _takes(model: Any, name: str) -> Any:
    """The default of a parameter of the model's call; None where there is no such parameter."""
    found = inspect.signature(type(model).__call__).parameters.get(name)
    return None if found is None else found.default if found.default is not None else False


def _numbered(name, sites):
    calls = sum(site.name.split(" (call")[0] == name for site in sites)
    return f"{name} (call {calls + 1})" if calls else name


def _dotted(path) -> str:
    return ".".join(map(str, path)) or WHOLE


def _leaves(outputs: Any) -> list[np.ndarray]:
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(outputs)]


def switches_of(model: Any) -> Mapping[str, bool]:
    """The switches that a model's call takes, with the values that mean training."""
    if not isinstance(model, (nnx.Module, linen.Module)):
        return {}
    return {name: value for name, value in SWITCHES.items() if _takes(model, name) is not None}
