"""Divide the runs of an experiment among several devices: each trains some of them."""

from typing import Any

import jax


def divide_runs(devices: int, runs: Any, shared: Any) -> tuple[Any, Any]:
    """Put a part of the runs on each device, and what they share on every one.

    Args:
      devices: how many; the program then sends nothing between them.
      runs: a pytree of arrays with a first axis of runs.
      shared: a pytree of arrays, such as the data.

    Raises:
      ValueError: more devices than there are, or runs that do not divide among them.
    """
    there = jax.device_count()
    if not 1 <= devices <= there:
        raise ValueError(f"--devices is {devices}, and JAX sees {there}; write 1 to {there}")
    count = len(jax.tree.leaves(runs)[0])
    if count % devices:
        raise ValueError(f"{count} runs do not divide among --devices {devices}; change --seeds")
    if devices == 1:
        return runs, shared
    kind = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((devices,), ("runs",), axis_types=kind, devices=jax.devices()[:devices])
    divided, whole = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in (("runs",), ()))
    return jax.device_put(runs, divided), jax.device_put(shared, whole)
