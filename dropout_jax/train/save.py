"""What Keras users call save and load, for any NNX model."""

from pathlib import Path

import jax
import numpy as np
from flax import nnx

from dropout_jax._nnx import check_module
from dropout_jax.train import checkpoint


def save(folder: str | Path, model: nnx.Module) -> None:
    """Write all that a model holds, weights and random streams, into a folder; `load` reads it.

    Args:
      folder: made if need be; what was saved there before is kept until this is complete. Not the
        `checkpoint_dir` of a `fit`.
      model: any `nnx.Module`.

    Raises:
      TypeError: a model that is no `nnx.Module`.
      CheckpointError: the folder cannot be written, or holds the checkpoints of a run or folders
        that are named as they are; a model without arrays, or with empty ones.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp, tempfile
      >>> from flax import nnx
      >>> model, other = (dj.layers.MLP((4, 2), rates=0.5, rngs=nnx.Rngs(i)) for i in (0, 1))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     dj.save(folder, model)
      ...     dj.load(folder, other)
      >>> bool((model(jnp.ones((1, 4))) == other(jnp.ones((1, 4)))).all())
      True
    """
    state = nnx.state(check_module(model))
    sizes = [np.size(leaf) for leaf in jax.tree.leaves(state)]
    if not sizes or 0 in sizes:
        raise checkpoint.CheckpointError(
            f"{type(model).__name__} holds no arrays, or empty ones, which cannot be written."
        )
    with checkpoint.open_folder(folder) as manager:
        if "model" not in (checkpoint.latest_about(manager) or {"model": None}):
            raise checkpoint.CheckpointError(
                f"{folder} holds the checkpoints of a run, which saving would delete; give a "
                "folder of its own."
            )
        last = manager.latest_step()
        step = 0 if last is None else last + 1
        checkpoint.save(manager, step, state, {"model": _places(state)})


def load(folder: str | Path, model: nnx.Module) -> None:
    """Give a model what `save` wrote, in place.

    Args:
      folder: what was given to `save`.
      model: made as the one that was saved.

    Raises:
      TypeError: a model that is no `nnx.Module`.
      CheckpointError: nothing is saved there, or another model.

    Example:
      >>> import dropout_jax as dj, tempfile
      >>> from flax import nnx
      >>> model = dj.layers.MLP((4, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     dj.save(folder, model)
      ...     dj.load(folder, model)
    """
    state = nnx.state(check_module(model))
    if not Path(folder).expanduser().is_dir():
        raise checkpoint.CheckpointError(f"there is no folder {folder}; give one that save wrote.")
    with checkpoint.open_folder(folder, read_only=True) as manager:
        found = checkpoint.restore(manager, state)
    if found is None:
        raise checkpoint.CheckpointError(f"no model is saved in {folder}.")
    state, about = found
    if about.get("model") != _places(state):
        raise checkpoint.CheckpointError(
            f"what is saved in {folder} is another model, or a run of fit: call fit again for that."
        )
    nnx.update(model, state)


def _places(state: nnx.State) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
