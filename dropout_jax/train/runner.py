"""Runs from the host: progress, history and checkpoints."""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from dropout_jax.train.loop import Data, Loop, State
from dropout_jax.train.processes import losses_explained
from dropout_jax.train.saver import Every, Saver
from dropout_jax.typing import Array


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
      >>> metrics = {"loss": np.array([0.7, 0.4])}
      >>> history = dj.History(np.array([1, 2]), metrics, np.array([1.0, 1.0]))
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
    checkpoint_every: Every = None,
    progress: bool = True,
    label: str = "",
    in_turn: bool = False,
    on_epoch: Callable[[State], Any] = lambda state: None,
) -> tuple[State, History]:
    """Train for `epochs` epochs from `state`, which may hold many runs side by side.

    Args:
      loop: from `make_loop`.
      state: from `loop.init`, or `jax.vmap(loop.init, (0, 0, None))` for one run a key.
      data: named splits, "train" among them.
      epochs: passes over the training data, counted from the first start.
      evaluate: the splits to evaluate; all by default.
      evaluate_every: epochs between evaluations; the last epoch always has one.
      checkpoint_dir: where checkpoints go; a run found there goes on, bitwise as if never stopped,
        and a line says from where. A second run in the same folder is refused.
      checkpoint_every: epochs between checkpoints, or a `datetime.timedelta`; by default after an
        evaluation, but so rarely that saving takes at most about a tenth of the time. The last
        complete epoch is saved in any case, also after Ctrl-C and other errors.
      progress: show a bar with the loss, the errors and the time left; of several processes the
        first does.
      label: what the bar is called.
      in_turn: many runs take turns in their program, one whole epoch after another, in place of
        advancing together: faster on a CPU whose caches one network fills.
      on_epoch: called with the state after each complete epoch, evaluation included, and with the
        one the run starts from.

    Returns:
      The last state and a `History`.

    Raises:
      NonFiniteLossError: the loss or the weights of every run became NaN or infinite.
      RuntimeError: another process of `jax.distributed` has ended.
      CheckpointError: the checkpoint found is of another run or of more epochs; another process
        trains in that folder; it cannot be written, or the disk is full.
      KeyboardInterrupt: passed on; the last complete epoch is saved.
    """
    many = _one_by_one if in_turn else lambda f: jax.vmap(f, (0, None))
    many = many if state.key.ndim else (lambda f: f)
    train_epoch, evaluate_all = jax.jit(many(_watched_epoch(loop))), jax.jit(many(loop.evaluate))
    watched = {name: data[name] for name in (data if evaluate is None else evaluate)}
    data = {"train": data["train"]}
    state = jax.tree.map(_not_weak, state)  # as it is after a step
    shown = progress and jax.process_index() == 0
    saver = Saver(checkpoint_dir, checkpoint_every, many(loop.epoch), state, data)
    try:
        with saver, losses_explained(saver.where):
            state, rows, done, seconds = saver.resume(state, epochs)
            on_epoch(state)
            bar = tqdm(total=epochs, initial=done, desc=label, unit="epoch", disable=not shown)
            with bar:
                for epoch in range(done + 1, epochs + 1):
                    start = time.perf_counter()
                    next_state, losses = jax.block_until_ready(train_epoch(state, data))
                    seconds += time.perf_counter() - start
                    _check_finite(np.asarray(losses), epoch, rows)
                    bar.update()
                    if epoch % evaluate_every == 0 or epoch == epochs:
                        found = evaluate_all(next_state, watched)
                        metrics = {"loss": jnp.mean(losses, axis=-1), **found}
                        values = {name: np.asarray(v).tolist() for name, v in metrics.items()}
                        rows = [*rows, {"epoch": epoch, "seconds": seconds, "metrics": values}]
                        bar.set_postfix({k: f"{jnp.nanmean(v):.4f}" for k, v in metrics.items()})
                        seconds = 0.0
                    state = next_state
                    saver.complete(epoch, state, rows, seconds)
                    on_epoch(state)
                    saver.save_if_due()
    except KeyboardInterrupt:
        print(f"interrupted; {saver.where()}.", file=sys.stderr)
        raise
    return state, _history(rows)


def _not_weak(leaf: Array) -> Array:
    return jnp.asarray(leaf, leaf.dtype) if getattr(leaf, "weak_type", False) else leaf


def _one_by_one(f: Callable) -> Callable:
    return lambda state, data: jax.lax.map(lambda one: f(one, data), state)


def _watched_epoch(loop: Loop) -> Callable[[State, Data], tuple[State, Array]]:
    """`loop.epoch`, whose last loss is NaN if it leaves weights that are not finite."""

    def epoch(state, data):
        state, losses = loop.epoch(state, data)
        finite = (jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(state.params))
        good = functools.reduce(jnp.logical_and, finite, True)
        return state, losses.at[-1].set(jnp.where(good, losses[-1], jnp.nan))

    return epoch


def _history(rows: list[dict[str, Any]]) -> History:
    """NaN where a run that went on was asked for other metrics than before."""
    names = dict.fromkeys(name for row in rows for name in row["metrics"])

    def values(name):
        return [row["metrics"].get(name, np.full_like(row["metrics"]["loss"], np.nan))
                for row in rows]  # fmt: skip

    return History(
        np.array([row["epoch"] for row in rows]),
        {name: np.array(values(name), np.float32) for name in names},
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
            "Lower the learning rate, or constrain the weights with dj.max_norm; at the first "
            "step, look for labels that are no classes of the model, and x that is not finite."
        )
