"""Other ways of sharing a draw as Flax NNX layers: channels, residual branches, blocks."""

from typing import Literal

import jax.numpy as jnp
from flax import nnx

from dropout_jax._typing import Array, Key, Rate
from dropout_jax.layers.dropout import Dropout
from dropout_jax.noise.block import drop_block
from dropout_jax.noise.path import drop_path


class _SpatialDropout(Dropout):
    _axes: tuple[str, ...]

    def __init__(self, rate: Rate, **options):
        super().__init__(rate, broadcast_dims=tuple(range(1, 1 + len(self._axes))), **options)

    def __call__(
        self,
        inputs: Array,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | Key | None = None,
    ) -> Array:
        """As `Dropout`; ValueError for inputs of another rank."""
        if jnp.ndim(inputs) != len(self._axes) + 2:
            raise ValueError(
                f"the inputs have shape {jnp.shape(inputs)}; {type(self).__name__} takes (batch, "
                f"{', '.join(self._axes)}, channel): write x[None] for one sample."
            )
        return super().__call__(inputs, deterministic=deterministic, rngs=rngs)


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


class DropPath(Dropout):
    r"""`dropout_jax.drop_path` as a layer: a residual branch dropped whole (stochastic depth).

    $$y = m\,x / (1 - \text{rate}), \qquad m \sim \text{Bernoulli}(1 - \text{rate}),$$
    with one m a sample, or one for all. A residual block is `skip + drop_path(branch)`.

    Args:
      rate: as for `Dropout`; an array broadcasts against (batch, 1, ..., 1).
      per: "sample", one draw a sample; or "batch", one draw for all, as in the paper.
      options: `deterministic`, `rng_collection` and `rngs`, as for `Dropout`.

    Raises:
      TypeError: as `Dropout`.
      ValueError: as `Dropout`; an unknown `per`; when called, inputs without a batch axis.

    Example:
      >>> from dropout_jax.layers import DropPath
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> y = DropPath(0.5, rngs=nnx.Rngs(0))(jnp.ones((100, 3)))
      >>> sorted(set(map(tuple, y.tolist())))
      [(0.0, 0.0, 0.0), (2.0, 2.0, 2.0)]

    Source: Huang et al. 2016, scaled in training.
    """

    def __init__(self, rate: Rate, *, per: Literal["sample", "batch"] = "sample", **options):
        super().__init__(rate, broadcast_dims=(), **options)
        if per not in ("sample", "batch"):
            raise ValueError(f"per is {per!r}; write 'sample' or 'batch'.")
        self.per = per

    def _noise(self, key: Key, x: Array) -> Array:
        return drop_path(key, x, self.rate, per=self.per)


class DropBlock(Dropout):
    r"""`dropout_jax.drop_block` as a layer: contiguous blocks of a feature map dropped together.

    $$y = \frac{M}{\text{mean}(M)} \odot x,$$
    with M 0 on blocks that cover a share `rate` of the map on average, for inputs
    (batch, length, channel) or (batch, height, width, channel).

    Args:
      rate: expected share dropped, in [0, 1]: a Python number or a traced scalar.
      block_size: side of a block, in elements.
      broadcast_dims: the batch's or the channels' axis, to share a draw.
      options: `deterministic`, `rng_collection` and `rngs`, as for `Dropout`.

    Raises:
      TypeError, ValueError: as `Dropout`; when called, as `dropout_jax.drop_block`.

    Example:
      >>> from dropout_jax.layers import DropBlock
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> y = DropBlock(0.3, block_size=3, rngs=nnx.Rngs(0))(jnp.ones((8, 12, 12, 4)))
      >>> bool(jnp.isclose(y.mean(), 1))
      True

    Source: Ghiasi et al. 2018.
    """

    def __init__(self, rate: Rate, *, block_size: int, **options):
        super().__init__(rate, **options)
        self.block_size = block_size

    def _noise(self, key: Key, x: Array) -> Array:
        dims = self.broadcast_dims
        return drop_block(key, x, self.rate, block_size=self.block_size, broadcast_dims=dims)
