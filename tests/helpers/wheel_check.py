"""Use an installed dropout_jax that has no extras. Run by scripts/test_wheel, not by pytest."""

import importlib.metadata
import importlib.util

import jax
import jax.numpy as jnp

import dropout_jax as dj


def check(condition: bool, what: str) -> None:
    if not condition:
        raise SystemExit(f"error: {what}")


def error_of(name: str) -> str:
    try:
        getattr(dj, name)
    except ModuleNotFoundError as error:
        return str(error)
    return "none"


distribution = importlib.metadata.distribution("dropout_jax")
files = {str(file) for file in distribution.files or ()}
check("dropout_jax/py.typed" in files, "py.typed is missing")
check({f for f in files if f.endswith(".pyi")} >= {"dropout_jax/__init__.pyi"}, "stubs are missing")
check(not any(f.startswith(("experiments/", "tests/")) for f in files), "experiments are installed")
check(dj.__version__ == distribution.version, "two versions")
check(importlib.util.find_spec("flax") is None, "this environment has flax")
y = jax.jit(lambda key, x: dj.dropout(key, x, 0.5))(jax.random.key(0), jnp.ones(1000))
check(set(y.tolist()) == {0.0, 2.0}, "dropout is wrong")
for name in ("fit", "layers", "linen", "max_norm", "mc_predict", "losses"):
    getattr_error = error_of(name) if name != "layers" else None
    if name == "layers":
        try:
            from dropout_jax.layers import Dropout  # noqa: F401
        except ModuleNotFoundError as error:
            getattr_error = str(error)
    check("pip install 'dropout_jax[train]'" in str(getattr_error), f"dj.{name}: {getattr_error}")
try:
    dj.data.load_digits()
except ModuleNotFoundError as error:
    check("dropout_jax[data]" in str(error), f"load_digits: {error}")
else:
    raise SystemExit("error: load_digits needs no scikit-learn")
installed = len(list(importlib.metadata.distributions()))
print(f"the wheel works: {installed} packages installed, version {dj.__version__}")
