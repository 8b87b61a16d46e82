"""Load public names on first use, and name the extra to install where a package is missing."""

import importlib
from collections.abc import Callable
from typing import Any

import lazy_loader

# The extra of pyproject.toml that brings a package.
EXTRAS = {
    "flax": "train",
    "optax": "train",
    "tqdm": "train",
    "pooch": "data",
    "sklearn": "data",
    "matplotlib": "experiments",
}


def attach(name: str, file: str) -> tuple[Callable, Callable, list[str]]:
    """`lazy_loader.attach_stub`: the names of a package stand in its __init__.pyi.

    Type checkers, documentation and `dir` read them there too.
    """
    load, list_names, names = lazy_loader.attach_stub(name, file)

    def __getattr__(attribute: str):
        try:
            return load(attribute)
        except ModuleNotFoundError as error:
            raise missing(error, f"{name}.{attribute}") from error

    return __getattr__, list_names, names


def missing(error: ModuleNotFoundError, feature: str) -> ModuleNotFoundError:
    """The error to raise for a package that is not installed: it names the extra, if any."""
    package = (error.name or "").split(".")[0]
    if package not in EXTRAS:
        return error
    return ModuleNotFoundError(
        f"{feature} needs {package}; write: pip install 'dropout_jax[{EXTRAS[package]}]'",
        name=error.name,
    )


def package(name: str, feature: str) -> Any:
    """Import a package that only `feature` needs; the error names the extra to install."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise missing(error, feature) from error
