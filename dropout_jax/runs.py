"""Runs from the host: progress, history, checkpoints, and `fit`."""

import dataclasses
import functools
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tqdm import tqdm

from dropout_jax import checkpoint as checkpoints
from dropout_jax._typing import Array, Key, check_key
from dropout_jax.keys import site_key
from dropout_jax.thin import Thin
from dropout_jax.train import (
    CLASSIFICATION,
    Data,
    Loop,
    Split,
    State,
    check_data,
    cross_entropy,
    make_loop,
    rekey,
)


class NonFiniteLossError(FloatingPointError):
    """The loss or the weights became NaN or infinite; the message names the step."""


@dataclasses.dataclass(frozen=True)
class History:
    """Metrics by evaluation: `history["val_error"]` is (evaluations,) or (evaluations, runs).

    Attributes:
      epochs: the epoch after which each row was taken, counted from 1.
      metrics: name -> values; "loss" is the mean training loss of the epoch, noise included.
      seconds: wall-clock of each row's training, without the evaluation.

    Example:
      >>> import dropout_jax as dj, numpy as np
      >>> history = dj.History(np.array([1, 2]), {"loss": np.array([0.7, 0.4])}, np.array([1.0, 1.0]))
      >>> float(history["loss"][-1])
      0.4
    """

    epochs: np.ndarray
    metrics: dict[str, np.ndarray]
    seconds: np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        return self.metrics[name]


def run(
    loop: Loop,
    state: State,
    data: Data,
    *,
    epochs: int,
    evaluate: tuple[str, ...] | None = None,
    evaluate_every: int = 1,
    checkpoint_dir: str | Path | None = None,
    progress: bool = True,
    label: str = "",
    on_epoch: Callable[[State], Any] = lambda state: None,
) -> tuple[State, History]:
    """Train for `epochs` epochs from `state`, which may hold many runs side by side.

    Args:
      loop: from `make_loop`.
      state: from `loop.init`, or `jax.vmap(loop.init, (0, 0, None))` for one run a key.
      data: named splits, "train" among them.
      epochs: passes over the training data, counted from the first start.
      evaluate: the splits to evaluate; all by default.
      evaluate_every: epochs between evaluations and checkpoints; the last epoch always has one.
      checkpoint_dir: where checkpoints go; a run found there goes on, bitwise as if never stopped.
      progress: show a bar with the loss, the errors and the time left.
      label: what the bar is called.
      on_epoch: called with the state after each good epoch, and with the restored one.

    Returns:
      The last state and a `History`.

    Raises:
      NonFiniteLossError: the loss or the weights of every run became NaN or infinite.
      CheckpointError: the checkpoint found is of another run, or the folder cannot be written.
      KeyboardInterrupt: passed on; the last evaluated epoch is saved.
    """
    many = (lambda f: jax.vmap(f, (0, None))) if state.key.ndim else (lambda f: f)
    train_epoch, evaluate_all = jax.jit(many(_watched_epoch(loop))), jax.jit(many(loop.evaluate))
    watched = {name: data[name] for name in (data if evaluate is None else evaluate)}
    saved = _Saver(checkpoint_dir, loop, state, data)
    state, rows = saved.resume(state)
    on_epoch(state)
    done = rows[-1]["epoch"] if rows else 0
    bar = tqdm(total=epochs, initial=done, desc=label, unit="epoch", disable=not progress)
    try:
        with bar, saved:
            seconds = 0.0
            for epoch in range(done + 1, epochs + 1):
                start = time.perf_counter()
                next_state, losses = jax.block_until_ready(train_epoch(state, data))
                seconds += time.perf_counter() - start
                _check_finite(np.asarray(losses), epoch, rows)
                state = next_state
                on_epoch(state)
                bar.update()
                if epoch % evaluate_every == 0 or epoch == epochs:
                    metrics = {"loss": jnp.mean(losses, axis=-1), **evaluate_all(state, watched)}
                    values = {name: np.asarray(v).tolist() for name, v in metrics.items()}
                    row = {"epoch": epoch, "seconds": seconds, "metrics": values}
                    saved.save(epoch, state, [*rows, row])
                    rows.append(row)
                    bar.set_postfix({k: f"{jnp.nanmean(v):.4f}" for k, v in metrics.items()})
                    seconds = 0.0
    except KeyboardInterrupt:
        where = "nothing saved: no checkpoint_dir was given"
        if saved.folder:
            where = f"saved in {checkpoint_dir}; the same call goes on from there"
        epoch = rows[-1]["epoch"] if rows else 0
        print(f"interrupted; {epoch} of {epochs} epochs complete, {where}.", file=sys.stderr)
        raise
    return state, _history(rows)


def _watched_epoch(loop: Loop) -> Callable[[State, Data], tuple[State, Array]]:
    """`loop.epoch`, whose last loss is NaN if it leaves weights that are not finite."""

    def epoch(state, data):
        state, losses = loop.epoch(state, data)
        finite = (jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(state.params))
        good = functools.reduce(jnp.logical_and, finite, True)
        return state, losses.at[-1].set(jnp.where(good, losses[-1], jnp.nan))

    return epoch


def _history(rows: list[dict[str, Any]]) -> History:
    names = rows[0]["metrics"] if rows else ()
    return History(
        np.array([row["epoch"] for row in rows]),
        {name: np.array([row["metrics"][name] for row in rows], np.float32) for name in names},
        np.array([row["seconds"] for row in rows]),
    )


def _check_finite(losses: np.ndarray, epoch: int, rows: list[dict[str, Any]]) -> None:
    bad = ~np.isfinite(losses)
    if bad.any(axis=-1).all():
        step = (epoch - 1) * losses.shape[-1] + int(np.argmax(bad, axis=-1).max()) + 1
        last = rows[-1]["metrics"] if rows else "none"
        raise NonFiniteLossError(
            f"the loss or the weights are not finite at step {step} (epoch {epoch}); "
            f"last good metrics: {last}. "
            "Lower the learning rate, or constrain the weights with dj.max_norm."
        )


class _Saver:
    """Checkpoints of one run, or nothing at all without a folder."""

    def __init__(self, folder, loop: Loop, state: State, data: Data):
        self.folder = folder
        if folder is None:
            return
        about = [jax.random.key_data(state.key), *jax.tree.leaves(state.hyper), *data["train"]]
        crcs = [zlib.crc32(np.ascontiguousarray(a).view(np.uint8)) for a in map(np.asarray, about)]
        self.identity = [loop.batch_size, *crcs]
        self.manager = checkpoints.open_folder(folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.folder is not None:
            self.manager.close()

    def resume(self, state: State) -> tuple[State, list[dict[str, Any]]]:
        found = self.folder is not None and checkpoints.restore(self.manager, state)
        if not found:
            return state, []
        state, about = found
        if about["identity"] != self.identity:
            raise checkpoints.CheckpointError(
                f"the checkpoint in {self.folder} is of a run with another key, hyperparameters, "
                "batch size or data; choose another folder, or delete this one."
            )
        return state, about["rows"]

    def save(self, epoch: int, state: State, rows: list[dict[str, Any]]) -> None:
        if self.folder is not None:
            checkpoints.save(self.manager, epoch, state, {"identity": self.identity, "rows": rows})


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
    metrics: Mapping[str, Callable[[nnx.Module, Array, Array], Array]] = CLASSIFICATION,
    thin: Thin | None = None,
    checkpoint_dir: str | Path | None = None,
    progress: bool = True,
) -> History:
    """Train an NNX model in place: what Keras users call compile and fit.

    Args:
      model: any `nnx.Module` with `model(x)`; it is updated, and left in evaluation mode.
      optimizer: an optax transformation, such as `optax.adam(1e-3)`.
      x: inputs (examples, ...).
      y: targets (examples, ...); integer labels (examples,) for the default loss.
      key: a typed key; with the model's parameters and the data it decides the whole run.
      epochs: passes over the data.
      batch_size: examples an update; those that do not fill a last batch wait for another epoch.
      validation_data: (x, y) to evaluate after each epoch, as "val_loss" and "val_error".
      loss: (model, x, y) -> a scalar to minimise; softmax cross-entropy by default.
      metrics: name -> (model, x, y) -> a mean over the examples.
      thin: `Thin()` trains sub-networks that are really smaller, in place of hidden dropout.
      checkpoint_dir: a folder for checkpoints; the same call goes on from the last one.
      progress: show a bar with the loss, the validation error and the time left.

    Returns:
      A `History`: "loss", and "val_" + each metric, by epoch.

    Raises:
      ValueError: lengths that differ, or fewer examples than a batch.
      NonFiniteLossError: the loss or the weights became NaN or infinite; the model keeps its last
        good epoch.
      CheckpointError: the checkpoint found is of another run, or the folder cannot be written.

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
    check_key(key)
    data = {"train": (jnp.asarray(x), jnp.asarray(y))}
    if validation_data is not None:
        data["val"] = (jnp.asarray(validation_data[0]), jnp.asarray(validation_data[1]))
    check_data(data, batch_size)
    model.train()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    state = State(
        key,
        jnp.zeros((), jnp.int32),
        {},
        params,
        rekey(rest, site_key(key, "noise")),
        optimizer.init(params),
    )
    loop = make_loop(
        lambda rngs, hyper: nnx.merge(graphdef, params, rest),
        lambda hyper: optimizer,
        batch_size=batch_size,
        loss=loss,
        metrics=metrics,
        thin=thin,
    )
    try:
        _, history = run(
            loop,
            state,
            data,
            epochs=epochs,
            evaluate=tuple(data)[1:],
            checkpoint_dir=checkpoint_dir,
            progress=progress,
            on_epoch=lambda state: nnx.update(model, state.params, state.rest),
        )
    finally:
        model.eval()
    return history
