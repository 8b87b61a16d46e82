"""Stochastic depth (DropPath) for Flax NNX: drop whole residual branches."""

from typing import Literal

from dropout_jax._checks import check_choice
from dropout_jax.layers.dropout import Dropout
from dropout_jax.noise.path import drop_path
from dropout_jax.typing import Array, Key, Rate


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
        self.per = check_choice("per", per, "sample", "batch")

    def noise(self, key: Key, inputs: Array) -> Array:
        """`dropout_jax.drop_path` of the inputs."""
        return drop_path(key, inputs, self.amount, per=self.per)
