"""Save and resume a run with orbax: complete checkpoints only, bitwise the same afterwards."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from dropout_jax.typing import Array

KEPT = 2


class CheckpointError(ValueError):
    """A checkpoint that does not belong to the run that asks for it."""


def open_folder(folder: str | Path, *, read_only: bool = False) -> ocp.CheckpointManager:
    """A manager of the checkpoints in `folder`, made if need be; close it, or use it in `with`.

    A checkpoint is written beside the others and renamed when it is complete, so that a process
    killed at any moment leaves the last complete one.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)
    if "://" in str(folder):
        raise CheckpointError(
            f"{folder} is no folder of this machine; give one, and copy it there."
        )
    path = Path(folder).expanduser().resolve()
    if read_only:
        return ocp.CheckpointManager(path, options=ocp.CheckpointManagerOptions(read_only=True))
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise CheckpointError(f"cannot write checkpoints to {folder}: {error.strerror}.") from None
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEPT, enable_async_checkpointing=False, cleanup_tmp_directories=True
    )
    return ocp.CheckpointManager(path, options=options)


def save(manager: ocp.CheckpointManager, step: int, state: Any, about: dict[str, Any]) -> None:
    """Write `state` (a pytree of arrays and typed keys) and `about` (JSON) as checkpoint `step`."""
    leaves = _raw_leaves(state)
    about = {"leaves": _signature(leaves), "about": about}
    arguments = {"state": ocp.args.StandardSave(leaves), "about": ocp.args.JsonSave(about)}
    manager.save(step, args=ocp.args.Composite(**arguments), force=True)


def restore(manager: ocp.CheckpointManager, like: Any) -> tuple[Any, dict[str, Any]] | None:
    """The latest complete checkpoint as a pytree like `like`, with its `about`; None without one.

    Raises:
      CheckpointError: it holds other arrays than `like` has.
    """
    step = manager.latest_step()
    if step is None:
        return None
    leaves = _raw_leaves(like)
    about = _written_with(manager, step)
    if about["leaves"] != _signature(leaves):
        raise CheckpointError(
            f"the checkpoint in {manager.directory} is of another model or optimizer; "
            "choose another folder, or delete this one."
        )
    arguments = {"state": ocp.args.StandardRestore(leaves)}
    saved = manager.restore(step, args=ocp.args.Composite(**arguments))["state"]
    restored = [
        jax.random.wrap_key_data(jnp.asarray(value), impl=jax.random.key_impl(leaf))
        if _is_key(leaf)
        else jnp.asarray(value)
        for leaf, (_, value) in zip(_leaves(like), sorted(saved.items()), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(like), restored), about["about"]


def latest_about(manager: ocp.CheckpointManager) -> dict[str, Any] | None:
    """What `save` was given beside the state of the latest checkpoint; None without one."""
    step = manager.latest_step()
    return None if step is None else _written_with(manager, step)["about"]


def _written_with(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    try:
        return manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
    except KeyError:
        raise CheckpointError(
            f"{manager.directory}/{step} is no checkpoint of dropout_jax; choose another folder."
        ) from None


def _signature(leaves: dict[str, np.ndarray]) -> list[list[Any]]:
    return [[list(leaf.shape), str(leaf.dtype)] for leaf in leaves.values()]


def _leaves(state: Any) -> list[Array]:
    return [jnp.asarray(leaf) for leaf in jax.tree.leaves(state)]  # numbers become arrays


def _is_key(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _raw_leaves(state: Any) -> dict[str, np.ndarray]:
    leaves = (jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in _leaves(state))
    return {f"{i:05d}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
