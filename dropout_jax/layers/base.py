"""Base class of noise layers for Flax NNX: the train/eval switch and the random stream."""

import jax
import jax.numpy as jnp
from flax import nnx

from dropout_jax._checks import check_key, is_static
from dropout_jax.typing import Array, Key, Rate


class Setting(nnx.Variable):
    """An array that a layer was made with, such as its rate: training does not change it."""


class NoiseLayer(nnx.Module):
    """Base class of the noise layers: a subclass says what noise does, and what its mean is.

    It has the switch `deterministic` and a random stream, with the rules of `flax.nnx.Dropout`: it
    draws from the streams once when it is made, and once a call that has noise. `train()`,
    `eval()`, `set_attributes` and `nnx.view` set the switch.

    Args:
      deterministic: True for no noise; None leaves it to the call.
      rng_collection: the stream of `rngs` to draw from.
      rngs: `nnx.Rngs` or `nnx.RngStream`; None leaves it to the call.

    Raises:
      TypeError: `rngs` of another type.

    Example:
      >>> from dropout_jax.layers import NoiseLayer
      >>> from flax import nnx
      >>> import jax, jax.numpy as jnp
      >>> class SignFlip(NoiseLayer):
      ...     def noise(self, key, inputs):
      ...         return inputs * jax.random.rademacher(key, inputs.shape, inputs.dtype)
      ...     def mean(self, inputs):
      ...         return 0 * inputs
      >>> layer = SignFlip(rngs=nnx.Rngs(0))
      >>> sorted(set(layer(jnp.ones(100)).tolist()))
      [-1.0, 1.0]
      >>> layer.eval()
      >>> layer(jnp.ones(2)).tolist()
      [0.0, 0.0]

    Source: `flax.nnx.Dropout`, whose rules for modes and streams it follows.
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

    def __call__(
        self,
        inputs: Array,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | Key | None = None,
    ) -> Array:
        """Noise on the inputs, or its mean when deterministic.

        Args:
          inputs: floating-point.
          deterministic: goes before the constructor's.
          rngs: a source of keys or one key; goes before the constructor's.

        Returns:
          An array; of the inputs' shape and dtype, but for layers with weights.

        Raises:
          TypeError: inputs that are not floating-point; `rngs` of another type.
          ValueError: `deterministic` or `rngs` given neither here nor to the constructor; inputs of
            a shape that the layer does not take.
        """
        if self._is_off(deterministic):
            return self.mean(inputs)
        return self.noise(self._next_key(rngs), inputs)

    def noise(self, key: Key, inputs: Array) -> Array:
        """The output with noise drawn from `key`: for a subclass to write."""
        raise NotImplementedError(f"{type(self).__name__} needs a method noise(self, key, inputs).")

    def mean(self, inputs: Array) -> Array:
        """The output when deterministic; the inputs, unless a subclass says otherwise."""
        return inputs

    @property
    def amount(self) -> Rate:
        """How much noise there is: where it is the number 0, none is drawn."""
        return 1

    def set_view(self, deterministic: bool | None = None):
        """Class method used by `nnx.view`.

        Args:
          deterministic: True for no noise.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def _is_off(self, deterministic: bool | None) -> bool:
        """True where no noise is drawn: in a deterministic call, and where the amount is 0."""
        deterministic = self.deterministic if deterministic is None else deterministic
        if deterministic is None:
            name = type(self).__name__
            raise ValueError(
                f"No `deterministic` argument was provided to {name}, neither to the layer nor to "
                f"this call; write {name}(..., deterministic=False), or layer(x, "
                "deterministic=True), or nnx.view(model, deterministic=True)."
            )
        return deterministic or (is_static(self.amount) and float(self.amount) == 0)

    def _next_key(self, rngs: nnx.Rngs | nnx.RngStream | Key | None) -> Key:
        """The call's key: from its `rngs`, or else from the layer's own stream."""
        rngs = self.rngs if rngs is None else rngs
        if isinstance(rngs, nnx.Rngs):
            return rngs[self.rng_collection]()
        if isinstance(rngs, nnx.RngStream):
            return rngs()
        if isinstance(rngs, jax.Array):
            return check_key(rngs)
        if rngs is None:
            name = type(self).__name__
            raise ValueError(
                f"`deterministic` is False, but no `rngs` argument was provided to {name}, neither "
                f"to the layer nor to this call; write {name}(..., rngs=nnx.Rngs(0)), or layer(x, "
                "rngs=jax.random.key(0)), or, for no noise, layer(x, deterministic=True)."
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


def held(value: Rate) -> Rate | Setting:
    """A rate as a layer keeps it: a number as it is, an array in a variable of the module."""
    return value if is_static(value) else Setting(jnp.asarray(value))


def value_of(setting: Rate | Setting) -> Rate:
    """A rate as the functions take it."""
    return setting[...] if isinstance(setting, nnx.Variable) else setting
