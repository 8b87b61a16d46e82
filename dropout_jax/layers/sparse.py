"""A linear layer that learns which of its weights it needs."""

import jax.numpy as jnp
from flax import nnx

from dropout_jax._checks import check_dense
from dropout_jax.layers.base import NoiseLayer
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
        if not isinstance(rngs, nnx.Rngs):
            raise TypeError(f"rngs is {type(rngs).__name__}; write rngs=nnx.Rngs(0).")
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

    def __call__(
        self,
        inputs: Array,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | Key | None = None,
    ) -> Array:
        """The outputs: drawn, or from the kept weights alone when deterministic.

        Args:
          inputs: floating-point (..., in_features).
          deterministic, rngs: as for `Dropout`.

        Returns:
          (..., out_features).

        Raises:
          TypeError, ValueError: as `Dropout`, and if the last axis has another size.
        """
        kernel, log_sigma2 = self.kernel[...], self.log_sigma2[...]
        off = self._is_off(log_sigma2, deterministic)
        if off or self.prune_in_training:
            kernel = jnp.where(self.mask(), kernel, 0)
        if off:
            inputs, kernel = check_dense(inputs, kernel)
            y = inputs @ kernel
        else:
            y = sparse_dense(self._next_key(rngs), inputs, kernel, log_sigma2)
        return y if self.bias is None else y + jnp.broadcast_to(self.bias[...], y.shape)

    def kl(self) -> Array:
        """`dropout_jax.sparse_kl`, summed over the weights: a scalar."""
        return sparse_kl(sparse_log_alpha(self.kernel[...], self.log_sigma2[...])).sum()
