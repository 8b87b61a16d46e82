"""Alpha dropout for Flax NNX: AlphaDropout and FeatureAlphaDropout, for SELU networks."""

from dropout_jax.layers.dropout import Dropout
from dropout_jax.noise.alpha import alpha_dropout, feature_alpha_dropout
from dropout_jax.typing import Array, Key, Rate


class AlphaDropout(Dropout):
    r"""`dropout_jax.alpha_dropout` as a layer: for SELU networks, whose mean and variance it keeps.

    $$y = a\,(m \odot x + (1 - m)\,\alpha') + b, \qquad
      m_i \sim \text{Bernoulli}(1 - \text{rate}).$$

    Args:
      rate, broadcast_dims, deterministic, rng_collection, rngs: as for `Dropout`.

    Raises:
      TypeError, ValueError: as `Dropout`.

    Example:
      >>> from dropout_jax.layers import AlphaDropout
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> y = AlphaDropout(0.5, rngs=nnx.Rngs(0))(jnp.zeros(1000))
      >>> sorted({round(v, 2) for v in y.tolist()})
      [-0.78, 0.78]

    Source: Klambauer et al. 2017, "Self-Normalizing Neural Networks".
    """

    def noise(self, key: Key, inputs: Array) -> Array:
        """`dropout_jax.alpha_dropout` of the inputs."""
        return alpha_dropout(key, inputs, self.amount, broadcast_dims=self.broadcast_dims)


class FeatureAlphaDropout(Dropout):
    r"""`dropout_jax.feature_alpha_dropout` as a layer: alpha dropout of whole feature maps.

    The equation is that of `AlphaDropout`, with one draw a sample and channel of inputs
    (batch, ..., channel).

    Args:
      rate: as for `Dropout`; an array broadcasts against (batch, 1, ..., 1, channel).
      options: `deterministic`, `rng_collection` and `rngs`, as for `Dropout`.

    Raises:
      TypeError, ValueError: as `Dropout`.

    Example:
      >>> from dropout_jax.layers import FeatureAlphaDropout
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> y = FeatureAlphaDropout(0.5, rngs=nnx.Rngs(0))(jnp.ones((2, 4, 4, 8)))
      >>> bool((y == y[:, :1, :1]).all())
      True

    Source: Klambauer et al. 2017; shared as by Tompson et al. 2015.
    """

    def __init__(self, rate: Rate, **options):
        super().__init__(rate, broadcast_dims=(), **options)

    def noise(self, key: Key, inputs: Array) -> Array:
        """`dropout_jax.feature_alpha_dropout` of the inputs."""
        return feature_alpha_dropout(key, inputs, self.amount)
