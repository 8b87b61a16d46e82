"""Watch the layers of dropout and batch normalisation while a model runs: what goes in and out."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from dropout_jax._checks import is_traced
from dropout_jax.layers.base import NoiseLayer

RATES = ("rate", "dropout_rate", "drop_rate", "p", "drop_prob")
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


@contextlib.contextmanager
def watched(
    modules: list[nnx.Module], names: dict[int, str], quiet: bool
) -> Iterator[tuple[list, list]]:
    """Watch the calls of dropout and batch normalisation, of NNX and of Linen."""
    sites, norms = [], []
    inside = []  # a layer within a layer of noise is part of it

    def called(module, name, x, outputs, gradient):
        if is_traced(x) or not isinstance(x, (jax.Array, np.ndarray)):
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
        if isinstance(value, bool) or is_traced(value):
            continue
        if not isinstance(value, (int, float, np.ndarray, jax.Array)) or np.ndim(value):
            continue
        if 0 <= float(value) <= 1:
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
    if is_traced(x) or not jnp.issubdtype(x.dtype, jnp.floating):
        return None
    repeated, pull = jax.vjp(again, x)
    if getattr(repeated, "shape", None) != x.shape or not np.array_equal(repeated, outputs):
        return None
    return np.asarray(pull(jnp.ones_like(repeated))[0], np.float64)


def _numbered(name, sites):
    calls = sum(site.name.split(" (call")[0] == name for site in sites)
    return f"{name} (call {calls + 1})" if calls else name


def dotted(path) -> str:
    return ".".join(map(str, path)) or WHOLE
