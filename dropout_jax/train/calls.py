"""How the loop calls a model: with random numbers for models that take them in each call.

And what goes unnoticed otherwise: dropout that is never switched on, or never off.
"""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from dropout_jax._checks import is_static
from dropout_jax.layers.base import NoiseLayer
from dropout_jax.typing import Key


class SilentNoiseWarning(UserWarning):
    """Layers of noise that draw nothing in training, or that draw in evaluation."""

    __module__ = "dropout_jax.train"


class _Called:
    """A model whose every call gets `rngs`; all else is the model's."""

    def __init__(self, model: nnx.Module, rngs: nnx.Rngs):
        self._model, self._rngs = model, rngs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._model(*args, **({"rngs": self._rngs} | kwargs))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def with_rngs(model: nnx.Module, key: Callable[[], Key]) -> Any:
    """The model, or, where its call needs `rngs`, a model that brings them from `key()`.

    It needs them where they have no default, or where no part of it has a stream of its own.
    """
    parameter = inspect.signature(type(model).__call__).parameters.get("rngs")
    if parameter is None:
        return model
    if parameter.default is parameter.empty or not jax.tree.leaves(nnx.state(model, nnx.RngKey)):
        return _Called(model, nnx.Rngs(key()))
    return model


def in_evaluation(model: nnx.Module, f: Callable[[Any], Any]) -> Any:
    """f(model) in evaluation mode, with a warning if dropout was drawn; the model is changed."""
    model.eval()
    before = counts(model)
    found = f(with_rngs(model, lambda: jax.random.key(0)))
    warn_if_noisy(model, before)
    return found


def counts(model: nnx.Module) -> dict[tuple, Any]:
    """How often each random stream was drawn from, by its place; read it before and after."""
    state = nnx.to_flat_state(nnx.state(model, nnx.RngCount))
    return {path: variable[...] for path, variable in state}


def warn_if_silent(model: nnx.Module, before: dict[tuple, Any]) -> None:
    """Warn if a model in training mode has layers of noise and none of its streams was drawn from.

    Args:
      model: after its call.
      before: `counts` of before.
    """
    layers = _noise_layers(model)
    if layers and _all_have_streams(layers) and not _moved(before, counts(model)):
        names = ", ".join(_shown(path, layer) for path, layer in list(layers.items())[:3])
        warnings.warn(
            f"the model has dropout ({names}) and drew none of it in training: its call switches "
            "it off. Leave the switch to model.train() and model.eval(), which fit calls, or give "
            "fit a loss that switches it on, such as lambda model, x, y: "
            "jnp.mean(optax.softmax_cross_entropy_with_integer_labels(model(x, training=True), y))",
            SilentNoiseWarning,
            stacklevel=2,
        )


def warn_if_noisy(model: nnx.Module, before: dict[tuple, Any]) -> None:
    """Warn if a layer of noise drew in evaluation.

    Args:
      model: after its call.
      before: `counts` of before.
    """
    moved = _moved(before, counts(model))
    noisy = [_shown(path, layer) for path, layer in _noise_layers(model).items()
             if any(place[: len(path)] == path for place in moved)]  # fmt: skip
    if noisy:
        warnings.warn(
            f"the model draws dropout in evaluation ({', '.join(noisy[:3])}): its call switches it "
            "on. Leave the switch to model.train() and model.eval(), which set `deterministic` of "
            "every layer, and keep no flag such as self.training beside it.",
            SilentNoiseWarning,
            stacklevel=2,
        )


def _noise_layers(model: nnx.Module) -> dict[tuple, nnx.Module]:
    """The layers of noise with an amount that is not 0, by their place."""
    kinds = (nnx.Dropout, NoiseLayer, nnx.MultiHeadAttention)
    found = {path: layer for path, layer in nnx.iter_modules(model) if isinstance(layer, kinds)}
    return {path: layer for path, layer in found.items() if _amount(layer) not in (0, 1)}


def _amount(layer: nnx.Module) -> Any:
    """The rate or deviation of a layer where it is a number, or else None."""
    for name in ("rate", "dropout_rate", "stddev"):
        if is_static(amount := getattr(layer, name, None)):
            return amount
    return None


def _all_have_streams(layers: dict[tuple, nnx.Module]) -> bool:
    return all(getattr(layer, "rngs", None) is not None for layer in layers.values())


def _moved(before: dict[tuple, Any], after: dict[tuple, Any]) -> list[tuple]:
    """The streams that were drawn from: while tracing, a new value is a new object."""
    return [path for path, count in after.items() if before.get(path) is not count]


def _shown(path: tuple, layer: nnx.Module) -> str:
    return f"{type(layer).__name__} at {'.'.join(map(str, path)) or 'the top'}"
