"""Benchmark the noise functions beside plain dropout that makes as many random decisions."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dropout_jax as dj
from experiments.benchmark.libraries import Library
from experiments.benchmark.suites import Plan, Row
from experiments.harness import timing
from experiments.records.libraries import DROPOUT, NORMAL

RATE = 0.2  # as most have, no short binary fraction: dropout and drop_block draw as many bits
NOT_TIMED = {
    "dot_product_attention": "timed by length, in the suite attention",
    "drop_connect_dense": "the time is that of the matrix product",
    "drop_connect_moments": "two matrix products, at inference",
    "drop_path_subset": "the time is that of the branch",
    "variational_dense": "two matrix products",
    "sparse_dense": "two matrix products",
}
Noise = Callable[[jax.Array, jax.Array], jax.Array]  # of a key and x


class Group(NamedTuple):
    """Members that draw as often as dropout with these broadcast_dims, on one of the plan's shapes.

    Where the law needs a Gaussian number or a logarithm an element, the floor is `x * normal` too.
    """

    shape: str
    members: dict[str, Noise]
    broadcast_dims: tuple[int, ...] = ()
    gaussian: bool = False


GROUPS = (
    Group(
        "matrix",
        {
            "dropout_unscaled": lambda key, x: dj.dropout_unscaled(key, x, RATE),
            "alpha_dropout": lambda key, x: dj.alpha_dropout(key, x, RATE),
            "drop_connect": lambda key, x: dj.drop_connect(key, x, RATE),
            "zoneout": lambda key, x: dj.zoneout(key, x, -x, RATE),
            "standout": lambda key, x: dj.standout(key, x, x),
        },
    ),
    Group(
        "matrix",
        {
            "gaussian_dropout": lambda key, x: dj.gaussian_dropout(key, x, RATE),
            "gaussian_noise": lambda key, x: dj.gaussian_noise(key, x, RATE),
            "variational_dropout": lambda key, x: dj.variational_dropout(key, x, -1.0),
            "concrete_dropout": lambda key, x: dj.concrete_dropout(key, x, 0.0),
        },
        gaussian=True,
    ),
    Group("matrix", {"drop_path": lambda key, x: dj.drop_path(key, x, RATE)}, (1,)),
    Group(
        "matrix",
        {"drop_path per batch": lambda key, x: dj.drop_path(key, x, RATE, per="batch")},
        (0, 1),
    ),
    Group("image", {"drop_block": lambda key, x: dj.drop_block(key, x, RATE, block_size=3)}),
    Group(
        "image",
        {"feature_alpha_dropout": lambda key, x: dj.feature_alpha_dropout(key, x, RATE)},
        (1, 2),
    ),
    Group("attention", {"attention_dropout": lambda key, x: dj.attention_dropout(key, x, RATE)}),
    Group(
        "attention",
        {
            "attention_dropout per batch": lambda key, x: dj.attention_dropout(
                key, x, RATE, per="batch"
            )
        },
        (0, 1),
    ),
)


def family(libraries: dict[str, Library], plan: Plan) -> Iterator[Row]:
    """Every member, and in its group dropout with as many decisions and Gaussian numbers' floor."""
    for group in GROUPS:
        for dtype in plan.dtypes:
            yield from _rows(group, getattr(plan, group.shape), dtype, plan)


def _rows(group: Group, shape: tuple[int, ...], dtype: str, plan: Plan) -> Iterator[Row]:
    functions = {
        DROPOUT: lambda key, x: dj.dropout(key, x, RATE, broadcast_dims=group.broadcast_dims)
    }
    functions |= {NORMAL: multiply_normal} if group.gaussian else {}
    functions |= group.members
    x = jax.random.normal(jax.random.key(0), (2, *shape), dtype)
    samples = timing.measure(
        {name: chained(function, x) for name, function in functions.items()},
        rounds=plan.rounds,
        seconds=plan.seconds,
        references=(DROPOUT, NORMAL),
    )
    for name, taken in samples.items():
        median, iqr = timing.median_and_iqr(taken * 1e6)
        ratio, ratio_iqr = timing.median_and_iqr(taken / samples[DROPOUT])
        yield {
            "suite": "family",
            "shape": list(shape),
            "dtype": dtype,
            "rate": RATE,
            "mode": "chained",
            "library": name,
            "broadcast_dims": list(group.broadcast_dims),
            "median_us": median,
            "iqr_us": iqr,
            "ratio_to_floor": ratio,
            "ratio_to_floor_iqr": ratio_iqr,
            "ratio_to_normal": timing.median_and_iqr(taken / samples[NORMAL])[0]
            if group.gaussian
            else None,
            "speedup_over_flax_nnx": None,
            "residual_bits": None,
            "repeats": int(np.isfinite(taken).sum()),
        }


def multiply_normal(key: jax.Array, x: jax.Array) -> jax.Array:
    """The least that a law with Gaussian numbers costs: one an element, and a multiplication."""
    return x * jax.random.normal(key, x.shape, x.dtype)


def chained(function: Noise, x: jax.Array) -> timing.Program:
    """The two arrays of x in turn: of a fixed one XLA could take work out of the loop.

    What comes out does not go in again: products of Gaussian numbers leave the normal numbers.
    """

    def step(key, carry):
        x, _ = carry
        which = jax.random.key_data(key)[0] % 2
        return x, function(key, jax.lax.dynamic_index_in_dim(x, which, keepdims=False))

    return timing.chained(step, (x, jnp.zeros_like(x[0])))
