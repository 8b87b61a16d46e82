"""What the layers of noise share: whether noise is drawn, and from which random stream."""

import jax
import jax.numpy as jnp
from flax import nnx

from dropout_jax._checks import is_static
from dropout_jax.typing import Key, Rate


class NoiseLayer(nnx.Module):
    """The switch `deterministic` and a random stream, with the rules of `flax.nnx.Dropout`.

    It draws from the streams as often as Flax does: once when it is made, and once a call that has
    noise. `train()`, `eval()`, `set_attributes` and `nnx.view` set the switch.
    """

    def __init__(
        self,
        *,
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ):
        self.deterministic = deterministic
        self.rng_collection = rng_collection
        if rngs is None:
            self.rngs = nnx.data(None)
            return
        stream = rngs[rng_collection] if isinstance(rngs, nnx.Rngs) else rngs
        if not isinstance(stream, nnx.RngStream):
            raise TypeError(
                f"rngs is {type(rngs).__name__}; write rngs=nnx.Rngs(0) or one of its streams."
            )
        self.rngs = stream.fork()

    def set_view(self, deterministic: bool | None = None):
        """Class method used by `nnx.view`.

        Args:
          deterministic: True for no noise.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def _is_off(self, amount: Rate, deterministic: bool | None) -> bool:
        """True where no noise is drawn: in a deterministic call, and where the amount is 0."""
        deterministic = self.deterministic if deterministic is None else deterministic
        if deterministic is None:
            name = type(self).__name__
            raise ValueError(
                f"deterministic was given neither to {name} nor to this call; write "
                f"{name}(..., deterministic=False), or layer(x, deterministic=True), or "
                "nnx.view(model, deterministic=True)."
            )
        return deterministic or (is_static(amount) and amount == 0)

    def _next_key(self, rngs: nnx.Rngs | nnx.RngStream | Key | None) -> Key:
        """The call's key: from its `rngs`, or else from the layer's own stream."""
        rngs = self.rngs if rngs is None else rngs
        if isinstance(rngs, nnx.Rngs):
            return rngs[self.rng_collection]()
        if isinstance(rngs, nnx.RngStream):
            return rngs()
        if isinstance(rngs, jax.Array):
            return typed(rngs)
        if rngs is None:
            name = type(self).__name__
            raise ValueError(
                f"rngs was given neither to {name} nor to this call; write "
                f"{name}(..., rngs=nnx.Rngs(0)), or layer(x, rngs=jax.random.key(0)), or, for no "
                "noise, layer(x, deterministic=True)."
            )
        raise TypeError(
            f"rngs is {type(rngs).__name__}; write nnx.Rngs(0), one of its streams, or "
            "jax.random.key(0)."
        )


def check_rngs(rngs: nnx.Rngs) -> nnx.Rngs:
    """Return `rngs`, or raise if it cannot give a layer its weights."""
    if not isinstance(rngs, nnx.Rngs):
        raise TypeError(f"rngs is {type(rngs).__name__}; write rngs=nnx.Rngs(0).")
    return rngs


def typed(key: Key) -> Key:
    """The key, wrapped if it is a legacy one, which users of Flax still write."""
    return jax.random.wrap_key_data(key) if key.dtype == jnp.uint32 else key


def held(amount: Rate) -> Rate:
    """A rate as a layer keeps it: a number as it is, an array in the module's state."""
    # Explicit, because Flax takes a tracer for static.
    return amount if is_static(amount) else nnx.data(jnp.asarray(amount))
