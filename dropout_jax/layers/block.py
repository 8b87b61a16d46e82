"""DropBlock for Flax NNX: drop blocks of feature maps in one, two or three dimensions."""

from collections.abc import Sequence

from dropout_jax.layers.dropout import Dropout
from dropout_jax.noise.block import check_block, drop_block
from dropout_jax.typing import Array, Key, Rate


class DropBlock(Dropout):
    r"""`dropout_jax.drop_block` as a layer: contiguous blocks of a feature map dropped together.

    $$y = \frac{M}{\text{mean}(M)} \odot x,$$
    where M is 0 on blocks that cover a share `rate` of the map on average, for inputs
    (batch, length, channel), (batch, height, width, channel) or (batch, depth, height, width,
    channel).

    Args:
      rate: expected share dropped, in [0, 1]: a Python number or a traced scalar.
      block_size: side of a block, in elements; or a tuple with one for each side of the map.
      broadcast_dims: the batch's or the channels' axis, to share a draw.
      options: `deterministic`, `rng_collection` and `rngs`, as for `Dropout`.

    Raises:
      TypeError, ValueError: as `Dropout`; ValueError for a block_size that is not made of whole
        numbers over 0; when called, as `dropout_jax.drop_block`.

    Example:
      >>> from dropout_jax.layers import DropBlock
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> y = DropBlock(0.3, block_size=3, rngs=nnx.Rngs(0))(jnp.ones((8, 12, 12, 4)))
      >>> bool(jnp.isclose(y.mean(), 1, atol=1e-3))
      True

    Source: Ghiasi et al. 2018.
    """

    def __init__(self, rate: Rate, *, block_size: int | Sequence[int], **options):
        super().__init__(rate, **options)
        self.block_size = check_block(block_size)

    def noise(self, key: Key, inputs: Array) -> Array:
        """`dropout_jax.drop_block` of the inputs."""
        dims = self.broadcast_dims
        size = self.block_size
        return drop_block(key, inputs, self.amount, block_size=size, broadcast_dims=dims)
