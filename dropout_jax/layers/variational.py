"""Variational dropout for Flax NNX: Gaussian noise with a learned variance for each feature."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from dropout_jax._checks import check_broadcasts, check_count, check_dims
from dropout_jax.layers.base import NoiseLayer
from dropout_jax.layers.concrete import check_inside
from dropout_jax.noise.variational import variational_dropout, variational_kl
from dropout_jax.typing import Array, Key


class VariationalDropout(NoiseLayer):
    r"""`dropout_jax.variational_dropout` with a variance for each feature, which is learned.

    $$y = x \odot \xi, \qquad \xi_j \sim N(1, \alpha_j), \qquad
      \alpha_j = \sigma(\text{logit } \alpha_j),$$
    and y = x when deterministic. The logit is the parameter, so that alpha stays under 1, as the
    paper asks, and no gradient stops there. Add `total_kl(model)` over the number of training
    examples to the loss.

    Attributes:
      logit_alpha: an `nnx.Param` (features,).

    Args:
      features: the size of the inputs' last axis.
      rate: that of the dropout with the variance to begin with, alpha = rate / (1 - rate); in
        (0, 0.5).
      broadcast_dims: axes of the inputs that share one draw.
      deterministic, rng_collection, rngs: as for `Dropout`.

    Raises:
      TypeError: `rngs` of another type.
      ValueError: a rate outside (0, 0.5); features that are not a whole number over 0.

    Example:
      >>> from dropout_jax.layers import VariationalDropout
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> layer = VariationalDropout(8, rate=0.2, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 8))).shape, round(float(jnp.exp(layer.log_alpha[0])), 3)
      ((2, 8), 0.25)

    Source: Kingma, Salimans and Welling 2015, "Variational Dropout and the Local
    Reparameterization Trick": type A, with an alpha for each unit.
    """

    def __init__(
        self,
        features: int,
        rate: float = 0.2,
        *,
        broadcast_dims: Sequence[int] = (),
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ):
        super().__init__(deterministic=deterministic, rng_collection=rng_collection, rngs=rngs)
        first = check_inside(rate, 0.5)
        logit_alpha = jnp.log(first) - jnp.log1p(-2 * first)  # alpha = rate / (1 - rate)
        shape = (check_count("features", features, 128),)
        self.logit_alpha = nnx.Param(jnp.full(shape, logit_alpha))
        self.broadcast_dims = check_dims(broadcast_dims)

    @property
    def log_alpha(self) -> Array:
        """The logarithm of the noise's variance, (features,)."""
        return jax.nn.log_sigmoid(self.logit_alpha[...])

    def mean(self, inputs: Array) -> Array:
        """The inputs."""
        check_broadcasts("log_alpha", self.log_alpha.shape, jnp.shape(inputs))
        return inputs

    def noise(self, key: Key, inputs: Array) -> Array:
        """`dropout_jax.variational_dropout` of the inputs."""
        return variational_dropout(key, inputs, self.log_alpha, broadcast_dims=self.broadcast_dims)

    def kl(self) -> Array:
        """`dropout_jax.variational_kl`, summed over the features: a scalar."""
        return variational_kl(self.log_alpha).sum()
