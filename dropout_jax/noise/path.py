"""Stochastic depth (DropPath): drop whole residual branches, a sample or a batch at a time."""

from collections.abc import Callable
from numbers import Integral
from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike

from dropout_jax._checks import (
    check_choice,
    check_floating,
    check_key,
    check_order,
    check_rate,
    is_static,
    wide_dtype,
)
from dropout_jax._sharding import parts_of, sharding_of, spread
from dropout_jax.noise.dropout import dropout
from dropout_jax.typing import Array, Key, Rate

ORDERED = {"unique_indices": True, "indices_are_sorted": True}


def drop_path(
    key: Key, x: ArrayLike, rate: Rate, *, per: Literal["sample", "batch"] = "sample"
) -> Array:
    r"""Drop a whole residual branch with probability `rate`, and scale it up otherwise: mean one.

    $$y = m\,x / (1 - \text{rate}), \qquad m \sim \text{Bernoulli}(1 - \text{rate}),$$
    with one m a sample, or one for all. A residual block is then
    `skip + drop_path(key, branch, rate)`; at inference it is `skip + branch`.

    Args:
      key: from `jax.random.key`.
      x: the branch's output, floating-point (batch, ...).
      rate: probability of dropping, in [0, 1]: a Python number, a traced scalar, or an array that
        broadcasts against the draw, (batch, 1, ..., 1). Not differentiated.
      per: "sample", one draw a sample; or "batch", one draw for all, as in the paper.

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError: as `dropout`.
      ValueError: as `dropout`; an unknown `per`; an x without a batch axis.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> y = dj.drop_path(jax.random.key(0), jnp.ones((100, 3)), 0.5)
      >>> sorted(set(map(tuple, y.tolist())))
      [(0.0, 0.0, 0.0), (2.0, 2.0, 2.0)]

    Source: Huang et al. 2016, "Deep Networks with Stochastic Depth", scaled in training instead of
    at test time.
    """
    check_order(x, rate)
    x = _check_batched(x)
    check_choice("per", per, "sample", "batch")
    return dropout(key, x, rate, broadcast_dims=range(1 if per == "sample" else 0, x.ndim))


def drop_path_subset(
    key: Key,
    x: ArrayLike,
    rate: float,
    branch: Callable[[Array], Array],
    *,
    groups: int | None = None,
) -> Array:
    r"""A residual block that computes its branch for a fixed number of the samples only.

    $$y_i = x_i + \begin{cases} \frac{n}{k} f(x)_i & i \in S \\ 0 & \text{otherwise,} \end{cases}
      \qquad S \text{ a uniform subset of } k \text{ of the } n \text{ samples,}$$
    with k = round(n (1 - rate)), and at least 1 unless the rate is 1. The mean is exactly
    x + f(x) for every n and rate, because the factor is that of the k that was taken; the rate
    that is realised is 1 - k/n. Unlike in `drop_path`, the draws of a batch's samples depend on
    each other. f must treat each sample alone (layer norm, not batch norm).

    Over several devices, each draws a subset of its own samples, so that none is moved: n and k
    are then a group's. With explicit axes the groups are known from the type of x, and inside
    `jax.shard_map` each device makes a call of its own. With automatic axes write how many parts
    the batch is divided into, groups=mesh.shape["data"].

    Args:
      key: from `jax.random.key`.
      x: the block's input, floating-point (n, ...).
      rate: share of the samples whose branch is skipped, in [0, 1]; a Python number, since shapes
        depend on it.
      branch: f, from (k, ...), or (groups k, ...), to the same shape.
      groups: how many equal parts of the batch have a subset each. Unless given, the parts that
        the type of x divides the batch into, or 1. The draw depends on it.

    Returns:
      An array of x's shape and dtype.

    Raises:
      TypeError: `key` is not a key; x does not hold floating-point numbers; a traced rate.
      ValueError: a rate outside [0, 1]; an x without a batch axis; a branch that changes the shape;
        groups that do not divide the batch.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> y = dj.drop_path_subset(jax.random.key(0), jnp.ones((4, 1)), 0.5, lambda x: 3 * x)
      >>> sorted(y.ravel().tolist())
      [1.0, 1.0, 7.0, 7.0]

    Source: the drop of Huang et al. 2016, as `drop_path`; a subset of the batch as in Oquab et al.
    2023, "DINOv2" (efficient stochastic depth).
    """
    key = check_key(key)
    x = _check_batched(x)
    check_rate(rate)
    if not is_static(rate):
        raise TypeError(
            "rate is an array, and the number of samples computed depends on it; write a Python "
            "number, or use drop_path, which takes traced rates."
        )
    groups = parts_of(x) if groups is None else groups
    if not isinstance(groups, Integral) or groups < 1 or len(x) % groups:
        raise ValueError(
            f"groups is {groups!r}, for a batch of {len(x)}; write a whole number that divides it."
        )
    n = len(x) // groups
    if rate == 1:
        return x
    k = max(1, round(n * (1 - rate)))
    if k >= n:
        return (x + _run(branch, x)).astype(x.dtype)
    where = sharding_of(x)
    of_groups = where.update(spec=PartitionSpec(where.spec[0] if where.spec else None, None))
    kept = spread(of_groups, _subsets, key, n, k, groups)
    out = _run(branch, spread(where, _take, x, kept))
    return spread(where, _add, x, kept, out)


def _subsets(key, n, k, groups):
    """The k of n samples that each group computes, in order: (groups, k)."""

    def subset(key):
        return jnp.sort(jax.random.permutation(key, n)[:k])

    return subset(key)[None] if groups == 1 else jax.vmap(subset)(jax.random.split(key, groups))


def _take(x, kept):
    """The samples of the subsets: (groups k, ...)."""
    taken = jax.vmap(lambda x, kept: x.at[kept].get(**ORDERED))(_grouped(x, kept), kept)
    return taken.reshape(kept.size, *x.shape[1:])


def _add(x, kept, out):
    """x plus the outputs of the subsets, scaled."""
    samples = _grouped(x, kept)
    factor = samples.shape[1] / kept.shape[1]
    update = _grouped((out.astype(wide_dtype(x)) * factor).astype(x.dtype), kept)
    add = jax.vmap(lambda x, kept, update: x.at[kept].add(update, **ORDERED))
    return add(samples, kept, update).reshape(x.shape)


def _grouped(x, kept):
    return x.reshape(len(kept), len(x) // len(kept), *x.shape[1:])


def _run(branch, x):
    out = branch(x)
    if out.shape != x.shape:
        raise ValueError(
            f"branch turned shape {x.shape} into {out.shape}; a residual branch returns the shape "
            "that it is given."
        )
    return out


def _check_batched(x):
    x = check_floating(x)
    if x.ndim == 0:
        raise ValueError("x is a scalar, and its first axis is the batch; write x[None].")
    return x
