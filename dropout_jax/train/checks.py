"""What `fit` and `evaluate` look at before they start, so that a mistake is said in plain words."""

import functools
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dropout_jax._nnx import split
from dropout_jax._sharding import devices_of, parts_of, sharding_of
from dropout_jax.losses.ready import check_classes
from dropout_jax.train.calls import with_rngs
from dropout_jax.train.examples import Examples, all_finite, count, shapes
from dropout_jax.train.metrics import CLASSIFICATION, Metrics
from dropout_jax.train.named import takes_labels
from dropout_jax.typing import Array

ROWS = 37  # of a batch that no other axis is likely to be as long as
ELEMENTWISE = {"add", "sub", "mul", "div", "max", "min", "pow", "eq", "ne", "lt", "gt", "le", "ge"}


def check_count(name: str, value: int) -> None:
    """Raise unless `value` is a whole number over 0."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is {value!r}; write a whole number, such as 10.")
    if value < 1:
        raise ValueError(f"{name} is {value}; write 1 or more.")


def check_lengths(name: str, x: Examples, y: Examples) -> None:
    """Raise unless there are as many targets as inputs, and any."""
    if count(x) != count(y):
        raise ValueError(f"{name} has {count(x)} inputs and {count(y)} targets.")
    if not count(x):
        raise ValueError(f"{name} has no examples.")


def check_parts(batch_size: int, examples: Examples) -> None:
    """Raise unless a batch divides among the devices that the examples are spread over."""
    parts = max(map(parts_of, jax.tree.leaves(examples)))
    if batch_size % parts:
        raise ValueError(
            f"batch_size is {batch_size}, and the examples are spread over {parts} devices; write "
            f"a multiple of {parts}."
        )


def check_targets(
    model: nnx.Module,
    data: Mapping[str, tuple[Examples, Examples]],
    *,
    loss: Callable | None = None,
    metrics: Metrics | None = None,
) -> None:
    """Raise where the targets do not fit the model's outputs, for a loss and metrics.

    Args:
      model: `model(x)`.
      data: name -> (x, y); the first is what the loss is of.
      loss: a loss.
      metrics: metrics, of each.

    Raises:
      TypeError: labels that are no integers, outputs that are no logits.
      ValueError: labels that are no classes; outputs (n, 1) and targets (n,) that a function of the
        user's would broadcast to (n, n).
    """
    metrics = metrics or {}
    (x, _), *_ = data.values()
    classify = (loss is not None and takes_labels(loss)) or (
        any(map(takes_labels, metrics.values())) or metrics is CLASSIFICATION
    )
    outputs = outputs_of(model, x)
    if classify:
        _check_logits(outputs, x)
        check_classes(outputs)
        for name, (_, labels) in data.items():
            _check_labels(name, labels, outputs.shape)
    functions = {f"the metric {name!r}": metric for name, metric in metrics.items()}
    for name, function in (({"the loss": loss} if loss else {}) | functions).items():
        if not _is_ours(function):
            check_no_broadcast(name, function, model, outputs, *next(iter(data.values())))


def _is_ours(function: Any) -> bool:
    module = getattr(function, "__module__", None) or type(function).__module__
    return module.split(".")[0] == "dropout_jax"


def outputs_of(model: nnx.Module, x: Examples) -> Any:
    """The shapes of the model's outputs, without computing them."""
    structure, state = split(model)
    try:
        with devices_of(jax.tree.leaves(x)[0]):
            return jax.eval_shape(functools.partial(_outputs, structure), state, x)
    except (TypeError, ValueError) as error:
        error.add_note(f"This was the model, called with x of shape {shapes(x)}.")
        if (axes := _axes_of_convolution(model)) and axes != getattr(x, "ndim", axes):
            error.add_note(
                f"Its nnx.Conv takes {axes} axes, (examples, ..., channels): write x[..., None] "
                "for grey images without an axis of channels."
            )
        raise


def _axes_of_convolution(model: nnx.Module) -> int | None:
    """How many axes the inputs of the model's first convolution have, if it has one."""
    modules = (module for _, module in nnx.iter_modules(model))
    kernels = (np.atleast_1d(m.kernel_size) for m in modules if isinstance(m, nnx.Conv))
    return next((len(kernel) + 2 for kernel in kernels), None)


@functools.partial(jax.jit, static_argnums=0)
def _outputs(structure, state, x):
    model = structure.merge(state)
    model.eval()
    return with_rngs(model, lambda: jax.random.key(0))(x)


def check_no_broadcast(
    name: str, function: Callable, model: nnx.Module, outputs: Any, x: Examples, y: Examples
) -> None:
    """Raise if outputs (n, 1) and targets (n,), or the other way round, become (n, n) in it."""
    if not isinstance(outputs, jax.ShapeDtypeStruct) or not isinstance(y, jax.Array):
        return
    n = (count(x),)
    if (outputs.shape, y.shape) not in (((*n, 1), n), (n, (*n, 1))):
        return
    structure, state = split(model)

    def value(state, x, y):
        model = structure.merge(state)
        model.eval()
        return function(with_rngs(model, lambda: jax.random.key(0)), x, y)

    def few(a):
        return jax.ShapeDtypeStruct((ROWS, *a.shape[1:]), a.dtype)

    try:
        jaxpr = jax.make_jaxpr(value)(state, jax.tree.map(few, x), few(y))
    except Exception:  # it is said better where the function is called for good
        return
    if _makes_pairs(jaxpr.jaxpr):
        raise ValueError(
            f"{name} computes with outputs of shape {outputs.shape} and targets of {y.shape}, "
            "which become pairs of all examples with all. Write loss='mse' or another of "
            "dj.losses, or give y the shape of the outputs: y[:, None], or model(x)[:, 0]."
        )


def _makes_pairs(jaxpr: Any) -> bool:
    def inside(value):
        return hasattr(value, "jaxpr") and _makes_pairs(value.jaxpr)

    return any(
        (eqn.primitive.name in ELEMENTWISE and eqn.outvars[0].aval.shape == (ROWS, ROWS))
        or any(map(inside, eqn.params.values()))
        for eqn in jaxpr.eqns
    )


def _check_logits(outputs: Any, x: Examples) -> None:
    if not isinstance(outputs, jax.ShapeDtypeStruct) or len(outputs.shape) < 2:
        shape = getattr(outputs, "shape", None)
        found = f"of shape {shape}" if shape is not None else f"{type(outputs).__name__}"
        hint = ""
        if isinstance(x, jax.Array) and x.ndim == 1:
            hint = " x has one dimension: write x[:, None] for examples of one number."
        raise TypeError(
            f"the model's outputs are {found}, and the default loss and metrics take one array of "
            "logits (examples, ..., classes): give loss= and metrics=, functions (model, x, y) -> "
            f"a number, for others.{hint}"
        )


def _check_labels(name: str, y: Examples, outputs: tuple[int, ...]) -> None:
    """Raise unless y fits the default loss and metrics, which take integer labels."""
    classes = outputs[-1]
    dtype = getattr(y, "dtype", None)
    integers = dtype is not None and (jnp.issubdtype(dtype, jnp.integer) or dtype.kind == "b")
    if not integers or y.shape[1:] != outputs[1:-1]:
        given = f"{dtype} of shape {y.shape}" if dtype is not None else type(y).__name__
        raise TypeError(
            f"the labels of {name} are {given}, and the default loss and metrics take integers of "
            f"shape {(count(y), *outputs[1:-1])}: write y.argmax(-1) for one-hot rows, y[..., 0] "
            "for a column, y.astype(int) for whole numbers, or give loss= and metrics= for other "
            "targets."
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"the labels of {name} run from {low} to {high}, and the model has {classes} outputs: "
            f"label the classes 0 to {classes - 1}, or give the model more outputs."
        )


def not_finite(examples: Examples) -> int:
    """How many examples have a number that is not finite."""
    if bool(all_finite(examples)):
        return 0
    leaves = [a for a in jax.tree.leaves(examples) if jnp.issubdtype(a.dtype, jnp.inexact)]
    bad = [~jnp.isfinite(a).reshape(len(a), -1).all(1) for a in leaves]
    return int(sum(bad[1:], start=bad[0]).astype(bool).sum())


def told_not_finite(data: Any) -> str:
    """A sentence for each of x and y that holds a NaN; "" for none, and for batches."""
    if not isinstance(data, tuple):
        return ""
    found = {name: not_finite(part) for name, part in zip(("x", "y"), data, strict=False)}
    return " ".join(
        f"{bad} of {count(data)} examples have a NaN or an infinite number in {name}: fill it in, "
        "or leave them out."
        for name, bad in found.items()
        if bad
    )


def weights_for(y: Array, class_weight: Any, sample_weight: Array | None) -> Array | None:
    """The weight of each example: that of its class times its own; None for 1.

    Raises:
      TypeError: a class_weight that is no mapping; targets that are no labels.
      ValueError: a label without a weight; weights that are negative or of another length.
    """
    weights = None
    if class_weight is not None:
        if not isinstance(class_weight, Mapping):
            raise TypeError(
                f"class_weight is {class_weight!r}; write the weight of each class, such as "
                "{0: 1.0, 1: 5.0}."
            )
        if not isinstance(y, jax.Array) or not jnp.issubdtype(y.dtype, jnp.integer):
            raise TypeError("class_weight is for integer labels; write sample_weight instead.")
        table = jnp.array([class_weight.get(c, jnp.nan) for c in range(int(y.max()) + 1)])
        with devices_of(y):
            sharding = sharding_of(y)
            spread = sharding if sharding.mesh.explicit_axes else None
            weights = table.at[y].get(out_sharding=spread)
        if not bool(all_finite(weights)):
            missing = sorted(set(map(int, jnp.unique(y))) - set(class_weight))
            raise ValueError(f"class_weight has no weight for the classes {missing}.")
    if sample_weight is not None:
        if count(sample_weight) != count(y):
            raise ValueError(
                f"sample_weight has {count(sample_weight)} weights for {count(y)} examples."
            )
        own = sample_weight.astype(jnp.float32)
        own = own if weights is None else own.reshape(own.shape + (1,) * (weights.ndim - own.ndim))
        weights = own if weights is None else weights * own
    if weights is not None and bool(jnp.any(~(weights >= 0))):
        raise ValueError("a weight is negative or NaN; write numbers of 0 or more.")
    return weights
