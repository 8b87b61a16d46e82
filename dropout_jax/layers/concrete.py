"""Concrete dropout for Flax NNX: a layer that learns its dropout rate by gradient descent."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dropout_jax._checks import check_dims, check_positive, is_static, is_traced
from dropout_jax.layers.base import NoiseLayer, held, value_of
from dropout_jax.noise.concrete import check_temperature, concrete_dropout, concrete_kl
from dropout_jax.typing import Array, Key


class ConcreteDropout(NoiseLayer):
    r"""`dropout_jax.concrete_dropout` on the inputs of a layer, with one rate, which is learned.

    $$y = f(x \odot (1 - z) / (1 - r)), \qquad r = \sigma(\text{logit rate}),$$
    and y = f(x) when deterministic. It holds the layer f, since the prior of `kl` is over f's
    weights. Add `total_kl(model)` over the number of training examples to the loss.

    Attributes:
      layer: f.
      logit_rate: an `nnx.Param`, a scalar.

    Args:
      layer: f, a module with a `kernel` (..., in, out), such as `nnx.Linear` or `nnx.Conv`.
      rate: the rate to begin with, in (0, 1).
      length_scale: of the Gaussian prior over the weights, > 0.
      temperature: in (0, 1].
      broadcast_dims: axes of the inputs that share one draw; (1, 2) for the channels of images.
      deterministic, rng_collection, rngs: as for `Dropout`.

    Raises:
      TypeError: a layer without a kernel; `rngs` of another type.
      ValueError: a rate outside (0, 1); a length_scale that is not over 0, a temperature outside
        (0, 1].

    Example:
      >>> from dropout_jax.layers import ConcreteDropout
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> rngs = nnx.Rngs(0)
      >>> layer = ConcreteDropout(nnx.Linear(8, 3, rngs=rngs), rngs=rngs)
      >>> layer(jnp.ones((2, 8))).shape, round(float(layer.rate), 3)
      ((2, 3), 0.1)

    Source: Gal, Hron and Kendall 2017, "Concrete Dropout"; the defaults are those of their code's
    synthetic experiment.
    """

    def __init__(
        self,
        layer: nnx.Module,
        rate: float = 0.1,
        *,
        length_scale: float = 1e-4,
        temperature: float = 0.1,
        broadcast_dims: Sequence[int] = (),
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ):
        super().__init__(deterministic=deterministic, rng_collection=rng_collection, rngs=rngs)
        if getattr(layer, "kernel", None) is None:
            raise TypeError(
                f"layer is {type(layer).__name__}, without a kernel; write the layer that the "
                "noisy inputs feed, such as nnx.Linear(8, 3, rngs=rngs)."
            )
        self.layer: Any = layer  # any module with a kernel
        first = check_inside(rate, 1)
        self.logit_rate = nnx.Param(jnp.log(first) - jnp.log1p(-first))
        self.length_scale = held(check_positive("length_scale", length_scale, 0.01))
        self.temperature = held(check_temperature(temperature))
        self.broadcast_dims = check_dims(broadcast_dims)

    @property
    def rate(self) -> Array:
        """The rate, a scalar."""
        return jax.nn.sigmoid(self.logit_rate[...])

    def mean(self, inputs: Array) -> Array:
        """The layer's outputs."""
        return self.layer(inputs)

    def noise(self, key: Key, inputs: Array) -> Array:
        """The layer's outputs for noisy inputs."""
        noisy = concrete_dropout(
            key,
            inputs,
            self.logit_rate[...],
            temperature=value_of(self.temperature),
            broadcast_dims=self.broadcast_dims,
        )
        return self.layer(noisy)

    def kl(self) -> Array:
        """`dropout_jax.concrete_kl` of the layer: a scalar, the sum over stacked layers.

        Raises:
          ValueError: layers stacked along another axis of the kernel than the first.
        """
        kernel, logit_rate = self.layer.kernel[...], self.logit_rate[...]
        stack = logit_rate.shape  # () for a layer alone; nnx.vmap and scan over layers stack it
        if kernel.shape[: len(stack)] != stack:
            raise ValueError(
                f"the layers are stacked as {stack}, and the kernels have shape {kernel.shape}; "
                "stack them along the first axes: nnx.vmap(..., out_axes=0)."
            )
        units = inputs_of(self.layer, kernel.shape[len(stack) :])
        inputs = None if units == kernel.shape[-2] else units

        def one(kernel, logit_rate, length_scale):
            return concrete_kl(kernel, logit_rate, length_scale=length_scale, inputs=inputs)

        scale, of_each = value_of(self.length_scale), None
        if stack and not is_static(scale):
            scale, of_each = jnp.broadcast_to(scale, stack), 0
        for _ in stack:
            one = jax.vmap(one, (0, 0, of_each))
        return one(kernel, logit_rate, scale).sum()


def inputs_of(layer: nnx.Module, kernel: tuple[int, ...]) -> int:
    """How many units feed a layer, given its kernel's shape.

    A convolution's units are its channels. Kernels of grouped and of transposed convolutions, and
    of layers over several axes, have no axis of that size.
    """
    features = getattr(layer, "in_features", None)
    if features is None:
        return _einsum_inputs(layer, kernel) or kernel[-2]
    batch = getattr(layer, "batch_axis", {})  # LinearGeneral's: each has inputs of its own
    return math.prod(np.atleast_1d(features).tolist()) * math.prod(batch.values())


def _einsum_inputs(layer: nnx.Module, kernel: tuple[int, ...]) -> int | None:
    """For `nnx.Einsum`, the size of the kernel's axes that the inputs have too, or None."""
    equation = getattr(layer, "einsum_str", None) or ""
    inputs, _, weights = equation.replace(" ", "").partition("->")[0].partition(",")
    if len(weights) != len(kernel):
        return None
    return math.prod(size for axis, size in zip(weights, kernel, strict=True) if axis in inputs)


def check_inside(rate: float, upper: float) -> Array:
    """The rate to begin with, as an array; raise unless it lies between 0 and `upper`."""
    if not is_traced(rate) and not 0 < rate < upper:
        raise ValueError(
            f"rate is {rate}, and must lie between 0 and {upper}, both excluded, for it is learned "
            "from there; write 0.1."
        )
    return jnp.asarray(rate, jnp.float32)
