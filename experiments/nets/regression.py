"""Small networks for regression, in the units of the data, with the penalty of a prior."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx

from dropout_jax import layers
from dropout_jax.typing import Array

LENGTH_SCALE = 1e-2


class Net(nnx.Module):
    """A network in the units of the data, and how its weights are penalised."""

    def __init__(self, config, rate, tau, x, y, rngs):
        sizes = (x.shape[1], *(config.hidden,) * (2 if config.method == "two_layers" else 1), 1)
        if config.method == "concrete":
            model = Concrete(sizes, rngs=rngs)
        else:
            model = layers.MLP(
                sizes,
                rates=(rate,) * (len(sizes) - 1),
                kernel_init=nnx.initializers.glorot_uniform(),
                rngs=rngs,
            )
        self.standard = layers.Standardized(model, x, y)
        if config.method == "concrete":
            # KL / N beside the negative log-likelihood, which is tau / 2 times the squared error.
            scale = 2 / (len(x) * tau * self.standard.y_stddev[...][0] ** 2)
        else:
            scale = LENGTH_SCALE**2 * (1 - rate) / (2 * len(x) * tau)
        self.scale = nnx.Variable(jnp.asarray(scale, jnp.float32))

    def __call__(self, x: Array) -> Array:
        return self.standard(x)

    def penalty(self) -> Array:
        model = self.standard.model
        if isinstance(model, Concrete):
            return self.scale[...] * layers.total_kl(model)
        return self.scale[...] * sum(jnp.sum(linear.kernel[...] ** 2) for linear in model.linears)


class Concrete(nnx.Module):
    """ReLU layers, each behind a concrete dropout of its own."""

    def __init__(self, sizes: Sequence[int], *, rngs: nnx.Rngs):
        init = nnx.initializers.glorot_uniform()
        self.layers = nnx.List(
            layers.ConcreteDropout(
                nnx.Linear(n_in, n_out, kernel_init=init, rngs=rngs),
                length_scale=LENGTH_SCALE,
                rngs=rngs,
            )
            for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True)
        )

    def __call__(self, x: Array) -> Array:
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


def loss(net: Net, x: Array, y: Array) -> Array:
    """Squared error in standard deviations of the targets, and the penalty of the weights."""
    standard = net.standard
    errors = standard.model(standard.scale_x(x)) - standard.scale_y(y)
    return jnp.mean(errors**2) + net.penalty()
