"""Train many seeds side by side: one `vmap` of the training loop, and the result to record.

Every experiment trains through `train_seeds`. It says how its network is built and which optimizer
it has; the data, the seeds, the evaluations and the checkpoints are the same for all.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dropout_jax import train
from dropout_jax.train import Loop, State, runner
from dropout_jax.train.runner import History
from dropout_jax.typing import Array
from experiments.harness import few_cases
from experiments.harness.devices import divide_runs
from experiments.harness.splits import Splits

QUICK_EPOCHS = 2
Optimizer = Callable[[int], optax.GradientTransformation]
"""The number of updates of the whole run -> an optax transformation."""


def check_counts(**counts: int) -> None:
    """Raise ValueError for a count below 1, by the name of its flag."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {count}; write 1 or more")


def seed_keys(seeds: int) -> Array:
    """The keys of the seeds 0 to seeds - 1."""
    return jax.vmap(jax.random.key)(jnp.arange(seeds))


def epochs_of(config: Any) -> int:
    """How many epochs a config asks for; two with --quick. Raises ValueError for less than 1."""
    check_counts(epochs=config.epochs)
    return QUICK_EPOCHS if config.quick else config.epochs


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The seeds after training. Arrays of `state` and metrics have an axis of runs."""

    loop: Loop
    state: State
    history: History
    splits: Splits

    def model(self, run: int | None = None) -> Any:
        """The trained network of one run; without a number, with an axis of runs on its arrays."""
        state = self.state
        return (state if run is None else jax.tree.map(lambda leaf: leaf[run], state)).model()

    def train_error(self) -> np.ndarray:
        """The training error of each run in percent, of the networks as they are at the end."""
        evaluate = jax.jit(jax.vmap(self.loop.evaluate, (0, None)))
        return percent(evaluate(self.state, {"train": self.splits["train"]})["train_error"])

    def result(self, runs: slice = slice(None), **extra: Any) -> dict[str, Any]:
        """What `record.write` takes: errors in percent, (runs, evaluations), and the last of each.

        Args:
          runs: which of them.
          extra: more to keep.
        """
        by_epoch = {
            name: percent(values.T[runs])
            for name, values in self.history.metrics.items()
            if name.endswith("_error")
        }
        about = {
            "updates": int(self.state.step[0]),
            "epoch_chosen": "last",
            "evaluated_at": self.history.epochs,
            "seconds": self.history.seconds,
        }
        final = {name: values[:, -1] for name, values in by_epoch.items()}
        return {"final": final, "by_epoch": by_epoch, "extra": about | extra}


def percent(shares: Array) -> np.ndarray:
    """Shares as percentages, rounded to what float32 holds: 1.45, not 1.4499999582."""
    return np.round(100 * np.asarray(shares, np.float64), 4)


def train_seeds(
    build: train.Build,
    optimizer: Optimizer,
    splits: Splits,
    *,
    seeds: int,
    epochs: int,
    batch_size: int,
    runs: Mapping[str, Array] | None = None,
    training_cases: int | None = None,
    evaluate: tuple[str, ...] | None = None,
    evaluations: int | None = None,
    unbatched: bool = False,
    in_turn: bool = False,
    devices: int = 1,
    checkpoint_dir: Path | None = None,
    label: str = "",
    **options: Any,
) -> Outcome:
    """Train the seeds 0 to seeds - 1 side by side in one compiled program.

    Args:
      build: (rngs, hyper) -> a network; hyper is what `runs` holds for the run.
      optimizer: the number of updates of the run -> an optax transformation.
      splits: named (x, y), "train" among them.
      seeds: how many, 1 or more.
      epochs: passes over the training cases.
      batch_size: cases an update.
      runs: hyperparameters with a first axis of (arms x seeds), the seeds of an arm next to each
        other; not given: one arm without any.
      training_cases: each run draws so many training cases for itself, by its seed.
      evaluate: which splits to evaluate along the way; not given: all.
      evaluations: about how often; not given: after every epoch.
      unbatched: train a single seed without `vmap`, which costs time over one. (Its sums may differ
        in the last bits, so that an experiment keeps to what its first records did.)
      in_turn: the seeds take turns, an epoch each, in place of advancing together.
      devices: the runs are divided among so many; the seeds then train on all of them at once.
      checkpoint_dir: where an interrupted run goes on from.
      label: the name of the progress bar.
      options: `loss`, `metrics` and `thin` of `make_loop`.
    """
    check_counts(seeds=seeds)
    cases = min(training_cases or len(splits["train"][0]), len(splits["train"][0]))
    per_epoch = cases // batch_size if batch_size > 0 else 0
    every = max(1, epochs // evaluations) if evaluations else 1
    loop = train.make_loop(
        build, lambda hyper: optimizer(per_epoch * epochs), batch_size=batch_size, **options
    )
    arms = len(next(iter(runs.values()))) // seeds if runs else 1
    keys, hyper = jnp.tile(seed_keys(seeds), arms), dict(runs or {})
    at_once = 1
    if training_cases:
        at_once = few_cases.epochs_per_call(epochs, every, per_epoch)
        draw = functools.partial(few_cases.draw_rows, splits["train"], cases)
        hyper["rows"] = jax.vmap(draw)(keys)
        loop = few_cases.on_drawn_rows(few_cases.with_epochs_per_call(loop, at_once))
    (keys, hyper), splits = divide_runs(devices, (keys, hyper), splits)
    alone = unbatched and len(keys) == 1
    if alone:
        keys, hyper = jax.tree.map(lambda leaf: leaf[0], (keys, hyper))
    init = jax.jit(loop.init if alone else jax.vmap(loop.init, (0, 0, None)))
    state, history = runner.run(
        loop,
        init(keys, hyper, splits),
        splits,
        epochs=epochs // at_once,
        evaluate=evaluate,
        evaluate_every=every // at_once,
        checkpoint_dir=checkpoint_dir,
        label=f"{label}, {at_once} epochs a call" if at_once > 1 else label,
        in_turn=in_turn,
        progress=sys.stderr.isatty(),  # in a file a bar would be one line of 70 000 characters
    )
    metrics = history.metrics
    if alone:
        metrics = {name: values[:, None] for name, values in metrics.items()}
        state = jax.tree.map(lambda leaf: leaf[None], state)
    history = dataclasses.replace(history, epochs=history.epochs * at_once, metrics=metrics)
    return Outcome(loop, state, history, splits)
