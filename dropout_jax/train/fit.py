"""What Keras users call fit and evaluate, for any NNX model."""

import functools
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from dropout_jax._checks import check_key
from dropout_jax._nnx import check_module, split
from dropout_jax._sharding import devices_of, parts_of
from dropout_jax.train.loop import Split, check_data, make_loop
from dropout_jax.train.metrics import (
    CLASSIFICATION,
    Metrics,
    cross_entropy,
    mean_in_chunks,
    measured,
)
from dropout_jax.train.processes import check_shared
from dropout_jax.train.runner import History, run
from dropout_jax.train.saver import Every
from dropout_jax.train.state import start
from dropout_jax.train.thin import Thin
from dropout_jax.typing import Array, Key


def fit(
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    x: Array,
    y: Array,
    *,
    key: Key,
    epochs: int,
    batch_size: int = 32,
    validation_data: Split | None = None,
    loss: Callable[[nnx.Module, Array, Array], Array] = cross_entropy,
    metrics: Metrics = CLASSIFICATION,
    thin: Thin | None = None,
    checkpoint_dir: str | Path | None = None,
    checkpoint_every: Every = None,
    progress: bool = True,
) -> History:
    """Train an NNX model in place: what Keras users call compile and fit.

    Args:
      model: any `nnx.Module` with `model(x)`; it is updated, all but its random streams, and left
        in evaluation mode.
      optimizer: an optax transformation, such as `optax.adam(1e-3)`.
      x: inputs (examples, ...); where they are spread over devices, so is the work. Of several
        processes each gives the same array of all, which `jax.make_array_from_process_local_data`
        makes; this holds for y and validation_data too.
      y: targets (examples, ...); integer labels (examples,) for the default loss.
      key: a typed key; with the model's parameters and the data it decides the whole run.
      epochs: passes over the data, counted from the start of the run.
      batch_size: examples an update, a multiple of the number of devices that x is spread over;
        those that do not fill a last batch wait for another epoch.
      validation_data: (x, y) to evaluate after each epoch, as "val_loss" and "val_error".
      loss: (model, x, y) -> a scalar to minimise; softmax cross-entropy by default. With another
        one give `metrics` too, such as {"loss": loss}.
      metrics: name -> (model, x, y) -> a mean over the examples; cross-entropy and error rate by
        default.
      thin: `Thin()` trains sub-networks that are really smaller, in place of hidden dropout.
      checkpoint_dir: a folder for the checkpoints of this one run; the same call goes on from the
        last one and says so, and with more epochs trains for longer. Without it a second `fit`
        trains the weights on, with an optimizer that starts anew.
      checkpoint_every: epochs between checkpoints, or a `datetime.timedelta` such as five minutes;
        by default each epoch, but so rarely that saving takes at most about a tenth of the time.
        The last complete epoch is saved in any case, also after Ctrl-C.
      progress: show a bar with the loss, the validation error and the time left.

    Returns:
      A `History`: "loss", and "val_" + each metric, by epoch.

    Raises:
      TypeError: a model that is no `nnx.Module`; labels that are no integers, or outputs that are
        no logits, for the default loss or metrics or `losses.r_drop`; metrics that are no mapping;
        a loss or a metric that takes no (model, x, y) or is no number; an optimizer that is no
        optax transformation; epochs or a batch_size that are no whole numbers.
      ValueError: lengths that differ, fewer examples than a batch, epochs below 1, labels that are
        no classes of the model, a batch that does not divide among the devices; data that one of
        several processes has for itself.
      RuntimeError: another process of `jax.distributed` has ended.
      NonFiniteLossError: the loss or the weights became NaN or infinite; the model keeps its last
        good epoch.
      CheckpointError: the checkpoint found is of another run (another key, data, program or
        initial weights) or of more epochs; another process trains in that folder; it cannot be
        written, or the disk is full.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp, optax
      >>> from flax import nnx
      >>> x, y = jnp.eye(64), jnp.arange(64) % 2
      >>> model = dj.layers.MLP((64, 128, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> history = dj.fit(model, optax.adam(1e-2), x, y, key=jax.random.key(0), epochs=20,
      ...                  validation_data=(x, y), progress=False)
      >>> float(history["val_error"][-1])
      0.0
    """
    key = check_key(key)
    check_module(model)
    _check_counts(epochs, batch_size)
    if not hasattr(optimizer, "init"):
        raise TypeError(f"optimizer is {optimizer!r}; write one of optax's, as optax.adam(1e-3).")
    check_shared("x", x)
    check_shared("y", y)
    data = {"train": (jnp.asarray(x), jnp.asarray(y))}
    if validation_data is not None:
        if not isinstance(validation_data, Sequence) or len(validation_data) != 2:
            raise ValueError(
                f"validation_data {_shown(validation_data)}; write (x, y), held out beforehand "
                "with dj.data.split_validation, say, and weigh the examples in metrics of your own."
            )
        check_shared("validation_data", validation_data)
        data["val"] = (jnp.asarray(validation_data[0]), jnp.asarray(validation_data[1]))
    check_data(data, batch_size)
    _check_metrics(metrics)
    parts = parts_of(data["train"][0])
    if batch_size % parts:
        raise ValueError(
            f"batch_size is {batch_size}, and the examples are spread over {parts} devices; write "
            f"a multiple of {parts}."
        )
    takes_labels = loss is cross_entropy or getattr(loss, "takes_labels", False)
    if takes_labels or (metrics is CLASSIFICATION and "val" in data):
        outputs = _shape_of_outputs(model, data["train"][0])
        for name, (_, labels) in data.items():
            _check_labels(name, labels, outputs)
    model.train()
    state = start(key, {}, model, optimizer)
    loop = make_loop(
        None,
        lambda hyper: optimizer,
        batch_size=batch_size,
        loss=loss,
        metrics=metrics,
        thin=thin,
    )
    try:
        with devices_of(data["train"][0]):
            _, history = run(
                loop,
                state,
                data,
                epochs=epochs,
                evaluate=tuple(data)[1:],
                checkpoint_dir=checkpoint_dir,
                checkpoint_every=checkpoint_every,
                progress=progress,
                on_epoch=lambda state: nnx.update(model, state.params, _but_streams(state.rest)),
            )
    finally:
        model.eval()
    return history


def evaluate(
    model: nnx.Module, x: Array, y: Array, *, metrics: Metrics = CLASSIFICATION
) -> dict[str, float]:
    """The metrics of a model on examples, without dropout; neither its mode nor its streams change.

    Args:
      model: any `nnx.Module` with `model(x)`.
      x: inputs (examples, ...); they go through a few thousand at a time.
      y: targets (examples, ...).
      metrics: name -> (model, x, y) -> a mean over the examples; by default the cross-entropy as
        "loss", and the share of wrong answers as "error".

    Returns:
      name -> value.

    Raises:
      TypeError: a model that is no `nnx.Module`; labels that are no integers, or outputs that are
        no logits, for the default metrics; a metric that takes no (model, x, y) or is no number.
      ValueError: lengths that differ, no examples, labels that are no classes of the model.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> from flax import nnx
      >>> model = dj.layers.MLP((4, 8, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> sorted(dj.evaluate(model, jnp.ones((3, 4)), jnp.zeros(3, int)))
      ['error', 'loss']
    """
    check_shared("x", x)
    check_shared("y", y)
    x, y = jnp.asarray(x), jnp.asarray(y)
    check_data({"train": (x, y)}, 1)
    _check_metrics(metrics)
    if metrics is CLASSIFICATION:
        _check_labels("y", y, _shape_of_outputs(model, x))
    structure, state = split(model)
    with devices_of(x):
        values = _measured(structure, tuple(metrics.items()), state, x, y)
    return {name: float(value) for name, value in values.items()}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _measured(structure, metrics, state, x, y):
    def measure(x, y):  # of a model for each chunk: it may write variables as it evaluates
        model = structure.merge(state)
        model.eval()
        return measured(dict(metrics), model, x, y)

    return mean_in_chunks(measure, x, y)


def _but_streams(rest: nnx.State) -> nnx.State:
    """What training leaves in the model: its own streams stay, of whatever keys they are."""
    return nnx.filter_state(rest, nnx.Not(nnx.RngState))


def _check_counts(epochs: int, batch_size: int) -> None:
    for name, count in (("epochs", epochs), ("batch_size", batch_size)):
        if not isinstance(count, Integral):
            raise TypeError(f"{name} is {count!r}; write a whole number, such as 10.")
        if count < 1:
            raise ValueError(f"{name} is {count}; write 1 or more.")


def _check_metrics(metrics: Metrics) -> None:
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"metrics is {metrics!r}; write names and functions (model, x, y) -> a number, such as "
            '{"loss": dj.train.cross_entropy}.'
        )


def _shown(parts: object) -> str:
    if isinstance(parts, Sequence):
        return f"has {len(parts)} parts"
    return f"is {type(parts).__name__}"


def _shape_of_outputs(model: nnx.Module, x: Array) -> tuple[int, ...]:
    structure, state = split(model)

    def outputs(state, x):
        model = structure.merge(state)
        model.eval()
        return model(x)

    with devices_of(x):
        found = jax.eval_shape(outputs, state, x)
    if not isinstance(found, jax.ShapeDtypeStruct) or found.ndim < 2:
        raise TypeError(
            f"the model's outputs are {found}, and the default loss and metrics take one array of "
            "logits (examples, ..., classes): give loss= and metrics=, functions (model, x, y) -> "
            "a number, for others."
        )
    return found.shape


def _check_labels(name: str, y: Array, outputs: tuple[int, ...]) -> None:
    """Raise unless y fits the default loss and metrics, which take integer labels."""
    classes = outputs[-1]
    if not jnp.issubdtype(y.dtype, jnp.integer) or y.shape[1:] != outputs[1:-1]:
        raise TypeError(
            f"the labels of {name} are {y.dtype} of shape {y.shape}, and the default loss and "
            f"metrics take integers of shape {(len(y), *outputs[1:-1])}: write y.argmax(-1) for "
            "one-hot rows, y[..., 0] for a column, y.astype(int) for whole numbers, or give loss= "
            "and metrics= for other targets."
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"the labels of {name} run from {low} to {high}, and the model has {classes} outputs: "
            f"label the classes 0 to {classes - 1}, or give the model more outputs."
        )
