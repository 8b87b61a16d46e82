"""The members of the dropout family that fit an MLP: a network and a loss for each.

All put their noise at the same places, the hidden units of one ReLU network, and none on its input.
DropConnect and concrete dropout act in the layers that these units feed.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

import dropout_jax as dj
from dropout_jax import layers, losses, rates, train
from dropout_jax.layers.base import NoiseLayer
from dropout_jax.typing import Array, Key

Method = Literal[
    "none", "dropout", "gaussian_dropout", "gaussian_noise", "standout", "drop_connect",
    "early", "late", "curriculum", "multi_sample", "r_drop",
    "concrete_dropout", "variational_dropout", "selu", "alpha_dropout",
]  # fmt: skip

SAMPLES = 8  # masks a batch, for multi_sample
ALPHA = 1.0  # weight of the divergence, for r_drop
PART = 1 / 3  # of the updates: the early dropout that ends then, the late one that begins
LEARNED = ("concrete_dropout", "variational_dropout")
SELU = ("selu", "alpha_dropout")  # alpha dropout is made for this activation


class Standout(NoiseLayer):
    """ReLU, and standout by the same pre-activations: at 0 a unit is dropped at `rate`."""

    def __init__(self, rate: float, *, rngs: nnx.Rngs):
        super().__init__(rngs=rngs)
        self.beta = math.log(1 - rate) - math.log(rate)

    def noise(self, key: Key, inputs: Array) -> Array:
        return dj.standout(key, nnx.relu(inputs), inputs, beta=self.beta)

    def mean(self, inputs: Array) -> Array:
        return dj.standout_mean(nnx.relu(inputs), inputs, beta=self.beta)


# What stands at a hidden layer in place of dropout: (rate, units, rngs) -> a layer.
NOISES: dict[str, Callable[[float, int, nnx.Rngs], NoiseLayer]] = {
    "gaussian_dropout": lambda rate, units, rngs: layers.GaussianDropout(rate, rngs=rngs),
    "gaussian_noise": lambda rate, units, rngs: layers.GaussianNoise(rate, rngs=rngs),
    "standout": lambda rate, units, rngs: Standout(rate, rngs=rngs),
    "variational_dropout": lambda rate, units, rngs: layers.VariationalDropout(
        units, rate, rngs=rngs
    ),
    "alpha_dropout": lambda rate, units, rngs: layers.AlphaDropout(rate, rngs=rngs),
}


def network(
    method: Method, sizes: Sequence[int], rate: float, updates: int, rngs: nnx.Rngs
) -> layers.MLP:
    """An MLP with the noise of a method on its hidden layers.

    Args:
      method: which.
      sizes: units of each layer, input and output included.
      rate: of dropping; the standard deviation for gaussian_noise; where it is learned, the first.
      updates: of the whole run, for the schedules.
      rngs: for the weights and the noise.
    """
    at_sites = {
        "dropout": rate,
        "multi_sample": rate,
        "r_drop": rate,
        "early": rates.early(rate, PART * updates),
        "late": rates.late(rate, PART * updates),
        "curriculum": rates.curriculum(rate, 10 / updates),
    }.get(method, 0.0)
    options = {}
    if method in SELU:
        options = {"activation": nnx.selu, "kernel_init": nnx.initializers.lecun_normal()}
    model = layers.MLP(sizes, rates=at_sites, rngs=rngs, **options)
    if method in NOISES:
        noises = (NOISES[method](rate, units, rngs) for units in sizes[1:-1])
        model.dropouts = nnx.List([model.dropouts[0], *noises])
    if method == "standout":
        model.activation = _identity  # the layer applies it
    if method == "drop_connect":  # one mask a batch, at the cost of the layer
        later = (
            _drop_connect(n_in, n_out, rate, rngs) for n_in, n_out in itertools.pairwise(sizes[1:])
        )
        model.linears = nnx.List([model.linears[0], *later])
    if method == "concrete_dropout":
        later = (layers.ConcreteDropout(f, rate, rngs=rngs) for f in model.linears[1:])
        model.linears = nnx.List([model.linears[0], *later])
    return model


def loss_of(method: Method, examples: int) -> losses.Loss:
    """What a method minimises on so many training examples."""
    if method == "multi_sample":
        return losses.multi_sample(SAMPLES, features=_features, head=_head)
    if method == "r_drop":
        return losses.r_drop(ALPHA)
    if method in LEARNED:
        return lambda model, x, y: (
            train.cross_entropy(model, x, y) + layers.total_kl(model) / examples
        )
    return train.cross_entropy


def learned_rates(method: Method, model: layers.MLP) -> list[list[float]]:
    """The rates of the hidden layers of a model with an axis of seeds: a list a seed."""
    if method == "concrete_dropout":
        found = [linear.rate for linear in model.linears[1:]]
    else:  # the rate of the dropout of that variance, averaged over the units
        alphas = [jnp.exp(drop.log_alpha) for drop in model.dropouts[1:]]
        found = [jnp.mean(alpha / (1 + alpha), axis=-1) for alpha in alphas]
    return jnp.stack(found, axis=-1).tolist()


def _drop_connect(n_in, n_out, rate, rngs):
    init = nnx.initializers.he_normal()
    return layers.DropConnectLinear(
        n_in, n_out, rate=rate, per="batch", kernel_init=init, rngs=rngs
    )


def _features(model, x):
    """All below the last dropout."""
    for linear, drop in zip(model.linears[:-1], model.dropouts[:-1], strict=True):
        x = model.activation(linear(drop(x)))
    return x


def _head(model, h):
    return model.linears[-1](model.dropouts[-1](h))


def _identity(a: jax.Array) -> jax.Array:
    return a
