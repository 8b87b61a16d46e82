"""Train a model: what Keras users call compile and fit, for any NNX model and optax optimizer."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import optax
from flax import nnx

from dropout_jax._advice import advised
from dropout_jax._checks import check_key
from dropout_jax._nnx import check_module
from dropout_jax._sharding import devices_of
from dropout_jax.losses.ready import cross_entropy, loss_of
from dropout_jax.train import checks
from dropout_jax.train.batches import Batches, are_batches
from dropout_jax.train.evaluation import measure
from dropout_jax.train.examples import Examples
from dropout_jax.train.history import History
from dropout_jax.train.loop import Loop, check_data, make_loop
from dropout_jax.train.metrics import Metrics
from dropout_jax.train.named import metrics_of, takes_labels
from dropout_jax.train.optimizers import adapted
from dropout_jax.train.other_names import FIT
from dropout_jax.train.runner import NonFiniteLossError, run
from dropout_jax.train.same import Same
from dropout_jax.train.saver import Every
from dropout_jax.train.splits import held_out, training_data, watched
from dropout_jax.train.state import State, start
from dropout_jax.train.stopping import best_of
from dropout_jax.train.thin import Thin
from dropout_jax.typing import Array, Key

BATCH = 32


@advised("dj.fit(model, optimizer, x, y, key=jax.random.key(0), epochs=10)", FIT)
def fit(
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    x: Any,
    y: Any = None,
    *,
    key: Key,
    epochs: int,
    batch_size: int | None = None,
    validation_data: Any = None,
    validation_split: float = 0.0,
    loss: Callable[..., Array] | str = cross_entropy,
    metrics: Metrics | Sequence[str] | None = None,
    sample_weight: Array | None = None,
    class_weight: Mapping[int, float] | None = None,
    on_epoch: Callable[[int, dict[str, Any]], Any] | None = None,
    keep_best: str | tuple[str, str] | None = None,
    patience: int | None = None,
    steps_per_epoch: int | None = None,
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
      x: inputs (examples, ...): an array, a DataFrame, or a dict or tuple of arrays; where they are
        spread over devices, so is the work. Or batches, without y: an iterable of (x, y), such as a
        loader, or a function of the epoch that returns one. Of several processes each gives the
        same array of all, which `jax.make_array_from_process_local_data` makes; this holds for y
        and validation_data too.
      y: targets (examples, ...); integer labels (examples,) for the default loss.
      key: a typed key; with the model's parameters and the data it decides the whole run.
      epochs: passes over the data, counted from the start of the run.
      batch_size: examples an update, 32 by default, a multiple of the number of devices that x is
        spread over; those that do not fill a last batch wait for another epoch. For arrays alone.
      validation_data: (x, y) to evaluate after each epoch, as "val_loss" and "val_error", or
        batches; several by name, {"val": (x, y), "train": (x, y)}.
      validation_split: the share of the examples to take for validation, drawn by the key.
      loss: (model, x, y) -> a scalar to minimise, or its name in `dj.losses`: "cross_entropy" (the
        default), "mse", "mae", "bce", "gaussian_nll".
      metrics: of the validation data: names or functions, as for `evaluate`; by default loss and
        error rate for the cross-entropy, and for other losses the loss.
      sample_weight: the weight of each example, (examples,) or of y's shape, for a loss that takes
        (model, x, y, weights), as those by name do.
      class_weight: class -> weight.
      on_epoch: called with the epoch, from 1, and its metrics; return True to stop.
      keep_best: the metric whose best epoch gives the final weights, such as "val_loss"; for one of
        your own that is to rise, ("val_score", "max").
      patience: epochs without a better one before the run stops.
      steps_per_epoch: batches an epoch, for batches without an end.
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
      TypeError: a model that is no `nnx.Module`; x or y that are no numbers; labels that are no
        integers, or outputs that are no logits, for the default loss or metrics; a loss or a metric
        that takes no (model, x, y) or is no number; an optimizer that is no optax transformation.
      ValueError: lengths that differ, fewer examples than a batch, epochs below 1, labels that are
        no classes of the model, a batch that does not divide among the devices, outputs (n, 1) and
        targets (n,) that the loss makes pairs of; data that one of several processes has for
        itself.
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

    Source: `Model.compile` and `Model.fit` of Keras, for what it takes and returns.
    """
    key = check_key(key)
    check_module(model)
    checks.check_count("epochs", epochs)
    if batch_size is not None:
        checks.check_count("batch_size", batch_size)
    adapted(optimizer)  # or raise
    loss = loss_of(loss)
    if metrics and validation_data is None and not validation_split:
        raise ValueError(
            "metrics are of validation data, and there are none: write validation_split=0.1, or "
            "validation_data={'train': (x, y)} for those of the training examples."
        )
    metrics = metrics_of(metrics, loss)
    best = best_of(keep_best, patience)
    validation = watched(validation_data)
    if y is None and are_batches(x):
        of_arrays = {
            "batch_size": batch_size,
            "validation_split": validation_split or None,
            "sample_weight": sample_weight,
            "class_weight": class_weight,
            "thin": thin,
        }
        train = _batches(x, steps_per_epoch, checkpoint_dir, of_arrays)
        example = train.first()
    elif y is None:
        raise TypeError(
            "y is None: write dj.fit(model, optimizer, x, y, ...), or batches of (x, y), one "
            "or more, in the place of x."
        )
    else:
        if steps_per_epoch is not None:
            raise ValueError(
                "steps_per_epoch is for batches, and x is arrays, of which an epoch takes all; "
                "leave it out, or write batch_size=."
            )
        weights = {"class_weight": class_weight, "sample_weight": sample_weight}
        train = training_data(x, y, integer_labels=takes_labels(loss), **weights)
        if validation_split:
            train, validation["val"] = held_out(train, validation_split, key)
        batch_size = batch_size or BATCH
        check_data({"train": train}, batch_size)
        checks.check_parts(batch_size, train)
        example = train
    examples = {"train": example[:2]} | {name: _example(data) for name, data in validation.items()}
    checks.check_targets(model, examples, loss=loss, metrics=metrics if validation else {})
    model.train()
    state = start(key, {}, model, optimizer)
    loop = _loop(Same((optimizer, loss, thin), model), batch_size or BATCH)
    measured = Same(tuple(metrics.items()), model)

    def validated(state: State) -> dict[str, Any]:
        return {
            f"{split}_{name}": value
            for split, data in validation.items()
            for name, value in measure(
                measured, state.structure, (state.params, state.rest), data
            ).items()
        }

    def update(state: State) -> None:
        nnx.update(model, state.params, _but_streams(state.rest))

    try:
        with devices_of(jax.tree.leaves(example)[0]):
            state, history = run(
                loop,
                state,
                {"train": train},
                epochs=epochs,
                evaluate=(),
                checkpoint_dir=checkpoint_dir,
                checkpoint_every=checkpoint_every,
                progress=progress,
                on_epoch=update,
                measure=validated,
                stop=on_epoch or (lambda epoch, metrics: False),
                best=best,
            )
        if best is not None:
            params, rest = state.best
            update(dataclasses.replace(state, params=params, rest=rest))
    except NonFiniteLossError as error:
        if bad := checks.told_not_finite(train):
            where, *_ = str(error).partition("; last good metrics")
            raise NonFiniteLossError(f"{bad} So {where}.") from None
        raise
    finally:
        model.eval()
    return history


@functools.lru_cache(maxsize=16)
def _loop(parts: Same, batch_size: int) -> Loop:
    """The loop of an optimizer, a loss and a thinning, kept for the next call with the like."""
    optimizer, loss, thin = parts.value
    return make_loop(None, lambda hyper: optimizer, batch_size=batch_size, loss=loss, thin=thin)


def _batches(x: Any, steps: int | None, checkpoint_dir: Any, of_arrays: dict[str, Any]) -> Batches:
    """The batches of `fit`, unless it is asked for what only arrays allow."""
    for name, value in of_arrays.items():
        if value is not None:
            raise ValueError(
                f"{name} is for x and y that are arrays, and x is an iterable of batches, which "
                "have a size of their own; they may bring weights, as (x, y, weights), and "
                "validation_data may be batches too."
            )
    if steps is not None:
        checks.check_count("steps_per_epoch", steps)
    batches = Batches(x, steps=steps)
    if batches.once and checkpoint_dir is not None:
        raise ValueError(
            "x is an iterator, which cannot be taken up where a checkpoint was saved; write a "
            "function of the epoch that returns one, such as lambda epoch: batches(seed=epoch)."
        )
    return batches


def _example(data: Any) -> tuple[Examples, Examples]:
    return (data.first() if isinstance(data, Batches) else data)[:2]


def _but_streams(rest: nnx.State) -> nnx.State:
    """What training leaves in the model: its own streams stay, of whatever keys they are."""
    return nnx.filter_state(rest, nnx.Not(nnx.RngState))
