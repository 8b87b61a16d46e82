"""Thinned training of a small GPT: the time of an update, relative to the net without dropout."""

import itertools
from collections.abc import Iterator

import jax

import dropout_jax as dj
from experiments.benchmark.libraries import Library
from experiments.benchmark.suites import Plan, Row
from experiments.benchmark.thin import BLOCK, STEPS, epoch_program, epoch_rows
from experiments.nets import gpt, text, thinning
from experiments.records.libraries import NO_DROPOUT, OURS, thinned

SYMBOLS = 65
METHODS: dict[str, thinning.Method] = {
    NO_DROPOUT: "none",
    OURS: "element",
    thinned(STEPS, BLOCK): "thin",
}


def thin_transformer(libraries: dict[str, Library], plan: Plan) -> Iterator[Row]:
    """Lives of one sub-network: none, element-wise and thinned, at each rate on each net."""
    for (shape, batch), rate in itertools.product(plan.gpts, plan.grad_rates):
        size = gpt.Size(*shape)
        epochs = {name: _epoch(method, size, batch, rate) for name, method in METHODS.items()}
        case = {"suite": "thin_transformer", "shape": [batch, *shape], "rate": rate}
        share = thinning.gpt_arithmetic(SYMBOLS, size, rate)
        yield from epoch_rows(case, epochs, share, STEPS, libraries, plan)


def _epoch(method, size, batch, rate):
    loop = text.text_loop(
        lambda rngs, hyper: thinning.gpt_network(method, SYMBOLS, size, rate, rngs),
        lambda hyper: gpt.adamw(2000),
        batch_size=batch,
        context=size.context,
        updates=STEPS,
        thin=dj.Thin(STEPS, BLOCK, pairs=thinning.PAIRS) if method == "thin" else None,
    )
    characters = jax.random.randint(jax.random.key(0), (100 * size.context,), 0, SYMBOLS)
    return epoch_program(loop, {"train": (characters[:-1], characters[1:])})
