"""Gaussian noise layers: multiplicative (Gaussian dropout) and additive."""

from collections.abc import Sequence

from flax import nnx

from dropout_jax.layers.base import NoiseLayer, held
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

    def _noise(self, key: Key, x: Array) -> Array:
        return gaussian_dropout(key, x, self.rate, broadcast_dims=self.broadcast_dims)


class GaussianNoise(NoiseLayer):
    r"""`dropout_jax.gaussian_noise` as a layer.

    $$y = x + \text{stddev} \odot \epsilon, \qquad \epsilon_i \sim N(0, 1).$$

    Args:
      stddev: standard deviation, in the inputs' units, >= 0: a Python number, a traced scalar, or
        an array that broadcasts against the draw.
      broadcast_dims: axes that share one draw.
      options: `deterministic`, `rng_collection` and `rngs`, as for `Dropout`.

    Raises:
      TypeError: `rngs` of another type.

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
        self.stddev = held(stddev)
        self.broadcast_dims = broadcast_dims

    def __call__(
        self,
        inputs: Array,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | Key | None = None,
    ) -> Array:
        """Add noise to the inputs, or return them as they are when deterministic.

        Args:
          inputs, deterministic, rngs: as for `Dropout`.

        Returns:
          An array of the inputs' shape and dtype.

        Raises:
          TypeError, ValueError: as `Dropout`; ValueError for a negative stddev.
        """
        if self._is_off(self.stddev, deterministic):
            return inputs
        key = self._next_key(rngs)
        return gaussian_noise(key, inputs, self.stddev, broadcast_dims=self.broadcast_dims)
