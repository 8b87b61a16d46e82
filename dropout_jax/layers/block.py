"""DropBlock as a layer: drop squares of feature maps."""

from dropout_jax.layers.dropout import Dropout
from dropout_jax.noise.block import drop_block
from dropout_jax.typing import Array, Key, Rate


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
