"""Runs from the host: progress, history and checkpoints."""

import functools
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from dropout_jax.train.batches import AHEAD, Batches
from dropout_jax.train.history import History, history_of
from dropout_jax.train.loop import Data, Loop
from dropout_jax.train.processes import losses_explained
from dropout_jax.train.saver import Every, Saver
from dropout_jax.train.state import State
from dropout_jax.train.stopping import Best, kept
from dropout_jax.typing import Array


class NonFiniteLossError(FloatingPointError):
    """The loss or the weights became NaN or infinite; the message names the step."""

    __module__ = "dropout_jax"


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
    measure: Callable[[State], Mapping[str, Any]] = lambda state: {},
    stop: Callable[[int, dict[str, Any]], Any] = lambda epoch, metrics: False,
    best: Best | None = None,
) -> tuple[State, History]:
    """Train for `epochs` epochs from `state`, which may hold many runs side by side.

    Args:
      loop: from `make_loop`.
      state: from `loop.init`, or `jax.vmap(loop.init, (0, 0, None))` for one run a key.
      data: named splits, "train" among them, which may be `Batches`.
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
      measure: state -> more metrics, numbers or arrays, computed by the host at each evaluation.
      stop: called with the epoch and its metrics after each evaluation; True stops the run.
      best: of one run, which epoch's weights to keep as `state.best`, and when to stop.

    Returns:
      The last state and a `History`.

    Raises:
      NonFiniteLossError: the loss or the weights of every run became NaN or infinite.
      RuntimeError: another process of `jax.distributed` has ended.
      CheckpointError: the checkpoint found is of another run or of more epochs; another process
        trains in that folder; it cannot be written, or the disk is full.
      KeyboardInterrupt: passed on; the last complete epoch is saved.
    """
    turns = "in turn" if in_turn else "together"
    train_epoch, evaluate_all, many = _programs(loop, turns if state.key.ndim else "alone")
    watched = {name: data[name] for name in (data if evaluate is None else evaluate)}
    state = jax.tree.map(_not_weak, state)  # as it is after a step
    shown = progress and jax.process_index() == 0
    state = state if best is None else kept(state)
    if isinstance(data["train"], Batches):
        train_epoch, fingerprint = _streamed(loop, data["train"])
    else:
        data = {"train": data["train"]}
        train_epoch = functools.partial(_of_data, train_epoch, data)
        fingerprint = many(loop.epoch), data
    saver = Saver(checkpoint_dir, checkpoint_every, fingerprint[0], state, fingerprint[1])
    try:
        with saver, losses_explained(saver.where):
            state, rows, done, seconds = saver.resume(state, epochs)
            on_epoch(state)
            bar = tqdm(total=epochs, initial=done, desc=label, unit="epoch", disable=not shown)
            with bar:
                for epoch in range(done + 1, epochs + 1):
                    if best and best.is_over(rows):
                        break
                    start = time.perf_counter()
                    next_state, losses = jax.block_until_ready(train_epoch(state, epoch))
                    seconds += time.perf_counter() - start
                    _check_finite(np.asarray(losses), epoch, rows)
                    bar.update()
                    metrics = None
                    if epoch % evaluate_every == 0 or epoch == epochs:
                        found = evaluate_all(next_state, watched) if watched else {}
                        found = {"loss": jnp.mean(losses, axis=-1), **found, **measure(next_state)}
                        metrics = {name: np.asarray(v).tolist() for name, v in found.items()}
                        rows = [*rows, {"epoch": epoch, "seconds": seconds, "metrics": metrics}]
                        bar.set_postfix(_shown(metrics))
                        seconds = 0.0
                        if best and best.is_new(rows):
                            next_state = kept(next_state)
                    state = next_state
                    saver.complete(epoch, state, rows, seconds)
                    on_epoch(state)
                    saver.save_if_due()
                    if metrics is not None and stop(epoch, metrics) is True:
                        break
    except KeyboardInterrupt:
        print(f"interrupted; {saver.where()}.", file=sys.stderr)
        raise
    return state, history_of(rows)


def _not_weak(leaf: Array) -> Array:
    return jnp.asarray(leaf, leaf.dtype) if getattr(leaf, "weak_type", False) else leaf


@functools.lru_cache(maxsize=16)
def _programs(loop: Loop, how: str) -> tuple[Callable, Callable, Callable]:
    """The compiled epoch and evaluation of one run or of many, kept for the next call."""
    ways = {"alone": lambda f: f, "together": lambda f: jax.vmap(f, (0, None))}
    many = (ways | {"in turn": _one_by_one})[how]
    return jax.jit(many(_watched_epoch(loop))), jax.jit(many(loop.evaluate)), many


def _one_by_one(f: Callable) -> Callable:
    return lambda state, data: jax.lax.map(lambda one: f(one, data), state)


def _of_data(program: Callable, data: Data, state: State, epoch: int) -> tuple[State, Array]:
    return program(state, data)


def _streamed(loop: Loop, batches: Batches) -> tuple[Callable, tuple[Callable, Data]]:
    """An epoch over batches from the host, and what to tell the run by: its step."""
    step, finite = _step_of(loop)

    def train_epoch(state, epoch):
        losses = []
        for batch in batches.epoch(epoch - 1):
            if len(losses) > AHEAD:
                losses[-AHEAD].block_until_ready()  # no more batches on the device than these
            state, loss = step(state, *batch)
            losses.append(loss)
        if not losses:
            raise ValueError(
                f"{batches.name} has no batch in epoch {epoch}; write a function of the epoch that "
                "returns a new iterable, or fewer epochs."
            )
        losses = jnp.stack(losses)
        return state, losses.at[-1].set(jnp.where(finite(state), losses[-1], jnp.nan))

    batch = jax.tree.map(jnp.zeros_like, batches.first())
    return train_epoch, (lambda state, data: loop.step(state, *data["train"]), {"train": batch})


@functools.lru_cache(maxsize=16)
def _step_of(loop: Loop) -> tuple[Callable, Callable]:
    return jax.jit(loop.step), jax.jit(_is_finite)


def _is_finite(state: State) -> Array:
    finite = (jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(state.params))
    return functools.reduce(jnp.logical_and, finite, jnp.bool_(True))


def _shown(metrics: dict[str, Any]) -> dict[str, str]:
    """Numbers, or means over runs that have one, for the bar."""
    shown = {}
    for name, value in metrics.items():
        numbers = np.ravel(value)[~np.isnan(np.ravel(value))]
        if np.ndim(value) < 2:
            shown[name] = f"{numbers.mean():.4f}" if len(numbers) else "nan"
    return shown


def _watched_epoch(loop: Loop) -> Callable[[State, Data], tuple[State, Array]]:
    """`loop.epoch`, whose last loss is NaN if it leaves weights that are not finite."""

    def epoch(state, data):
        state, losses = loop.epoch(state, data)
        return state, losses.at[-1].set(jnp.where(_is_finite(state), losses[-1], jnp.nan))

    return epoch


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
