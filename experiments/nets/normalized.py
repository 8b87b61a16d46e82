"""An MLP with batch normalisation and noise in every layer: the encoder of the ladder network.

Units are normalised, get noise, then a bias:

    z = normalise(W h),  h' = relu(z + additive noise + bias) x multiplicative noise

so that the noise is in proportion to the spread of a unit, whatever its weights. The output layer
is normalised too, and its logits have a scale that is learned. Additive noise is on the input and
on all layers, that of the output included; multiplicative noise on the input and the hidden layers.

Source: Rasmus et al. 2015, "Semi-Supervised Learning with Ladder Networks", section 4.1, and its
authors' code, which has weights of N(0, 1 / inputs) and no scale before a ReLU.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from flax import nnx

from dropout_jax import layers
from dropout_jax.layers.base import NoiseLayer
from dropout_jax.typing import Array

Law = Literal["additive", "gaussian", "bernoulli"]
_LAYERS = {
    "additive": layers.GaussianNoise,
    "gaussian": layers.GaussianDropout,
    "bernoulli": layers.Dropout,
}
_INIT = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")


class NormalizedMLP(nnx.Module):
    """ReLU layers of the given sizes, input and output included.

    Args:
      sizes: units of each layer.
      law: of the noise; additive noise is Gaussian, and "gaussian" multiplies.
      amount: standard deviation of additive noise, else the rate.
      input_amount: the same of the input's noise.
      rngs: for the weights and the noise.
    """

    def __init__(
        self, sizes: Sequence[int], *, law: Law, amount: float, input_amount: float, rngs: nnx.Rngs
    ):
        def noise(amount: float) -> NoiseLayer:
            return _LAYERS[law](amount, rngs=rngs)

        units, additive = sizes[1:], law == "additive"
        self.linears = nnx.List(
            nnx.Linear(n_in, n_out, use_bias=False, kernel_init=_INIT, rngs=rngs)
            for n_in, n_out in itertools.pairwise(sizes)
        )
        self.norms = nnx.List(
            nnx.BatchNorm(n, use_bias=False, use_scale=False, rngs=rngs) for n in units
        )
        self.biases = nnx.List(nnx.Param(jnp.zeros((1, n))) for n in units)
        self.scale = nnx.Param(jnp.ones((1, sizes[-1])))
        self.input_noise = noise(input_amount)
        self.before = nnx.List(noise(amount if additive else 0.0) for _ in units)
        self.after = nnx.List(noise(0.0 if additive else amount) for _ in units[1:])

    def __call__(self, x: Array) -> Array:
        """The logits (examples, classes) of x (examples, inputs)."""
        x = self.input_noise(x)
        for linear, norm, before, bias, after in zip(
            self.linears, self.norms, self.before, self.biases, [*self.after, None], strict=True
        ):
            x = before(norm(linear(x))) + bias[...]
            if after is not None:
                x = after(nnx.relu(x))
        return self.scale[...] * x
