"""The KL divergence of all learned noise layers of a model."""

import jax.numpy as jnp
from flax import nnx

from dropout_jax.layers.concrete import ConcreteDropout
from dropout_jax.layers.sparse import SparseLinear
from dropout_jax.layers.variational import VariationalDropout
from dropout_jax.typing import Array


def total_kl(model: nnx.Module) -> Array:
    r"""The sum of `kl()` over the learned layers of a model, to add to its loss.

    $$\text{loss} = \text{mean negative log likelihood} + \text{total\_kl} / N,$$
    for N training examples. A layer that is used at several places counts once.

    Args:
      model: an NNX module.

    Returns:
      A scalar; 0 for a model without such layers.

    Example:
      >>> from dropout_jax.layers import SparseLinear, total_kl
      >>> from flax import nnx
      >>> rngs = nnx.Rngs(0)
      >>> model = nnx.Sequential(SparseLinear(8, 3, rngs=rngs), SparseLinear(3, 2, rngs=rngs))
      >>> bool(total_kl(model) == model.layers[0].kl() + model.layers[1].kl())
      True

    Source: the papers of the layers; the bound of variational inference over N.
    """
    learned = (ConcreteDropout, VariationalDropout, SparseLinear)
    layers = [layer for _, layer in nnx.iter_modules(model) if isinstance(layer, learned)]
    return sum((layer.kl() for layer in layers), jnp.zeros(()))
