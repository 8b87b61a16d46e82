"""Calls that do not fit a signature: an error that says what to write, in place of Python's."""

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


def advised(
    usage: str, instead: Mapping[str, str] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Say what to write where an argument is missing, or is one of another library.

    Args:
      usage: a whole call, such as "dj.mc_predict(key, model, x, samples=100)".
      instead: an argument that another library has -> what to do here.
    """

    instead = instead or {}

    def decorated(f):
        signature = inspect.signature(f)
        others = instead.keys() - signature.parameters.keys()

        def checked(*args, **kwargs):
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                told = [f"{name}: {instead[name]}" for name in kwargs if name in others]
                told = "; ".join(told) or f"write {usage}"
                raise TypeError(f"{f.__name__}: {error}; {told}.") from None
            return f(*args, **kwargs)

        # With f's globals, by which doctest finds the examples of a module.
        own = types.FunctionType(checked.__code__, f.__globals__, closure=checked.__closure__)
        return cast(Callable[P, R], functools.update_wrapper(own, f))

    return decorated
