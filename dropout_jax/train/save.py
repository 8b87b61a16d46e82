"""Save and load an NNX model: what Keras users call save and load_model."""

from pathlib import Path
from typing import Any

from flax import nnx

from dropout_jax._advice import advised
from dropout_jax._nnx import check_module
from dropout_jax.train import checkpoint

# The switches between training and evaluation, which Flax and users keep beside the arrays.
MODES = ("deterministic", "use_running_average", "training", "is_training")
WAIT = 10.0  # seconds for another process to end its save


@advised("dj.save(folder, model)")
def save(folder: str | Path, model: nnx.Module) -> None:
    """Write all that a model holds, weights, random streams and mode, into a folder.

    `load` reads it. The last two saves are kept, each in one file `checkpoint-N.npz`, which
    `numpy.load` opens as well. Several processes may save to one folder: they take turns, and what
    is saved last is loaded.

    Args:
      folder: made if need be; what was saved there before is kept until this is complete. Not the
        `checkpoint_dir` of a `fit`. Several processes of one program need one that all can read.
      model: any `nnx.Module`; its arrays may be spread over devices and processes.

    Raises:
      TypeError: a model that is no `nnx.Module`.
      CheckpointError: the folder cannot be written, or the disk is full; it holds the checkpoints
        of a run; another process or run keeps it for ten seconds.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp, tempfile
      >>> from flax import nnx
      >>> model = dj.layers.MLP((4, 8, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> model.eval()
      >>> restored = dj.layers.MLP((4, 8, 2), rates=0.5, rngs=nnx.Rngs(1))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     dj.save(folder, model)
      ...     dj.load(folder, restored)  # in evaluation mode too, without dropout
      >>> x = jnp.ones((1, 4))
      >>> bool((model(x) == restored(x)).all())
      True

    Source: none; the format is ours, arrays of `numpy.savez` with checksums.
    """
    _check_order(folder)
    state = nnx.state(check_module(model))
    with checkpoint.open_folder(folder, wait=WAIT) as opened:
        step = checkpoint.next_step(opened, "model")
        checkpoint.save(opened, step, state, {"modes": _modes(model)}, "model")


@advised("dj.load(folder, model), which fills a model that is made as the saved one was")
def load(folder: str | Path, model: nnx.Module) -> None:
    """Give a model what `save` wrote, in place: weights, random streams and mode.

    Args:
      folder: what was given to `save`.
      model: made as the one that was saved. One of `nnx.eval_shape`, which has no weights yet, is
        filled too. An array that is spread over devices stays so, on however many it was saved.

    Raises:
      TypeError: a model that is no `nnx.Module`.
      CheckpointError: nothing is saved there, or another model; or no save there can be read. Where
        the last one is damaged, the one before is loaded and a warning says so.

    Example:
      >>> import dropout_jax as dj, tempfile
      >>> from flax import nnx
      >>> def make():
      ...     return dj.layers.MLP((4, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     dj.save(folder, make())
      ...     model = nnx.eval_shape(make)
      ...     dj.load(folder, model)
      >>> model.linears[0].kernel.shape
      (4, 2)

    Source: none; the format is that of `save`.
    """
    _check_order(folder)
    state = nnx.state(check_module(model))
    with checkpoint.open_folder(folder, read_only=True) as opened:
        found = checkpoint.restore(opened, state, "model")
    if found is None:
        raise checkpoint.CheckpointError(f"no model is saved in {folder}.")
    state, about = found
    nnx.update(model, state)
    _set_modes(model, about["modes"])


def _check_order(folder: Any) -> None:
    if isinstance(folder, nnx.Module):
        raise TypeError("the folder is a model; write the folder first: dj.save(folder, model).")


def _modes(model: nnx.Module) -> dict[str, dict[str, bool | None]]:
    """The switches of each module of a model, by its place."""
    return {place: switches for place, module in _modules(model) if (switches := _switches(module))}


def _switches(module: nnx.Module) -> dict[str, bool | None]:
    switches = {name: vars(module)[name] for name in MODES if name in vars(module)}
    return {name: value for name, value in switches.items() if value in (True, False, None)}


def _set_modes(model: nnx.Module, modes: dict[str, dict[str, bool | None]]) -> None:
    for place, module in _modules(model):
        for name, value in modes.get(place, {}).items():
            if name in _switches(module):
                setattr(module, name, value)


def _modules(model: nnx.Module) -> list[tuple[str, Any]]:
    return [("/".join(map(str, place)), module) for place, module in nnx.iter_modules(model)]
