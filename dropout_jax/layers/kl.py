"""KL divergence of the learned noise layers of a model (total_kl), to add to its loss."""

import functools

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dropout_jax.layers.base import NoiseLayer
from dropout_jax.typing import Array


def total_kl(model: nnx.Module) -> Array:
    r"""The sum of `kl()` over the learned layers of a model, to add to its loss.

    $$\text{loss} = \text{mean negative log likelihood} + \text{total\_kl} / N,$$
    for N training examples. A layer that is used at several places counts once; layers stacked by
    `nnx.vmap`, as for scan over layers, count each. Layers of your own count if they derive from
    `layers.NoiseLayer` and have a method `kl`.

    Args:
      model: an NNX module.

    Returns:
      A scalar, float32 or wider; 0 for a model without such layers.

    Example:
      >>> from dropout_jax.layers import SparseLinear, total_kl
      >>> from flax import nnx
      >>> rngs = nnx.Rngs(0)
      >>> model = nnx.Sequential(SparseLinear(8, 3, rngs=rngs), SparseLinear(3, 2, rngs=rngs))
      >>> bool(total_kl(model) == model.layers[0].kl() + model.layers[1].kl())
      True

    Source: the papers of the layers; the bound of variational inference over N.
    """
    kls = [
        kl()
        for _, layer in nnx.iter_modules(model)
        if isinstance(layer, NoiseLayer) and (kl := getattr(layer, "kl", None)) is not None
    ]
    dtype = functools.reduce(np.promote_types, (kl.dtype for kl in kls), np.dtype(np.float32))
    return sum((kl.astype(dtype) for kl in kls), jnp.zeros((), dtype))
