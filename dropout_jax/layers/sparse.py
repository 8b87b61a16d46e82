"""Sparse variational dropout for Flax NNX: a linear layer that learns which weights to prune."""

import jax.numpy as jnp
from flax import nnx

from dropout_jax._checks import check_dense
from dropout_jax.layers.base import NoiseLayer, check_rngs
from dropout_jax.noise.sparse import sparse_dense, sparse_kl, sparse_log_alpha, sparse_mask
from dropout_jax.typing import Array, Key

_LECUN_NORMAL = nnx.initializers.lecun_normal()


class SparseLinear(NoiseLayer):
    r"""A linear layer that learns which of its weights it needs: `dropout_jax.sparse_dense`.

    $$y \sim N\!\left(x W,\; (x \odot x)\,\sigma^2\right) + b, \qquad
      y = x\,(m \odot W) + b \text{ when deterministic,}$$
    where m drops the weights with log alpha over a threshold, alpha = sigma^2 / W^2. Add
    `total_kl(model)` over the number of training examples to the loss.

    Attributes:
      kernel, log_sigma2: `nnx.Param`s (in_features, out_features).
      bias: an `nnx.Param` (out_features,), or None.

    Args:
      in_features, out_features: the sizes of the last axis of the inputs and outputs.
      use_bias: False for no b.
      kernel_init: the initialiser of W; b starts at 0.
      log_sigma2: the value to begin with.
      threshold: log alpha over which a weight is dropped.
      prune_in_training: drop these weights in training too, but not their noise, which lets a
        weight that is needed come back.
      deterministic, rng_collection: as for `Dropout`.
      rngs: `nnx.Rngs`; the stream "params" or the default one, and `rng_collection`.

    Raises:
      TypeError: `rngs` of another type.

    Example:
      >>> from dropout_jax.layers import SparseLinear
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> layer = SparseLinear(8, 3, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 8))).shape, layer.mask().all().item()
      ((2, 3), True)

    Source: Molchanov, Ashukha and Vetrov 2017, "Variational Dropout Sparsifies Deep Neural
    Networks", with the threshold, the start and the pruning in training (`train_clip`) of their
    code.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        kernel_init: nnx.Initializer = _LECUN_NORMAL,
        log_sigma2: float = -10.0,
        threshold: float = 3.0,
        prune_in_training: bool = False,
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: nnx.Rngs,
    ):
        check_rngs(rngs)
        super().__init__(deterministic=deterministic, rng_collection=rng_collection, rngs=rngs)
        linear = nnx.Linear(
            in_features, out_features, use_bias=use_bias, kernel_init=kernel_init, rngs=rngs
        )
        self.kernel, self.bias = linear.kernel, linear.bias
        self.log_sigma2 = nnx.Param(jnp.full((in_features, out_features), log_sigma2, jnp.float32))
        self.threshold = threshold
        self.prune_in_training = prune_in_training

    def mask(self) -> Array:
        """The weights that are kept: booleans (in_features, out_features)."""
        log_alpha = sparse_log_alpha(self.kernel[...], self.log_sigma2[...])
        return sparse_mask(log_alpha, threshold=self.threshold)

    def mean(self, inputs: Array) -> Array:
        """The outputs from the kept weights alone: (..., out_features)."""
        inputs, kernel = check_dense(inputs, self._kept())
        return self._with_bias(inputs @ kernel)

    def noise(self, key: Key, inputs: Array) -> Array:
        """Outputs drawn by `dropout_jax.sparse_dense`: (..., out_features)."""
        kernel = self._kept() if self.prune_in_training else self.kernel[...]
        return self._with_bias(sparse_dense(key, inputs, kernel, self.log_sigma2[...]))

    def _kept(self) -> Array:
        return jnp.where(self.mask(), self.kernel[...], 0)

    def _with_bias(self, y: Array) -> Array:
        return y if self.bias is None else y + jnp.broadcast_to(self.bias[...], y.shape)

    def kl(self) -> Array:
        """`dropout_jax.sparse_kl`, summed over the weights: a scalar."""
        return sparse_kl(sparse_log_alpha(self.kernel[...], self.log_sigma2[...])).sum()
