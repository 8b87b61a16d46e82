"""Run a model many times with dropout on, streaming over samples and over batches of examples."""

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen, nnx

from dropout_jax._checks import check_count, check_key
from dropout_jax._nnx import check_module, rekey, split
from dropout_jax._sharding import parts_of
from dropout_jax.keys import site_key
from dropout_jax.train.calls import with_rngs
from dropout_jax.train.examples import from_table
from dropout_jax.typing import Array, Key

Model: TypeAlias = nnx.Module | Callable[[Key, Array], Any]
"""An NNX module with model(x), or a function (key, x) -> outputs, such as a Linen model's apply."""
Parts: TypeAlias = tuple[Any, Any, Any]
"""A model as `jax.jit` takes it: what is static, its parameters, and the rest of its state."""


def ready(key: Key, model: Model, samples: int, *, spread: bool = False) -> Parts:
    """The parts of a model whose noise is to be sampled; raise for what cannot be sampled.

    `spread` asks for two samples or more, of which one has none.
    """
    check_key(key)
    check_count("samples", samples, 100)
    if spread and samples == 1:
        raise ValueError("samples is 1, and one sub-network has no spread; write 2 or more.")
    if callable(model) and not isinstance(model, (nnx.Module, linen.Module)):
        return model, (), ()
    return split(check_module(model), nnx.Param, ...)


def arrays(x: Any) -> Any:
    """x with each of its leaves as a JAX array; raise where there is no example."""
    x = jax.tree.map(jnp.asarray, from_table(x))
    sizes = {a.shape[:1] for a in jax.tree.leaves(x)}
    if len(sizes) != 1 or () in sizes or (0,) in sizes:
        raise ValueError(
            f"x has the shape {jax.tree.map(jnp.shape, x)}; write inputs (examples, ...), with one "
            "example or more."
        )
    return x


def sub_networks(parts: Parts, key: Key, x: Any, *, consistent: bool = False) -> Callable:
    """k -> the outputs of the k-th sub-network for x (examples, ...), an array or a pytree of them.

    With `consistent` all examples of a sample go through one sub-network: each example is a batch
    of its own, and all of them have the sample's key.
    """
    static, params, rest = parts

    def run(key, x):
        if not isinstance(static, Callable):  # the structure of a module
            model = static.merge(params, rekey(rest, key))
            model.eval()
            model.set_attributes(deterministic=False, raise_if_not_found=False)
            before = _draws(model)
            called = with_rngs(model, lambda: site_key(key, "call"))
            outputs = called(x)
            if called is model and all(map(operator.is_, before, _draws(model))):
                _check_rate_of_0(model)
            return outputs
        return static(key, x)

    def sub_network(k):
        sample_key = jax.random.fold_in(key, k)
        if not consistent:
            return run(sample_key, x)

        def alone(example):
            batch = jax.tree.map(lambda a: a[None], example)
            return jax.tree.map(lambda outputs: outputs[0], run(sample_key, batch))

        return jax.vmap(alone)(x)

    return sub_network


def _draws(model: nnx.Module) -> list[Array]:
    """How often each random stream was drawn from; while tracing, another object after a draw."""
    return jax.tree.leaves(nnx.state(model, nnx.RngCount))


def _check_rate_of_0(model: nnx.Module) -> None:
    """Raise for a model that drew nothing, unless it has dropout and all of its rates are 0."""
    rates = [getattr(module, "rate", None) for _, module in nnx.iter_modules(model)]
    rates = [rate for rate in rates if isinstance(rate, (int, float))]
    if rates and not any(rates):
        return
    raise ValueError(
        "the model draws no noise in training mode, so that all sub-networks are one: give it a "
        "layer such as dj.layers.Dropout(0.1, rngs=rngs). Where its call takes training=False, "
        "write a function instead: lambda key, x: model(x, training=True, rngs=nnx.Rngs(key))."
    )


def in_batches(
    reduce: Callable, key: Key, *rows: Any, batch_size: int | None, consistent: bool
) -> Any:
    """reduce(key, *rows), so many rows at a time; its results have the rows' first axis.

    The batches have keys of their own, unless all examples are to share their sub-networks.
    """
    if batch_size is None or (n := len(jax.tree.leaves(rows)[0])) <= batch_size:
        return reduce(key, *rows)
    full = n // batch_size
    batches = site_key(key, "batches")

    def one(number, rows):
        return reduce(key if consistent else jax.random.fold_in(batches, number), *rows)

    def stacked(a):
        return a[: full * batch_size].reshape(full, batch_size, *a.shape[1:])

    numbers = jnp.arange(full, dtype=jnp.int32)
    found = jax.lax.map(lambda batch: one(*batch), (numbers, jax.tree.map(stacked, rows)))
    found = jax.tree.map(lambda a: a.reshape(full * batch_size, *a.shape[2:]), found)
    if full * batch_size == n:
        return found
    last = one(full, jax.tree.map(lambda a: a[full * batch_size :], rows))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), found, last)


def check_batch_size(batch_size: int | None, x: Any) -> int | None:
    """Return `batch_size`, or raise for what is no number of examples."""
    if batch_size is None:
        return None
    check_count("batch_size", batch_size, 1000)
    parts = max(map(parts_of, jax.tree.leaves(x)))
    if parts > 1:
        raise ValueError(
            f"batch_size is {batch_size}, and the examples are spread over {parts} devices: leave "
            "batch_size out, and each device takes its own part."
        )
    return int(batch_size)
