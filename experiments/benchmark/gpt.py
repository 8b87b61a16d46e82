"""Training a small GPT: one network and five in one program, beside PyTorch's one."""

import importlib.metadata
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.benchmark.libraries import Library
from experiments.benchmark.suites import Plan, Row
from experiments.harness import timing
from experiments.harness.cli import text_table
from experiments.harness.training import seed_keys
from experiments.nets import bfloat16, gpt, text
from experiments.records.libraries import OURS, TORCH

SYMBOLS, CHARACTERS, UPDATES = 65, 100_000, 10
RATES = (0.0, 0.2)
COLUMNS = ("library", "rate", "seeds", "how", "products", "median_ms", "iqr_ms", "ratio_to_torch")
How = Literal["alone", "side by side", "in turn"]


class Case(NamedTuple):
    """Who trains how many networks, and how."""

    library: str
    seeds: int
    how: How
    products: str


CASES = [
    Case(*one, products)
    for products in ("float32", "bfloat16")
    for one in (
        (TORCH, 1, "alone"),
        (OURS, 1, "alone"),
        (OURS, 5, "side by side"),
        (OURS, 5, "in turn"),
    )
]


def gpt_step(libraries: dict[str, Library], plan: Plan) -> Iterator[Row]:
    """nanoGPT's network for a CPU, without dropout and with it at four places."""
    *shape, batch = plan.gpt
    size = gpt.Size(*shape)
    characters = np.random.default_rng(0).integers(0, SYMBOLS, CHARACTERS, dtype=np.uint8)
    cases = [case for case in CASES if case.library == OURS or importlib.util.find_spec(TORCH)]
    for rate in RATES:
        samples = timing.measure(
            {case: program(case, size, batch, rate, characters) for case in cases},
            rounds=plan.epoch_rounds,
            seconds=plan.seconds,
            references=tuple(cases),
        )
        for case, taken in samples.items():
            median, iqr = timing.median_and_iqr(taken / case.seeds / UPDATES * 1e3)
            base = samples.get(CASES[0])
            ratio = None if base is None else taken / case.seeds / base
            yield {
                "suite": "gpt",
                "shape": list(plan.gpt),
                "rate": rate,
                "mode": "in_turn",
                **case._asdict(),
                "version": version(case.library),
                "median_ms": median,
                "iqr_ms": iqr,
                "ratio_to_torch": None if ratio is None else timing.median_and_iqr(ratio)[0],
                "repeats": len(taken),
            }


def program(
    case: Case, size: gpt.Size, batch: int, rate: float, characters: np.ndarray
) -> timing.Program:
    """So many epochs of UPDATES updates."""
    make = pytorch if case.library == TORCH else ours
    return make(case, size, batch, rate, characters)


def ours(case, size, batch, rate, characters) -> timing.Program:
    def build(rngs, hyper):
        model = gpt.GPT(SYMBOLS, size, dict.fromkeys(gpt.PLACES, rate), rngs=rngs)
        if case.products == "bfloat16":
            model.set_attributes(nnx.Linear, dot_general=bfloat16.dot_general)
        return model

    loop = text.text_loop(
        build, lambda hyper: gpt.adamw(2000), batch_size=batch, context=size.context,
        updates=UPDATES,
    )  # fmt: skip
    data = {"train": (jnp.asarray(characters[:-1]), jnp.asarray(characters[1:]))}
    many = {
        "alone": lambda state: jax.tree.map(
            lambda leaf: leaf[None], loop.epoch(jax.tree.map(lambda leaf: leaf[0], state), data)[0]
        ),
        "side by side": jax.vmap(lambda state: loop.epoch(state, data)[0]),
        "in turn": lambda state: jax.lax.map(lambda one: loop.epoch(one, data)[0], state),
    }
    epoch = jax.jit(many[case.how], donate_argnums=0)
    state = jax.jit(jax.vmap(loop.init, (0, None, None)))(seed_keys(case.seeds), {}, data)

    def run(count):
        nonlocal state
        for _ in range(count):
            state = epoch(state)
        jax.block_until_ready(state)

    return timing.Program(run, lambda: timing.check_normal(state.params))


def pytorch(case, size, batch, rate, characters) -> timing.Program:
    import torch

    from experiments.benchmark.gpt_torch import Training

    training = Training(SYMBOLS, size, rate, torch.tensor(characters), batch, case.products)

    def run(count):
        for _ in range(count * UPDATES):
            training.update()

    return timing.Program(run)


def version(package: str) -> str:
    return importlib.metadata.version(package)


def table(rows: Sequence[Row]) -> str:
    """One aligned line a row."""
    cells = [[f"{row[c]:.2f}" if isinstance(row[c], float) else str(row[c]) for c in COLUMNS]
             for row in rows]  # fmt: skip
    return text_table(COLUMNS, cells)
