"""Use an installed dropout_jax that has no extras. Run by scripts/test_wheel, not by pytest."""

import importlib.metadata
import importlib.util
import operator

import jax
import jax.numpy as jnp

import dropout_jax as dj


def check(condition: bool, what: str) -> None:
    if not condition:
        raise SystemExit(f"error: {what}")


def check_names_extra(extra: str, name: str) -> None:
    """The error of `dj.<name>` has to say how to install the extra."""
    try:
        operator.attrgetter(name)(dj)
    except ModuleNotFoundError as error:
        check(f"pip install 'dropout_jax[{extra}]'" in str(error), str(error))
    else:
        raise SystemExit(f"error: dj.{name} needs nothing from the extra {extra}")


def main() -> None:
    distribution = importlib.metadata.distribution("dropout_jax")
    files = {str(file) for file in distribution.files or ()}
    folders = {file.split("/")[0] for file in files}
    check({"dropout_jax/py.typed", "dropout_jax/__init__.pyi"} <= files, "no types in the wheel")
    check(not folders & {"experiments", "tests"}, f"the wheel installs {folders}")
    check(dj.__version__ == distribution.version, f"it says it is {dj.__version__}")
    check(importlib.util.find_spec("flax") is None, "this environment has flax")
    y = jax.jit(lambda key, x: dj.dropout(key, x, 0.5))(jax.random.key(0), jnp.ones(1000))
    check(set(y.tolist()) == {0.0, 2.0}, "dropout is wrong")
    for name in (
        "fit",
        "linen.Dropout",
        "max_norm",
        "mc_predict",
        "layers.Dropout",
        "losses.r_drop",
    ):
        check_names_extra("train", name)
    try:
        dj.data.load_digits()
    except ModuleNotFoundError as error:
        check("pip install 'dropout_jax[data]'" in str(error), str(error))
    else:
        raise SystemExit("error: load_digits needs no scikit-learn")
    count = len(list(importlib.metadata.distributions()))
    print(f"the wheel works: {count} packages installed, version {dj.__version__}")


if __name__ == "__main__":
    main()
