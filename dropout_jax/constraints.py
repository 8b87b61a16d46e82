"""Max-norm: the length of every unit's incoming weights stays at or under c."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dropout_jax._checks import wide_dtype
from dropout_jax.typing import Array


def max_norm(c: Any, axis: int | Sequence[int] | None = None) -> optax.GradientTransformation:
    r"""Project every unit's incoming weight vector onto the ball of radius c, after the update.

    $$w \leftarrow w + u, \qquad w \leftarrow w \cdot \min(1,\; c / \lVert w \rVert_2).$$
    Put it last in `optax.chain`: it sees the updated weights, and changes the update so that they
    end inside the ball. Leaves with fewer than two axes (biases) are never constrained, nor are the
    log-variances of `layers.SparseLinear`, which are no weights. In the
    scaled convention the c of a layer whose input is kept with probability keep is keep times the
    paper's (`to_scaled_convention`).

    Args:
      c: the largest length, > 0: a number, a traced scalar, or a pytree prefix of the parameters
        with one for each subtree; `jnp.inf` leaves a subtree alone (the softmax layer, say). In
        `fit`, whose parameters are an `nnx.State`, that is `nnx.State({"linears": {0: 2.0, 1:
        jnp.inf}})`.
      axis: the axes of a kernel that lead into a unit. By default all but the last, which is right
        for Flax kernels (in, out) and (height, width, in, out).

    Returns:
      An `optax.GradientTransformation`; its update needs `params`.

    Raises:
      ValueError: a concrete c that is not positive; `params` missing in the update.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp, optax
      >>> optimizer = optax.chain(optax.sgd(0.1), dj.max_norm(2.0))
      >>> params = {"kernel": jnp.full((4, 3), 10.0)}
      >>> grads = {"kernel": jnp.zeros((4, 3))}
      >>> updates, _ = optimizer.update(grads, optimizer.init(params), params)
      >>> jnp.linalg.norm(optax.apply_updates(params, updates)["kernel"], axis=0).round(5).tolist()
      [2.0, 2.0, 2.0]

    Source: Srivastava et al. 2014, section 5.1; Srebro & Shraibman 2005.
    """
    for value in jax.tree.leaves(c):
        if not isinstance(value, jax.core.Tracer) and not np.all(np.asarray(value) > 0):
            raise ValueError(f"max_norm got c = {value}; write a length above 0, such as 2.0.")

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("max_norm needs params: write optimizer.update(g, state, params).")

        def constrain(c, updates, params):
            return jax.tree_util.tree_map_with_path(
                lambda path, u, w: u if _is_variance(path) else _shorten(u, w, c, axis),
                updates,
                params,
            )

        return jax.tree.map(constrain, c, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _is_variance(path: tuple[Any, ...]) -> bool:
    return any("log_sigma2" in (getattr(k, "key", None), getattr(k, "name", None)) for k in path)


def _shorten(update: Array, weights: Array, c, axis) -> Array:
    """The update that ends on the ball; exactly `update` for the vectors that it leaves inside."""
    if weights.ndim < 2:
        return update
    axis = tuple(range(weights.ndim - 1)) if axis is None else axis
    end = weights + update
    wide = end.astype(wide_dtype(end))
    length = jnp.sqrt(jnp.sum(wide**2, axis=axis, keepdims=True))
    outside = length > c
    factor = jnp.where(outside, c / jnp.where(outside, length, 1), 1)
    return jnp.where(outside, (wide * factor - weights).astype(end.dtype), update)
