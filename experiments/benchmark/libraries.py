"""The libraries that are compared, behind one signature: apply(key, x, rate) -> y."""

import functools
import importlib.metadata
import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.records.libraries import FLAX_NNX, OURS, OURS_KERNEL, OURS_KEY


class Library(NamedTuple):
    """A way to drop units, and the package it comes from (None: plain JAX)."""

    apply: Callable[[jax.Array, jax.Array, float], jax.Array]
    package: str | None = None

    @property
    def version(self) -> str | None:
        return version(self.package) if self.package else None


def floor(key, x, rate):
    """One multiplication by 1 or -1, as the key says.

    XLA does not know which, so that it multiplies; and no chain of these grows or decays.
    """
    sign = 1 - 2 * (jax.random.key_data(key)[1] & 1).astype(jnp.int32)
    return x * sign.astype(x.dtype)


def _ours():
    import dropout_jax as dj

    return dj.dropout


def _ours_key():
    return functools.partial(_ours(), residual="key")


def _ours_kernel():
    import dropout_jax as dj

    return dj.kernel.dropout


def _flax_nnx():
    from flax import nnx

    return lambda key, x, rate: nnx.Dropout(rate)(x, rngs=key)


def _flax_linen():
    from flax import linen

    def apply(key, x, rate):
        return linen.Dropout(rate, deterministic=False).apply({}, x, rngs={"dropout": key})

    return apply


def _haiku():
    import haiku

    return lambda key, x, rate: haiku.dropout(key, rate, x)


def _equinox():
    import equinox

    return lambda key, x, rate: equinox.nn.Dropout(rate)(x, key=key)


def _keras():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    if keras.backend.backend() != "jax":
        raise ImportError("its backend is not jax: set KERAS_BACKEND=jax")
    # With the jax backend a traced key passes as the seed.
    return lambda key, x, rate: keras.random.dropout(x, rate, seed=key)


_KNOWN = {
    OURS: ("dropout_jax", _ours),
    OURS_KEY: ("dropout_jax", _ours_key),
    FLAX_NNX: ("flax", _flax_nnx),
    "flax.linen": ("flax", _flax_linen),
    "haiku": ("dm-haiku", _haiku),
    "equinox": ("equinox", _equinox),
    "keras": ("keras", _keras),
}


def on_gpu() -> dict[str, Library]:
    """What is added on a GPU: elsewhere the kernel is the same as OURS."""
    return {OURS_KERNEL: Library(_ours_kernel(), "dropout_jax")}


def installed() -> tuple[dict[str, Library], dict[str, str]]:
    """The libraries that can be imported, and for each of the others why not."""
    found, missing = {}, {}
    for name, (package, load) in _KNOWN.items():
        try:
            found[name] = Library(load(), package)
        except ImportError as error:
            missing[name] = f"{error}; pip install {package}"
    return found | (on_gpu() if jax.default_backend() == "gpu" else {}), missing


def version(package: str) -> str | None:
    """The installed version of a package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
        return None
