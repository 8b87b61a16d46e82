"""Dropout for Flax NNX, a drop-in for flax.nnx.Dropout."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from dropout_jax._typing import Array, Key, Rate, check_rate, is_static
from dropout_jax.dropout import dropout


class Dropout(nnx.Dropout):
    r"""`dropout_jax.dropout` as a layer that takes the arguments and calls of `flax.nnx.Dropout`.

    $$y = m \odot x / (1 - \text{rate}), \qquad m_i \sim \text{Bernoulli}(1 - \text{rate}),$$
    and y = x when deterministic. It is an `nnx.Dropout`, so that filters by type find it, and it
    draws from the random streams as often: once when it is made and once a call, but not in a call
    that is deterministic or whose rate is the number 0 or 1.

    Beyond Flax the rate may be an array: then it is part of the module's state, to map or scan
    over, or to replace (`layer.rate = new`) without compiling again.

    Args:
      rate: probability of dropping, in [0, 1]: a Python number (static), a traced scalar, or an
        array that broadcasts against the inputs.
      broadcast_dims: axes that share one draw.
      deterministic: True for no dropout; None leaves it to the call.
      rng_collection: the stream of `rngs` to draw from.
      rngs: `nnx.Rngs` or `nnx.RngStream`; None leaves it to the call.

    Raises:
      TypeError: a rate that is no number, or `rngs` of another type.
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
        super().__init__(
            check_rate(rate),
            broadcast_dims=broadcast_dims,
            deterministic=deterministic,
            rng_collection=rng_collection,
            rngs=rngs,
        )
        if not is_static(rate):
            self.rate = nnx.data(jnp.asarray(rate))  # explicit: Flax takes a tracer for static

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
        deterministic = self.deterministic if deterministic is None else deterministic
        if deterministic is None:
            raise ValueError(
                "deterministic was given neither to Dropout nor to this call; write "
                "Dropout(rate, deterministic=False), or layer(x, deterministic=True), or "
                "nnx.view(model, deterministic=True)."
            )
        static = is_static(self.rate)
        if (static and self.rate == 0) or deterministic:
            return inputs
        if static and self.rate == 1:
            return jnp.zeros_like(inputs)
        key = self._next_key(self.rngs if rngs is None else rngs)
        return dropout(key, inputs, self.rate, broadcast_dims=self.broadcast_dims)

    def _next_key(self, rngs: nnx.Rngs | nnx.RngStream | Key | None) -> Key:
        if isinstance(rngs, nnx.Rngs):
            return rngs[self.rng_collection]()
        if isinstance(rngs, nnx.RngStream):
            return rngs()
        if isinstance(rngs, jax.Array):
            return jax.random.wrap_key_data(rngs) if rngs.dtype == jnp.uint32 else rngs
        if rngs is None:
            raise ValueError(
                "rngs was given neither to Dropout nor to this call; write "
                "Dropout(rate, rngs=nnx.Rngs(0)), or layer(x, rngs=jax.random.key(0)), or, for no "
                "dropout, layer(x, deterministic=True)."
            )
        raise TypeError(
            f"rngs is {type(rngs).__name__}; write nnx.Rngs(0), one of its streams, or "
            "jax.random.key(0)."
        )
