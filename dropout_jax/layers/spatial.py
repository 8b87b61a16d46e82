"""Spatial dropout (SpatialDropout1D to 3D) for Flax NNX: drop whole feature maps."""

import jax.numpy as jnp

from dropout_jax.layers.dropout import Dropout
from dropout_jax.typing import Array, Key, Rate


class _SpatialDropout(Dropout):
    _axes: tuple[str, ...]

    def __init__(self, rate: Rate, **options):
        super().__init__(rate, broadcast_dims=tuple(range(1, 1 + len(self._axes))), **options)

    def noise(self, key: Key, inputs: Array) -> Array:
        """Dropout of whole channels."""
        return super().noise(key, self._checked(inputs))

    def mean(self, inputs: Array) -> Array:
        """The inputs."""
        return self._checked(inputs)

    def _checked(self, inputs: Array) -> Array:
        if jnp.ndim(inputs) != len(self._axes) + 2:
            raise ValueError(
                f"the inputs have shape {jnp.shape(inputs)}; {type(self).__name__} takes (batch, "
                f"{', '.join(self._axes)}, channel): write x[None] for one sample."
            )
        return inputs


class SpatialDropout1D(_SpatialDropout):
    r"""Dropout of whole channels of a sequence: `Dropout` with broadcast_dims=(1,).

    $$y_{n t c} = m_{n c}\, x_{n t c} / (1 - \text{rate}), \qquad
      m_{n c} \sim \text{Bernoulli}(1 - \text{rate}).$$

    Args:
      rate: as for `Dropout`; an array broadcasts against (batch, 1, channel).
      options: `deterministic`, `rng_collection` and `rngs`, as for `Dropout`.

    Raises:
      TypeError: as `Dropout`.
      ValueError: as `Dropout`; when called, inputs that are not (batch, length, channel).

    Example:
      >>> from dropout_jax.layers import SpatialDropout1D
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> y = SpatialDropout1D(0.5, rngs=nnx.Rngs(0))(jnp.ones((2, 10, 8)))
      >>> bool((y == y[:, :1]).all())
      True

    Source: Tompson et al. 2015.
    """

    _axes = ("length",)


class SpatialDropout2D(_SpatialDropout):
    r"""Dropout of whole feature maps: `Dropout` with broadcast_dims=(1, 2).

    The equation is that of `SpatialDropout1D`, with one draw a sample and channel.

    Args:
      rate: as for `Dropout`; an array broadcasts against (batch, 1, 1, channel).
      options: `deterministic`, `rng_collection` and `rngs`, as for `Dropout`.

    Raises:
      TypeError: as `Dropout`.
      ValueError: as `Dropout`; when called, inputs that are not (batch, height, width, channel).

    Example:
      >>> from dropout_jax.layers import SpatialDropout2D
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> y = SpatialDropout2D(0.5, rngs=nnx.Rngs(0))(jnp.ones((2, 4, 4, 8)))
      >>> bool((y == y[:, :1, :1]).all())
      True

    Source: Tompson et al. 2015.
    """

    _axes = ("height", "width")


class SpatialDropout3D(_SpatialDropout):
    r"""Dropout of whole volumes: `Dropout` with broadcast_dims=(1, 2, 3).

    The equation is that of `SpatialDropout1D`, with one draw a sample and channel.

    Args:
      rate: as for `Dropout`; an array broadcasts against (batch, 1, 1, 1, channel).
      options: `deterministic`, `rng_collection` and `rngs`, as for `Dropout`.

    Raises:
      TypeError: as `Dropout`.
      ValueError: as `Dropout`; when called, inputs that are not (batch, depth, height, width,
        channel).

    Example:
      >>> from dropout_jax.layers import SpatialDropout3D
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> y = SpatialDropout3D(0.5, rngs=nnx.Rngs(0))(jnp.ones((2, 3, 4, 4, 8)))
      >>> bool((y == y[:, :1, :1, :1]).all())
      True

    Source: Tompson et al. 2015, for two axes.
    """

    _axes = ("depth", "height", "width")
