"""Benchmark suites of dropout: forward, forward and backward, and a step of the paper's MLP."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark.backward import forward_and_backward, residual_bits
from experiments.benchmark.libraries import Library, floor
from experiments.harness import timing
from experiments.records.libraries import (
    COPY,
    FLAX_NNX,
    FLOOR,
    NO_DROPOUT,
    OURS,
    OURS_KERNEL,
    OURS_KEY,
)

INPUT_RATE, HIDDEN_RATE = 0.2, 0.5
Libraries = Mapping[str, Library]
Row = dict[str, Any]


class Plan(NamedTuple):
    """How much is measured; the rates are those of masks, of grad, and of single calls."""

    sizes: tuple[tuple[int, int], ...] = ((128, 1024), (1024, 1024), (4096, 4096))
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    mask_rates: tuple[float, ...] = (0.1, 0.2, 0.25, 0.5, 0.9)
    grad_rates: tuple[float, ...] = (0.2, 0.5)
    single_call_rates: tuple[float, ...] = (0.2, 0.5)
    batch: int = 128
    layers: tuple[int, ...] = (784, 1024, 1024, 1024, 10)
    rounds: int = 20
    seconds: float = 0.025
    nets: tuple[tuple[int, ...], ...] = ((1024,) * 3, (512,) * 3, (2048,) * 3, (4096,) * 2)
    batches: tuple[int, ...] = (100, 32, 512)
    lives: tuple[int, ...] = (1, 3, 10, 30, 100)
    blocks: tuple[int, ...] = (1, 64)
    epoch_rounds: int = 5
    gpts: tuple[tuple[tuple[int, int, int, int], int], ...] = (  # layers, heads, width, context
        ((2, 10, 320, 128), 8), ((4, 4, 128, 64), 12),
    )  # fmt: skip
    examples: int = 1024
    matrix: tuple[int, ...] = (1024, 1024)
    image: tuple[int, ...] = (16, 32, 32, 64)
    attention: tuple[int, ...] = (8, 8, 128, 128)
    block: tuple[int, int, int] = (16, 128, 256)  # batch, sequence, width
    lengths: tuple[int, ...] = (512, 1024, 2048, 4096)  # of attention
    long_lengths: tuple[int, ...] = (8192, 16384)  # their memory alone
    gpt: tuple[int, ...] = (4, 4, 128, 64, 12)  # layers, heads, width, context, batch
    mode: Literal["chained", "dispatched"] = "chained"


QUICK = Plan(
    sizes=((16, 1024),),
    dtypes=("bfloat16",),
    mask_rates=(0.2,),
    grad_rates=(0.5,),
    single_call_rates=(0.2,),
    batch=8,
    layers=(16, 32, 32, 10),
    rounds=3,
    seconds=0.001,
    nets=((64, 64),),
    batches=(8,),
    lives=(1, 20),
    blocks=(1,),
    epoch_rounds=2,
    gpts=(((1, 2, 32, 16), 2),),
    examples=64,
    matrix=(16, 64),
    image=(2, 8, 8, 4),
    attention=(2, 2, 8, 8),
    block=(2, 8, 16),
    lengths=(160,),
    long_lengths=(320,),
    gpt=(1, 2, 8, 8, 2),
)


def masks(libraries: Libraries, plan: Plan) -> Iterator[Row]:
    """Forward only: y = dropout(x)."""
    libraries = {FLOOR: Library(floor), **libraries}
    libraries.pop(OURS_KEY, None)  # the same forward pass as OURS
    for case, x in _cases("masks", plan, plan.mask_rates):
        steps = _steps(libraries, case["rate"])
        if OURS_KERNEL in steps:
            check_same(steps[OURS], steps[OURS_KERNEL], x)
        copy = {COPY: lambda key, x: jnp.copy(x)} if plan.mode == "dispatched" else {}
        programs = _programs(steps | copy, x, plan)
        yield from timed_rows(case | {"mode": plan.mode}, programs, libraries, plan)
        if case["rate"] in plan.single_call_rates:
            programs = {name: timing.single_call(step, x) for name, step in steps.items()}
            yield from timed_rows(case | {"mode": "single_call"}, programs, libraries, plan)


def check_same(step: Callable, other: Callable, x: jax.Array) -> None:
    """Raise ArithmeticError unless both make the same of a key and x, bit for bit."""
    y, z = (jax.jit(f)(timing.key_of(1), x) for f in (step, other))
    if not jnp.array_equal(y, z):
        raise ArithmeticError(f"{jnp.sum(y != z)} of {x.size} numbers differ: see kernel.py")


def grad(libraries: Libraries, plan: Plan) -> Iterator[Row]:
    """Forward, then backward with the output as the cotangent."""
    libraries = {FLOOR: Library(floor), **libraries}
    for case, x in _cases("grad", plan, plan.grad_rates):
        steps = _steps(libraries, case["rate"])
        steps = {name: forward_and_backward(step) for name, step in steps.items()}
        programs = _programs(steps, x, plan)
        for row in timed_rows(case | {"mode": plan.mode}, programs, libraries, plan):
            apply = libraries[row["library"]].apply
            yield row | {"residual_bits": residual_bits(apply, case["dtype"], case["rate"])}


def train_step(libraries: Libraries, plan: Plan) -> Iterator[Row]:
    """A step of SGD with momentum on the paper's MLP; the floor is the step without dropout."""
    libraries = {NO_DROPOUT: Library(lambda key, x, rate: x), **libraries}
    carry = mlp_carry(jax.random.key(0), plan.batch, plan.layers)
    steps = {name: functools.partial(mlp_step, lib.apply) for name, lib in libraries.items()}
    programs = _programs(steps, carry, plan)
    case = {
        "suite": "train_step",
        "shape": [plan.batch, *plan.layers],
        "dtype": "float32",
        "rate": [INPUT_RATE, HIDDEN_RATE],
        "mode": plan.mode,
    }
    yield from timed_rows(case, programs, libraries, plan)


def _programs(steps: dict[str, Callable], carry: Any, plan: Plan) -> dict[str, timing.Program]:
    make = {"chained": timing.chained, "dispatched": timing.dispatched}[plan.mode]
    return {name: make(step, carry) for name, step in steps.items()}


def _cases(suite: str, plan: Plan, rates) -> Iterator[tuple[Row, jax.Array]]:
    for shape in plan.sizes:
        for dtype in plan.dtypes:
            x = jax.random.normal(jax.random.key(0), shape, dtype)
            for rate in rates:
                yield {"suite": suite, "shape": list(shape), "dtype": dtype, "rate": rate}, x


def _steps(libraries: Libraries, rate: float) -> dict[str, Callable]:
    return {
        name: lambda key, x, apply=library.apply: apply(key, x, rate)
        for name, library in libraries.items()
    }


def timed_rows(case: Row, programs, libraries: Libraries, plan: Plan) -> Iterator[Row]:
    """Time the programs, of which the first is the floor, and describe each."""
    base = next(iter(programs))
    samples = timing.measure(
        programs,
        rounds=plan.rounds,
        seconds=plan.seconds / 4 if case["mode"] == "single_call" else plan.seconds,
        references=(base, OURS, OURS_KEY, FLAX_NNX),
    )
    for name, taken in samples.items():
        median, iqr = timing.median_and_iqr(taken * 1e6)
        ratio, ratio_iqr = timing.median_and_iqr(taken / samples[base])
        yield case | {
            "library": name,
            "version": libraries[name].version if name in libraries else None,
            "median_us": median,
            "iqr_us": iqr,
            "ratio_to_floor": ratio,
            "ratio_to_floor_iqr": ratio_iqr,
            "speedup_over_flax_nnx": timing.median_and_iqr(samples[FLAX_NNX] / taken)[0],
            "residual_bits": None,
            "repeats": int(np.isfinite(taken).sum()),
        }


def mlp_carry(key, batch, widths):
    """(params, velocity, images, labels) for one batch of noise."""
    keys = jax.random.split(key, len(widths) + 1)
    params = [
        {"kernel": jax.random.normal(k, (n, m)) * jnp.sqrt(2 / n), "bias": jnp.zeros(m)}
        for k, n, m in zip(keys, widths[:-1], widths[1:], strict=False)
    ]
    images = jax.random.uniform(keys[-2], (batch, widths[0]))
    labels = jax.random.randint(keys[-1], (batch,), 0, widths[-1])
    return params, jax.tree.map(jnp.zeros_like, params), images, labels


def mlp_step(apply, key, carry):
    """One step: cross entropy, momentum 0.9, learning rate 0.001."""
    params, velocity, images, labels = carry

    def loss(params):
        h = images
        keys = jax.random.split(key, len(params))
        for i, (key_i, layer) in enumerate(zip(keys, params, strict=True)):
            h = jax.nn.relu(h) if i else h
            h = apply(key_i, h, HIDDEN_RATE if i else INPUT_RATE)
            h = h @ layer["kernel"] + layer["bias"][None]
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(h), labels[:, None], axis=1))

    velocity = jax.tree.map(lambda v, g: 0.9 * v - 0.001 * g, velocity, jax.grad(loss)(params))
    return jax.tree.map(jnp.add, params, velocity), velocity, images, labels
