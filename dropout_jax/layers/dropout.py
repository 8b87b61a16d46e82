"""Dropout for Flax NNX: a drop-in replacement for flax.nnx.Dropout."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx

from dropout_jax._checks import check_dims, check_rate, is_static
from dropout_jax.layers.base import NoiseLayer, held, value_of
from dropout_jax.noise.dropout import dropout
from dropout_jax.typing import Array, Key, Rate


class Dropout(NoiseLayer, nnx.Dropout):
    r"""`dropout_jax.dropout` as a layer that takes the arguments and calls of `flax.nnx.Dropout`.

    $$y = m \odot x / (1 - \text{rate}), \qquad m_i \sim \text{Bernoulli}(1 - \text{rate}),$$
    and y = x when deterministic. It is an `nnx.Dropout`, so that filters by type find it, and it
    draws from the random streams as often: once when it is made and once a call, but not in a call
    that is deterministic or whose rate is the number 0 or 1.

    Beyond Flax the rate may be an array: then it is a variable of the module, to map or scan over,
    or to change (`layer.rate[...] = new`) without compiling again.

    Args:
      rate: probability of dropping, in [0, 1]: a Python number (static), a traced scalar, or an
        array that broadcasts against the inputs.
      broadcast_dims: axes that share one draw.
      deterministic: True for no dropout; None leaves it to the call.
      rng_collection: the stream of `rngs` to draw from.
      rngs: `nnx.Rngs` or `nnx.RngStream`; None leaves it to the call.

    Raises:
      TypeError: a rate that is not a number; `rngs` or broadcast_dims of another type.
      ValueError: a concrete rate outside [0, 1].

    Example:
      >>> from dropout_jax.layers import Dropout
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> layer = Dropout(0.5, rngs=nnx.Rngs(0))
      >>> sorted(set(layer(jnp.ones(1000)).tolist()))
      [0.0, 2.0]
      >>> layer.eval()
      >>> layer(jnp.ones(2)).tolist()
      [1.0, 1.0]

    Source: Srivastava et al. 2014, section 4, with the scaling of section 10.
    """

    def __init__(
        self,
        rate: Rate,
        *,
        broadcast_dims: Sequence[int] = (),
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ):
        super().__init__(deterministic=deterministic, rng_collection=rng_collection, rngs=rngs)
        self.rate = held(check_rate(rate))
        self.broadcast_dims = check_dims(broadcast_dims)

    @property
    def amount(self) -> Rate:
        """The rate."""
        return value_of(self.rate)

    def __call__(
        self,
        inputs: Array,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | Key | None = None,
    ) -> Array:
        """Drop elements of the inputs, or return them as they are when deterministic.

        Args:
          inputs: floating-point, any shape.
          deterministic: goes before the constructor's.
          rngs: a source of keys or one key; goes before the constructor's.

        Returns:
          An array of the inputs' shape and dtype.

        Raises:
          TypeError: inputs that are not floating-point; `rngs` of another type.
          ValueError: `deterministic` or `rngs` given neither here nor to the constructor; an axis
            of broadcast_dims out of range or repeated.
        """
        if is_static(self.amount) and self.amount == 1 and not self._is_off(deterministic):
            return jnp.zeros_like(self.mean(inputs))  # Flax needs no rngs here, nor do we
        return super().__call__(inputs, deterministic=deterministic, rngs=rngs)

    def noise(self, key: Key, inputs: Array) -> Array:
        """`dropout_jax.dropout` of the inputs."""
        return dropout(key, inputs, self.amount, broadcast_dims=self.broadcast_dims)
