"""GaussianDropout (multiplicative) and GaussianNoise (additive) for Flax NNX."""

from collections.abc import Sequence

from dropout_jax._checks import check_dims, check_positive
from dropout_jax.layers.base import NoiseLayer, held, value_of
from dropout_jax.layers.dropout import Dropout
from dropout_jax.noise.gaussian import gaussian_dropout, gaussian_noise
from dropout_jax.typing import Array, Key, Rate


class GaussianDropout(Dropout):
    r"""`dropout_jax.gaussian_dropout` as a layer.

    $$y = x \odot \xi, \qquad \xi_i \sim N\!\left(1, \frac{\text{rate}}{1 - \text{rate}}\right).$$

    Args:
      rate, broadcast_dims, deterministic, rng_collection, rngs: as for `Dropout`.

    Raises:
      TypeError, ValueError: as `Dropout`.

    Example:
      >>> from dropout_jax.layers import GaussianDropout
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> y = GaussianDropout(0.5, rngs=nnx.Rngs(0))(jnp.ones(1000))
      >>> bool(0.8 < y.mean() < 1.2), bool(0.8 < y.std() < 1.2)
      (True, True)

    Source: Srivastava et al. 2014, section 10.
    """

    def noise(self, key: Key, inputs: Array) -> Array:
        """`dropout_jax.gaussian_dropout` of the inputs."""
        return gaussian_dropout(key, inputs, self.amount, broadcast_dims=self.broadcast_dims)


class GaussianNoise(NoiseLayer):
    r"""`dropout_jax.gaussian_noise` as a layer.

    $$y = x + \text{stddev} \odot \epsilon, \qquad \epsilon_i \sim N(0, 1).$$

    Args:
      stddev: standard deviation, in the inputs' units, >= 0: a Python number, a traced scalar, or
        an array that broadcasts against the draw.
      broadcast_dims: axes that share one draw.
      options: `deterministic`, `rng_collection` and `rngs`, as for `Dropout`.

    Raises:
      TypeError: a stddev that is not a number; `rngs` of another type.
      ValueError: a concrete stddev under 0.

    Example:
      >>> from dropout_jax.layers import GaussianNoise
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> y = GaussianNoise(0.1, rngs=nnx.Rngs(0))(jnp.zeros(1000))
      >>> bool(0.08 < y.std() < 0.12)
      True

    Source: Bishop 1995, "Training with noise is equivalent to Tikhonov regularization".
    """

    def __init__(self, stddev: Rate, *, broadcast_dims: Sequence[int] = (), **options):
        super().__init__(**options)
        self.stddev = held(check_positive("stddev", stddev, 0.1, zero=True))
        self.broadcast_dims = check_dims(broadcast_dims)

    @property
    def amount(self) -> Rate:
        """The standard deviation."""
        return value_of(self.stddev)

    def noise(self, key: Key, inputs: Array) -> Array:
        """`dropout_jax.gaussian_noise` added to the inputs."""
        return gaussian_noise(key, inputs, self.amount, broadcast_dims=self.broadcast_dims)
