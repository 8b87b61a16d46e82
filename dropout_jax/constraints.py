"""Max-norm regularisation: keep the length of every unit's incoming weights at or under c."""

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dropout_jax._arrays import safe_sqrt
from dropout_jax._checks import is_traced, wide_dtype
from dropout_jax._weights import incoming_axes, is_weight, name_of, of_each_leaf, place_of
from dropout_jax.typing import Array


def max_norm(c: Any, axis: Any = None) -> optax.GradientTransformation:
    r"""Project every unit's incoming weight vector onto the ball of radius c, after the update.

    $$w \leftarrow w + u, \qquad w \leftarrow w \cdot \min(1,\; c / \lVert w \rVert_2).$$
    Put it last in `optax.chain`: it sees the updated weights, and changes the update so that they
    end inside the ball. Biases, the scales of normalisations and the noise parameters of learned
    layers are never constrained, nor is anything with fewer than two axes. In the scaled convention
    the c of a layer whose input is kept with probability keep is keep times the paper's
    (`to_scaled_convention`).

    Args:
      c: the largest length, > 0: a number, a traced scalar, or a pytree prefix of the parameters
        with one for each subtree; `jnp.inf` leaves a subtree alone (the softmax layer, say). In
        `fit`, whose parameters are an `nnx.State`, that is `nnx.State({"linears": {0: 2.0, 1:
        jnp.inf}})`.
      axis: the axes of a kernel that lead into a unit: an integer or a tuple of them for all
        kernels, or a pytree prefix of the parameters with one for each subtree. By default (None)
        they are found for each kernel of Flax, by its name and its bias: (in,) of a linear layer,
        (height, width, in) of a convolution, (features,) of attention's queries, keys and values,
        (heads, depth) of its output. With a bias at its side a kernel may be stacked, as for scan
        over layers. An embedding's rows are its vectors: each is kept short, as in PyTorch. Write
        `axis` for kernels (out, in), a transposed kernel (`transpose_kernel=True`), and stacked
        kernels without a bias. In a recurrent cell each matrix has vectors of its own.

    Returns:
      An `optax.GradientTransformation`; its update needs `params`.

    Raises:
      TypeError: an `axis` that is no axis, nor a tuple or pytree of them.
      ValueError: a concrete c that is not positive; when updating, `params` missing, or a weight
        whose incoming axes are not known, such as Equinox's (out, in).

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp, optax
      >>> optimizer = optax.chain(optax.sgd(0.1), dj.max_norm(2.0))
      >>> params = {"kernel": jnp.full((4, 3), 10.0)}
      >>> grads = {"kernel": jnp.zeros((4, 3))}
      >>> updates, _ = optimizer.update(grads, optimizer.init(params), params)
      >>> jnp.linalg.norm(optax.apply_updates(params, updates)["kernel"], axis=0).round(5).tolist()
      [2.0, 2.0, 2.0]

    Source: Srivastava et al. 2014, section 5.1; Srebro & Shraibman 2005. Rows of embeddings: the
    `max_norm` of torch.nn.Embedding.
    """
    for value in jax.tree.leaves(c):
        if not is_traced(value) and not np.all(np.asarray(value) > 0):
            raise ValueError(f"max_norm got c = {value}; write a length above 0, such as 2.0.")
    for one in jax.tree.leaves(axis, is_leaf=_is_axes):
        if not _is_axes(one):
            raise TypeError(
                f"max_norm got axis = {one!r}; write an axis such as 0, a tuple of axes, or a "
                "pytree of them for parts of the parameters."
            )

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("max_norm needs params: write optimizer.update(g, state, params).")
        paths, structure = jax.tree_util.tree_flatten_with_path(params)
        biases = {place_of(p)[:-1]: w.shape for p, w in paths if name_of(p) in ("bias", "b")}
        short = [
            _constrain(path, u, w, c, axis, biases.get(place_of(path)[:-1]))
            for (path, w), u, c, axis in zip(
                paths,
                structure.flatten_up_to(updates),
                of_each_leaf(c, params),
                of_each_leaf(axis, params, _is_axes),
                strict=True,
            )
        ]
        return structure.unflatten(short), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _is_axes(node: Any) -> bool:
    """True for one choice of axes: None, an axis, or a sequence of them."""
    if isinstance(node, Iterable) and not isinstance(node, (str, dict)):
        return all(isinstance(one, Integral) for one in node)
    return node is None or isinstance(node, Integral)


def _constrain(path, update, weights, c, axis, bias: Sequence[int] | None) -> Array:
    free = not is_traced(c) and np.all(np.isinf(c))
    if free or not is_weight(path, weights):
        return update
    axis = incoming_axes(path, weights.shape, bias) if axis is None else axis
    return _shorten(update, weights, c, tuple(axis) if isinstance(axis, Iterable) else axis)


def _shorten(update: Array, weights: Array, c, axis) -> Array:
    """The update that ends on the ball; where a vector stays inside, exactly `update`."""
    wide = wide_dtype(weights)
    start = weights.astype(wide)
    end = (start + update.astype(wide)).astype(weights.dtype).astype(wide)
    length = safe_sqrt(jnp.sum((end * end.conj()).real, axis=axis, keepdims=True))
    c = jnp.asarray(c, length.dtype)
    outside = length > c
    factor = jnp.where(outside, c / jnp.where(outside, length, 1), 1)
    return jnp.where(outside, (end * factor - start).astype(update.dtype), update)
