"""One process of several that train together: its number, their count, a port and a folder.

Prints what `tests/train/test_processes.py` compares with one process. Its last run ends by the
death of the last process.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import dropout_jax as dj

CASES, EPOCHS, MANY = 64, 3, 500


def numbers():
    """The data set that the processes share: x (64, 8), y (64,)."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(CASES, 8)).astype(np.float32), np.arange(CASES) % 2


def spread(mesh, process=0, count=1):
    """The data set over all devices, of which each process brings its own rows."""
    share = slice(process * CASES // count, (process + 1) * CASES // count)
    rows = NamedSharding(mesh, P("data"))
    return [jax.make_array_from_process_local_data(rows, a[share]) for a in numbers()]


def model_on(mesh):
    """A network whose first kernel is divided, as in fully sharded training."""
    model = dj.layers.MLP((8, 16, 2), rates=0.5, rngs=nnx.Rngs(0))
    kernel = np.asarray(model.linears[0].kernel[...])
    divided = NamedSharding(mesh, P("data"))
    model.linears[0].kernel.set_value(
        jax.make_array_from_callback(kernel.shape, divided, lambda index: kernel[index])
    )
    return model


def mesh_of_all():
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def fit(model, x, y, epochs=EPOCHS, **options):
    return dj.fit(
        model, optax.adam(0.01), x, y, key=jax.random.key(0), epochs=epochs, batch_size=16,
        validation_data=(x, y), **options,
    )  # fmt: skip


def refusal(call):
    """The words of an error, or none."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return ""


def main(process, count, port, folder):
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    address = f"127.0.0.1:{port}"
    jax.distributed.initialize(address, count, process, heartbeat_timeout_seconds=20)
    mesh, folder = mesh_of_all(), Path(folder)
    x, y = spread(mesh, process, count)
    model = model_on(mesh)
    history = fit(model, x, y, checkpoint_dir=folder / "run")
    dj.save(folder / "model", model)
    restored = model_on(mesh)
    dj.load(folder / "model", restored)
    goes_on = fit(model_on(mesh), x, y, checkpoint_dir=folder / "begun", progress=False)
    prediction = dj.mc_predict(jax.random.key(1), model, x, samples=4).mean
    found = {
        "loss": history["loss"].tolist(),
        "val_loss": history["val_loss"].tolist(),
        "evaluate": dj.evaluate(model, x, y),
        "restored": dj.evaluate(restored, x, y),
        "begun": goes_on["loss"].tolist(),
        "prediction": float(jax.jit(lambda p: (p**2).sum())(prediction)),
        "fit of NumPy": refusal(lambda: fit(model, *numbers())),
        "evaluation of NumPy": refusal(lambda: dj.evaluate(model, *numbers())),
        "validation of NumPy": refusal(
            lambda: dj.fit(model, optax.sgd(0.1), x, y, key=jax.random.key(0), epochs=1,
                           validation_data=numbers())),
    }  # fmt: skip
    print(json.dumps(found), flush=True)
    killed = folder / "killed"
    if process == count - 1:
        threading.Thread(target=die_after_a_checkpoint, args=(killed,), daemon=True).start()
    fit(
        model_on(mesh), x, y, epochs=MANY, checkpoint_dir=killed, checkpoint_every=1, progress=False
    )


def die_after_a_checkpoint(folder):
    while not list(folder.glob("checkpoint-[3-9]*")):
        time.sleep(0.01)
    os._exit(9)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), sys.argv[4])
