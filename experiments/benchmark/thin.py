"""Thinned training: the time and the memory of an update, relative to the net without dropout."""

import itertools
from collections.abc import Iterator

import jax
import numpy as np

import dropout_jax as dj
from dropout_jax import train
from experiments.benchmark.libraries import Library
from experiments.benchmark.suites import HIDDEN_RATE, INPUT_RATE, Plan, Row
from experiments.harness import timing
from experiments.nets import thinning
from experiments.records.libraries import FLAX_NNX, NO_DROPOUT, OURS, thinned

STEPS, BLOCK = 10, 16
METHODS: dict[str, thinning.Method] = {NO_DROPOUT: "none", OURS: "element", FLAX_NNX: "flax"}


def thin(libraries: dict[str, Library], plan: Plan) -> Iterator[Row]:
    """Epochs of the library's own loop: every method on every net, then lives and blocks on one."""
    for hidden, batch in itertools.product(plan.nets, plan.batches):
        yield from _rows(libraries, plan, hidden, batch, STEPS, [(STEPS, BLOCK)])
    lives = [(steps, BLOCK) for steps in plan.lives] + [(STEPS, block) for block in plan.blocks]
    yield from _rows(libraries, plan, plan.nets[0], plan.batches[0], max(plan.lives), lives)


def _rows(libraries, plan: Plan, hidden, batch: int, updates: int, thins) -> Iterator[Row]:
    sizes = (784, *hidden, 10)
    epochs = {
        name: _epoch(method, sizes, batch, updates)
        for name, method in METHODS.items()
        if name == NO_DROPOUT or name in libraries
    } | {
        thinned(steps, block): _epoch("thin", sizes, batch, updates, dj.Thin(steps, block))
        for steps, block in thins
    }
    case = {"suite": "thin", "shape": [batch, *sizes], "rate": [INPUT_RATE, HIDDEN_RATE]}
    yield from epoch_rows(case, epochs, arithmetic(sizes), updates, libraries, plan)


def epoch_rows(
    case: Row, epochs, share: float, updates: int, libraries, plan: Plan
) -> Iterator[Row]:
    """Time epochs of so many updates, of which one is without dropout, and describe each."""
    samples = timing.measure(
        {name: program for name, (program, _) in epochs.items()},
        rounds=plan.epoch_rounds,
        seconds=plan.seconds,
        references=tuple(epochs),
    )
    floor = samples[NO_DROPOUT]
    for name, taken in samples.items():
        median, iqr = timing.median_and_iqr(taken / updates * 1e6)
        ratio, ratio_iqr = timing.median_and_iqr(taken / floor)
        yield case | {
            "dtype": "float32",
            "mode": "chained",
            "updates": updates,
            "library": name,
            "version": libraries[name].version if name in libraries else None,
            "median_us": median,
            "iqr_us": iqr,
            "ratio_to_floor": ratio,
            "ratio_to_floor_iqr": ratio_iqr,
            "speedup_over_flax_nnx": timing.median_and_iqr(samples[FLAX_NNX] / taken)[0]
            if FLAX_NNX in samples
            else None,
            "residual_bits": None,
            "arithmetic": share if name.startswith("thin") else 1.0,
            "peak_mib": epochs[name][1] / 2**20,
            "repeats": int(np.isfinite(taken).sum()),
        }


def arithmetic(sizes: tuple[int, ...]) -> float:
    """Multiplications of a sub-network, as a share of those of the whole network."""
    kept = [sizes[0], *(round(n * (1 - HIDDEN_RATE)) for n in sizes[1:-1]), sizes[-1]]
    whole, thinned = (sum(a * b for a, b in itertools.pairwise(widths)) for widths in (sizes, kept))
    return thinned / whole


def _epoch(method, sizes, batch, updates, thin=None) -> tuple[timing.Program, int]:
    """An epoch of so many updates in place, and its peak memory in bytes as XLA compiled it."""
    rates = (INPUT_RATE, *[HIDDEN_RATE] * (len(sizes) - 2))
    loop = train.make_loop(
        lambda rngs, hyper: thinning.network(method, sizes, rates, rngs),
        lambda hyper: thinning.optimizer(0.001, 3.0, len(sizes) - 2),
        batch_size=batch,
        thin=thin,
    )
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.uniform(keys[0], (batch * updates, sizes[0]))
    data = {"train": (x, jax.random.randint(keys[1], (len(x),), 0, sizes[-1]))}
    return epoch_program(loop, data)


def epoch_program(loop: train.Loop, data: train.Data) -> tuple[timing.Program, int]:
    """Epochs of a loop in place, and their peak memory in bytes as XLA compiled them."""
    state = jax.jit(loop.init)(jax.random.key(1), {}, data)
    epoch = jax.jit(loop.epoch, donate_argnums=0).lower(state, data).compile()
    memory = epoch.memory_analysis()
    peak = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )

    def run(count):
        nonlocal state
        for _ in range(count):
            state, _ = epoch(state, data)
        jax.block_until_ready(state)

    return timing.Program(run, lambda: timing.check_normal(state.params)), peak
