"""Compare functions by what they compute, so that a program compiled for one serves the other.

`optax.adam(1e-3)` is a new pair of closures in each call, and a lambda a new function; both are
equal here to what the same line made before. A function is its code, its defaults, the values that
it closes over, and the global values that it names. What may change unseen makes it equal to itself
alone.
"""

import dis
import enum
import functools
import types
import zlib
from collections.abc import Hashable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "dropout_jax", "functools", "builtins")
LARGEST = 100_000  # of what is looked at, before it costs more than to compile anew
LOADS = ("LOAD_GLOBAL", "LOAD_NAME")
NUMBERS = (int, float, complex, str, bytes, type(None), type(Ellipsis), np.generic, np.dtype)


class Unknown(Exception):
    """A value of which it cannot be known whether it is still what it was."""


class Same:
    """`value` as a key of a dictionary: equal to a value that computes the same.

    Args:
      value: a function, an optimizer, or a tuple of such.
      model: a model beside which it is to be equal, whose code may have changed too.
    """

    def __init__(self, value: Any, model: nnx.Module | None = None):
        self.value = value
        walk = _Walk()
        try:
            code = None if model is None else walk.code(model)
            self._content = walk.content(value), code
        except Exception:  # of any kind: objects of others may answer as they like
            self._content = _Itself(object())

    def __hash__(self) -> int:
        return hash(self._content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self._content == other._content


class _Itself:
    """Equal to the same object alone, which it keeps alive."""

    def __init__(self, value: Any):
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value


class _Walk:
    """From a value to its content, through functions that name each other."""

    def __init__(self):
        self.met: dict[int, int] = {}
        self.alive: list[Any] = []  # so that an id names one value
        self.left = LARGEST

    def content(self, value: Any) -> Hashable:
        if isinstance(value, NUMBERS):
            return type(value), repr(value)  # 0.0 is not -0.0, and NaN is NaN
        self.left -= 1
        if self.left < 0:
            raise Unknown(value)
        if isinstance(value, (jax.Array, types.ModuleType, types.BuiltinFunctionType, enum.Enum)):
            return _Itself(value)
        if id(value) in self.met:  # a function that names itself
            return "met", self.met[id(value)]
        self.met[id(value)] = len(self.met)
        self.alive.append(value)
        return self._of_parts(value)

    def _of_parts(self, value: Any) -> Hashable:
        if isinstance(value, np.ndarray) and value.dtype != object:
            data = zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
            return value.shape, value.dtype, data
        if isinstance(value, (tuple, list)):
            return type(value), *map(self.content, value)
        if isinstance(value, (set, frozenset)):
            return type(value), frozenset(map(self.content, value))
        if isinstance(value, Mapping):
            return type(value), *((self.content(k), self.content(v)) for k, v in value.items())
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return self.content(value.__func__), self.content(value.__self__)
        if isinstance(value, functools.partial):
            return functools.partial, *map(self.content, (value.func, value.args, value.keywords))
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, nnx.Module):
            return self._module(value)
        if _is_of_library(type(value)) and callable(value):  # jax.nn.relu, a jitted function
            inner = getattr(value, "__wrapped__", None)
            known = inner is None or _is_of_library(inner)
            return _Itself(value) if known else ("wrapped", self.content(inner))
        if hasattr(value, "__dict__") and not _is_of_library(type(value)):
            return self.content(type(value)), self.content(vars(value))
        raise Unknown(value)

    def _function(self, function: types.FunctionType) -> Hashable:
        cells = [_contents(cell) for cell in function.__closure__ or ()]
        named = {} if _is_of_library(function) else _globals_of(function)
        parts = (function.__defaults__, function.__kwdefaults__, cells, named)
        try:
            return function.__code__, *map(self.content, parts)
        except Unknown:
            return _Itself(function)

    def _class(self, kind: type) -> Hashable:
        if _is_of_library(kind):
            return _Itself(kind)
        own = {name: getattr(v, "__func__", v) for name, v in vars(kind).items()}
        own = {k: v for k, v in own.items() if isinstance(v, (types.FunctionType, *NUMBERS))}
        return _Itself(kind), self.content(own), self.content(kind.__bases__)

    def _module(self, module: nnx.Module) -> Hashable:
        """A model that a function closes over: its arrays too."""
        leaves = (_Itself(leaf) for leaf in jax.tree.leaves(nnx.state(module)))
        return self.code(module), *leaves

    def code(self, module: nnx.Module) -> Hashable:
        """What a model computes but for its variables."""
        found = []
        for path, part in nnx.iter_modules(module):
            found += [path, self.content(type(part))]
            for name, value in vars(part).items():
                if _is_fixed(value):
                    try:
                        found += [name, self.content(value)]
                    except Unknown:
                        found += [name, _Itself(value)]
        return tuple(found)


def _is_fixed(value: Any) -> bool:
    """False for an attribute with variables or modules in it, and for what Flax writes down."""
    parts = jax.tree.leaves(value, is_leaf=lambda part: not isinstance(part, (list, tuple, dict)))
    kinds = (nnx.Variable, nnx.Module, nnx.Pytree, jax.Array)
    flax_own = type(value).__module__.startswith("flax.")
    return not flax_own and not any(isinstance(part, kinds) for part in parts)


def _is_of_library(value: Any) -> bool:
    module = getattr(value, "__module__", None) or ""
    return module.split(".")[0] in LIBRARIES


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet assigned
        return None


def _globals_of(function: types.FunctionType) -> dict[str, Any]:
    names = _global_names(function.__code__)
    return {n: function.__globals__[n] for n in names if n in function.__globals__}


@functools.lru_cache(maxsize=4096)
def _global_names(code: types.CodeType) -> tuple[str, ...]:
    """The global names that code loads, in functions inside of it too; no names of attributes."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname in LOADS}
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found.update(_global_names(const))
    return tuple(sorted(found))
