"""Dropout replaced in a Linen model as it is, Hugging Face's included: activations and attention.

A Linen module cannot be changed, and its submodules exist only while it runs. So the change is a
context: inside it, calls of Flax's dropout run ours.
"""

import contextlib
import dataclasses
import functools
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax

from dropout_jax._checks import check_key, is_static
from dropout_jax.layers.attention import dot_product_attention
from dropout_jax.linen.dropout import drop
from dropout_jax.noise.attention import attention_dropout
from dropout_jax.typing import Array

_FLAX_WEIGHTS, _FLAX_ATTENTION = nn.dot_product_attention_weights, nn.dot_product_attention


@dataclasses.dataclass
class Replaced:
    """What `replace_dropout` met: the paths of modules, each once.

    Attributes:
      dropouts: the `nn.Dropout` modules that ran as ours.
      attentions: the modules whose attention weights were dropped, or computed, by ours.
      left: the modules that draw masks of their own, with `jax.random.bernoulli`.
    """

    dropouts: list[str] = dataclasses.field(default_factory=list)
    attentions: list[str] = dataclasses.field(default_factory=list)
    left: list[str] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def replace_dropout() -> Iterator[Replaced]:
    """Run our dropout where a Linen model calls Flax's: a context, and a decorator.

    Inside it `nn.Dropout` is `dropout_jax.dropout`; `nn.dot_product_attention`, and with it
    `nn.MultiHeadDotProductAttention`, is `dropout_jax.dot_product_attention`, in linear memory; and
    `nn.dot_product_attention_weights`, which Hugging Face's models call, drops with
    `attention_dropout`. Parameters, random streams and outputs in evaluation stay as they are.

    What counts is the time of tracing: open the context inside the function that `jax.jit` takes,
    not around a call that may have been compiled before. While it is open, Flax's functions are
    replaced by name in the modules of the model's classes, for all threads.

    Returns:
      A context that gives a `Replaced`: what was replaced, and what was left.

    Warns:
      UserWarning: when the context is left, of modules that draw masks of their own.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp
      >>> from dropout_jax import linen
      >>> model = nn.Sequential([nn.Dense(4), nn.Dropout(0.5, deterministic=False)])
      >>> variables = model.init(jax.random.key(0), jnp.ones((1, 3)))
      >>> @jax.jit
      ... def step(variables, x, key):
      ...     with linen.replace_dropout() as replaced:
      ...         y = model.apply(variables, x, rngs={"dropout": key})
      ...     print("replaced:", replaced.dropouts)  # when it is compiled
      ...     return y
      >>> step(variables, jnp.ones((2, 3)), jax.random.key(1)).shape
      replaced: ['layers_1']
      (2, 4)
    """
    found, running = Replaced(), []
    ours = {_FLAX_WEIGHTS: _weights(found, running), _FLAX_ATTENTION: _attention(found, running)}

    def intercept(call, args, kwargs, context):
        module = context.module
        if type(module) is nn.Dropout and context.method_name == "__call__":
            _note(found.dropouts, module)
            return drop(module, *args, **kwargs)
        with contextlib.ExitStack() as undo:
            for names in (vars(module), *_namespaces(module)):
                undo.enter_context(_swapped(names, ours))
            running.append(module)
            undo.callback(running.pop)
            return call(*args, **kwargs)

    bernoulli = jax.random.bernoulli

    @functools.wraps(bernoulli)
    def reported(*args, **kwargs):
        if running:
            _note(found.left, running[-1])
        return bernoulli(*args, **kwargs)

    with contextlib.ExitStack() as undo:
        undo.enter_context(nn.intercept_methods(intercept))
        for names in (nn.__dict__, nn.attention.__dict__):
            undo.enter_context(_swapped(names, ours))
        undo.enter_context(_swapped(jax.random.__dict__, {bernoulli: reported}))
        yield found
    if found.left:
        warnings.warn(
            f"left as they were: {', '.join(found.left)}, which draw masks of their own with "
            "jax.random.bernoulli; where that is dropout, write dropout_jax.dropout(key, x, rate).",
            stacklevel=3,
        )


def _weights(found: Replaced, running: list[nn.Module]):
    """Flax's attention weights, dropped by ours."""

    @functools.wraps(_FLAX_WEIGHTS)
    def weights(
        query, key, bias=None, mask=None, broadcast_dropout=True, dropout_rng=None,
        dropout_rate=0.0, deterministic=False, *args, **kwargs,
    ) -> Array:  # fmt: skip
        kept = _FLAX_WEIGHTS(query, key, bias, mask, True, None, 0.0, True, *args, **kwargs)
        if running:
            _note(found.attentions, running[-1])
        if deterministic or (is_static(dropout_rate) and dropout_rate == 0):
            return kept
        per = "batch" if broadcast_dropout else "head"
        return attention_dropout(check_key(dropout_rng), kept, dropout_rate, per=per)

    return weights


def _attention(found: Replaced, running: list[nn.Module]):
    """Our attention function, which notes who calls it."""

    @functools.wraps(dot_product_attention)
    def attention(*args, **kwargs) -> Array:
        if running:
            _note(found.attentions, running[-1])
        return dot_product_attention(*args, **kwargs)

    return attention


def _note(paths: list[str], module: nn.Module) -> None:
    path = "/".join(module.path) or type(module).__name__
    if path not in paths:
        paths.append(path)


def _namespaces(module: nn.Module) -> list[dict[str, Any]]:
    """The names that the code of a module's class, and of the classes it extends, sees."""
    names = {cls.__module__ for cls in type(module).__mro__} - {"builtins"}
    return [vars(sys.modules[name]) for name in names if name in sys.modules]


@contextlib.contextmanager
def _swapped(names: dict[str, Any], by: Mapping[Any, Any]) -> Iterator[None]:
    """A namespace in which some values are others, until the context is left.

    Its dictionary is written to, because a Linen module lets nothing be set.
    """
    before = {name: value for name, value in names.items() if _among(value, by)}
    names.update({name: by[value] for name, value in before.items()})
    try:
        yield
    finally:
        names.update(before)


def _among(value: Any, by: Mapping[Any, Any]) -> bool:
    return any(value is key for key in by)
