"""Dropout for Flax Linen: a drop-in replacement for flax.linen.Dropout."""

import flax.linen as nn
import jax.numpy as jnp

from dropout_jax._checks import check_rate, is_static
from dropout_jax.noise.dropout import dropout
from dropout_jax.typing import Array, Key


class Dropout(nn.Dropout):
    r"""`dropout_jax.dropout` as a module with the arguments and calls of `flax.linen.Dropout`.

    $$y = m \odot x / (1 - \text{rate}), \qquad m_i \sim \text{Bernoulli}(1 - \text{rate}),$$
    and y = x when deterministic. Its keys come from `make_rng`, once a call, but not in a call that
    is deterministic or whose rate is the number 0 or 1. Beyond Flax the rate may be traced or an
    array.

    Args:
      rate: probability of dropping, in [0, 1]: a Python number, a traced scalar, or an array that
        broadcasts against the inputs.
      broadcast_dims: axes that share one draw.
      deterministic: True for no dropout; give it here or in the call, not in both.
      rng_collection: the name of the keys in `rngs`.

    Raises:
      TypeError, ValueError: when called, see there.

    Example:
      >>> from dropout_jax.linen import Dropout
      >>> import jax, jax.numpy as jnp
      >>> layer = Dropout(0.5, deterministic=False)
      >>> y = layer.apply({}, jnp.ones(1000), rngs={"dropout": jax.random.key(0)})
      >>> sorted(set(y.tolist()))
      [0.0, 2.0]

    Source: Srivastava et al. 2014, section 4, with the scaling of section 10.
    """

    @nn.compact
    def __call__(
        self, inputs: Array, deterministic: bool | None = None, rng: Key | None = None
    ) -> Array:
        """Drop elements of the inputs, or return them as they are when deterministic.

        Args:
          inputs: floating-point, any shape.
          deterministic: unless it was given to the constructor.
          rng: a key, typed or legacy; by default `make_rng(rng_collection)`.

        Returns:
          An array of the inputs' shape and dtype.

        Raises:
          TypeError: a rate that is not a number; inputs that are not floating-point.
          ValueError: a concrete rate outside [0, 1]; `deterministic` given twice or not at all; an
            axis of broadcast_dims out of range or repeated.
          flax.errors.InvalidRngError: no rng, and none in `rngs` under `rng_collection`.
        """
        return drop(self, inputs, deterministic, rng)


def drop(
    module: nn.Dropout, inputs: Array, deterministic: bool | None = None, rng: Key | None = None
) -> Array:
    """What a call of a Dropout module returns: of ours, or of Flax's that is replaced."""
    static = is_static(check_rate(module.rate))
    deterministic = nn.merge_param("deterministic", module.deterministic, deterministic)
    if (static and module.rate == 0) or deterministic:
        return inputs
    if static and module.rate == 1:
        return jnp.zeros_like(inputs)
    key = module.make_rng(module.rng_collection) if rng is None else rng
    return dropout(key, inputs, module.rate, broadcast_dims=module.broadcast_dims)
