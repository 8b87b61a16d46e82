"""Time programs in turn, round after round, so that a busy moment slows all of them."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

KEYS = 64
SLOW = 0.1  # seconds a sample; slower programs that nothing is divided by sit out odd rounds


class Program(NamedTuple):
    """`run` applies a step so many times and waits; `check` raises if its times mean nothing."""

    run: Callable[[int], None]
    check: Callable[[], None] = lambda: None


def key_of(i: jax.Array) -> jax.Array:
    """A new key for each application, at next to no cost."""
    return jax.random.wrap_key_data(jnp.full(2, i, jnp.uint32))


def chained(step: Callable, carry: Any) -> Program:
    """carry <- step(key, carry) in one loop inside one compiled program, in place.

    The loop's bounds are data, so that XLA cannot unroll it. Dispatch and fresh memory are paid
    once a sample, not once an application. No key returns: what survives one mask for ever would
    grow without bound.
    """

    @functools.partial(jax.jit, donate_argnums=0)
    def loop(carry, start, stop):
        return lax.fori_loop(start, stop, lambda i, carry: step(key_of(i), carry), carry)

    state = jax.tree.map(jnp.copy, carry)  # the loop consumes it
    done = 0

    def run(count):
        nonlocal state, done
        state = jax.block_until_ready(loop(state, done, done + count))
        done += count

    return Program(run, lambda: check_normal(state))


def single_call(step: Callable, carry: Any) -> Program:
    """One dispatch an application, waited for: what a call outside a larger program costs."""
    call, key = jax.jit(step), key_of(1)

    def run(count):
        for _ in range(count):
            jax.block_until_ready(call(key, carry))

    return Program(run)


def dispatched(step: Callable, carry: Any) -> Program:
    """step(key, carry) again and again, one dispatched behind the other and waited for once.

    For a GPU, where a turn of a loop inside a program costs tens of microseconds, and for arrays so
    large that the device is still busy when the next dispatch, of some 10 us, has been made.
    """
    call, keys = jax.jit(step), [jax.block_until_ready(key_of(i)) for i in range(KEYS)]

    def run(count):
        for i in range(count):
            done = call(keys[i % KEYS], carry)
        jax.block_until_ready(done)

    return Program(run)


def check_normal(values: Any) -> None:
    """Raise unless all values are 0 or normal numbers: others are slower on some machines."""
    for leaf in jax.tree.leaves(values):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not _all_normal(leaf):
            raise ArithmeticError("a chain has left the normal numbers: its times mean nothing")


@jax.jit
def _all_normal(x: jax.Array) -> jax.Array:
    """On the device, and of the bits: arithmetic may take a number that is not normal for 0."""
    kind = jnp.finfo(x.dtype)
    bits = lax.bitcast_convert_type(x, f"uint{kind.bits}")
    mantissa = bits & (2**kind.nmant - 1)
    exponent = bits >> kind.nmant & (2**kind.nexp - 1)
    return jnp.all(jnp.where(exponent == 0, mantissa == 0, exponent < 2**kind.nexp - 1))


def measure(
    programs: Mapping[str, Program], *, rounds: int, seconds: float, references: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Seconds an application: {name: one sample a round}, NaN in a round that it sat out.

    Args:
      programs: what to time. Each is compiled and warmed up first.
      rounds: samples; every round takes one of each program, in turn.
      seconds: what a sample should take, and with it how many applications it holds.
      references: programs that take part in every round however slow they are.
    """
    plan = {name: _applications(program, seconds) for name, program in programs.items()}
    samples = {name: np.full(rounds, np.nan) for name in programs}
    names = list(programs)
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            count, estimate = plan[name]
            if r % 2 and estimate > SLOW and name not in references:
                continue
            samples[name][r] = _time(programs[name], count) / count
    for program in programs.values():
        program.check()
    return samples


def _applications(program: Program, seconds: float) -> tuple[int, float]:
    """How many applications a sample holds, and about how many seconds it will take.

    At least 16, to spread what a call costs, or as many as fit in 8 times `seconds`, or 2.
    """
    program.run(1)  # compiles
    count = 1
    while (taken := _time(program, count)) < seconds / 4:
        count *= 4
    each = taken / count
    count = max(2, round(max(seconds / each, min(16, 8 * seconds / each))))
    return count, count * each


def _time(program: Program, count: int) -> float:
    start = time.perf_counter()
    program.run(count)
    return time.perf_counter() - start


def median_and_iqr(samples: np.ndarray) -> tuple[float, float]:
    """Median and interquartile range of the samples that were taken."""
    low, median, high = np.nanpercentile(samples, (25, 50, 75))
    return float(median), float(high - low)
