"""Seeds side by side in one program; a single seed without `vmap`, which costs time over one."""

import dataclasses
from typing import Any

import jax

from dropout_jax.train import Data, Loop, State, runner
from dropout_jax.train.runner import History
from experiments.harness import arms


def train(loop: Loop, seeds: int, data: Data, **options: Any) -> tuple[State, History]:
    """`runs.run` of the seeds 0 to seeds - 1; states and metrics have an axis of seeds.

    Args:
      loop: from `make_loop`.
      seeds: how many, 1 or more.
      data: named splits, "train" among them.
      options: of `runs.run`.
    """
    arms.check_counts(seeds=seeds)
    if seeds > 1:
        state = jax.jit(jax.vmap(loop.init, (0, 0, None)))(arms.keys_of(seeds), {}, data)
        return runner.run(loop, state, data, **options)
    state = jax.jit(loop.init)(jax.random.key(0), {}, data)
    state, history = runner.run(loop, state, data, **options)
    metrics = {name: values[:, None] for name, values in history.metrics.items()}
    state = jax.tree.map(lambda leaf: leaf[None], state)
    return state, dataclasses.replace(history, metrics=metrics)
