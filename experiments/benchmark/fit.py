"""Training whole models: `dj.fit` beside Keras on JAX, PyTorch, and a plain loop of jitted steps.

Seconds an epoch, to the end of the first epoch, which compiles, and of the call that follows. All
sides see the same data in batches of one size, and update by Adam. PyTorch runs eagerly on the CPU.
"""

import functools
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import dropout_jax as dj
from experiments.benchmark.fit_models import WORKLOADS, Workload
from experiments.benchmark.libraries import Library, version
from experiments.benchmark.suites import Plan, Row
from experiments.harness import timing
from experiments.harness.cli import text_table
from experiments.records.libraries import KERAS, OURS, PLAIN_LOOP, TORCH

LEARNING_RATE = 1e-3
COLUMNS = ("model", "library", "epoch_s", "epoch_iqr_s", "first_call_s", "second_call_s")
PACKAGES = {OURS: "dropout_jax", PLAIN_LOOP: "flax", KERAS: "keras", TORCH: "torch"}


def fit(libraries: dict[str, Library], plan: Plan) -> Iterator[Row]:
    """Each model: one call for an epoch, one more, then epochs of all libraries in turn."""
    for name, workload in WORKLOADS.items():
        examples = plan.examples * (4 if name == "MLP" else 1)
        data = workload.data(examples)
        sides = {PLAIN_LOOP: plain_loop, OURS: ours}
        sides |= {KERAS: keras} if KERAS in libraries else {}
        sides |= {} if missing() else {TORCH: pytorch}
        programs, first, second = {}, {}, {}
        for library, make in sides.items():
            start = time.perf_counter()
            programs[library], again = make(workload, *data)
            programs[library](1)
            first[library] = time.perf_counter() - start
            start = time.perf_counter()
            again(1)
            second[library] = time.perf_counter() - start
        samples = timing.measure(
            {library: timing.Program(program) for library, program in programs.items()},
            rounds=plan.epoch_rounds,
            seconds=10 * plan.seconds,
            references=tuple(programs),
        )
        for library, taken in samples.items():
            epoch, iqr = timing.median_and_iqr(taken)
            yield {
                "suite": "fit",
                "model": name,
                "examples": examples,
                "batch": workload.batch,
                "mode": "chained",
                "library": library,
                "version": version(PACKAGES[library]),
                "epoch_s": epoch,
                "epoch_iqr_s": iqr,
                "first_call_s": first[library],
                "second_call_s": second[library],
                "ratio_to_plain_loop": timing.median_and_iqr(taken / samples[PLAIN_LOOP])[0],
                "repeats": len(taken),
            }


def missing() -> dict[str, str]:
    """Why PyTorch is left out, if it is."""
    try:
        importlib.import_module("torch")
    except ImportError as error:
        return {TORCH: f"{error}; pip install -e '.[torch]'"}
    return {}


def table(rows: Sequence[Row]) -> str:
    """One aligned line a row."""
    cells = [[f"{row[c]:.3f}" if isinstance(row[c], float) else str(row[c]) for c in COLUMNS]
             for row in rows]  # fmt: skip
    return text_table(COLUMNS, cells)


def ours(workload: Workload, x: np.ndarray, y: np.ndarray) -> tuple[Callable, Callable]:
    """`fit`, and `fit` of a new model of the same structure."""
    models = [workload.model(nnx.Rngs(seed)) for seed in range(2)]

    def train(model, epochs):
        key = jax.random.key(0)
        options = {"epochs": epochs, "batch_size": workload.batch, "progress": False}
        dj.fit(model, optax.adam(LEARNING_RATE), x, y, key=key, **options)

    return tuple(functools.partial(train, model) for model in models)


def plain_loop(workload: Workload, x: np.ndarray, y: np.ndarray) -> tuple[Callable, Callable]:
    """What Flax's guides show: a step under `nnx.jit`, called from a Python loop."""
    model = workload.model(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(LEARNING_RATE), wrt=nnx.Param)
    model.train()
    x, y, rng = jnp.asarray(x), jnp.asarray(y), np.random.default_rng(0)

    @nnx.jit
    def step(model, optimizer, x, y):
        loss, grads = nnx.value_and_grad(dj.losses.cross_entropy)(model, x, y)
        optimizer.update(model, grads)
        return loss

    def train(epochs):
        for _ in range(epochs):
            order = rng.permutation(len(x))
            for i in range(0, len(x) - workload.batch + 1, workload.batch):
                rows = order[i : i + workload.batch]
                loss = step(model, optimizer, x[rows], y[rows])
        jax.block_until_ready((loss, nnx.state(model, nnx.Param)))

    return train, train


def keras(workload: Workload, x: np.ndarray, y: np.ndarray) -> tuple[Callable, Callable]:
    """compile and fit, and fit again: a new model compiles anew."""
    import keras as k

    model = keras_model(k, workload, x.dtype.name)
    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(k.optimizers.Adam(LEARNING_RATE), loss)

    def train(epochs):
        model.fit(x, y, epochs=epochs, batch_size=workload.batch, verbose=0)

    return train, train


def pytorch(workload: Workload, x: np.ndarray, y: np.ndarray) -> tuple[Callable, Callable]:
    """What PyTorch's guides show: eager steps from a Python loop, in the order of `plain_loop`."""
    import torch

    from experiments.benchmark import fit_torch

    torch.manual_seed(0)
    model = getattr(fit_torch, workload.torch)().train()
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    inputs, labels, rng = fit_torch.inputs(x), torch.from_numpy(y).long(), np.random.default_rng(0)

    def train(epochs):
        for _ in range(epochs):
            order = torch.from_numpy(rng.permutation(len(y)))
            for i in range(0, len(y) - workload.batch + 1, workload.batch):
                rows = order[i : i + workload.batch]
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(inputs[rows]), labels[rows])
                loss.backward()
                optimizer.step()

    return train, train


def keras_model(k: Any, workload: Workload, dtype: str) -> Any:
    """The workload's model in Keras."""
    inputs = k.Input(workload.shape, dtype=dtype)
    layers = workload.keras(k)
    if callable(layers):
        return k.Model(inputs, layers(inputs))
    return k.Model(inputs, functools.reduce(lambda h, layer: layer(h), layers, inputs))
