"""The list of all noise layers for `tests/layers/test_contract.py`: add a Case for a new layer."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

import dropout_jax as dj
from dropout_jax import layers
from dropout_jax.noise.concrete import concrete_dropout

BATCH = 64  # that two draws of a case are equal by chance has probability 2^-64 or less


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer, the function that it is around, and what it does when deterministic."""

    make: Callable
    """(amount, rngs=None, **options) -> layer"""
    function: Callable | None = None
    """(key, layer, x, amount) -> y; None for Flax's own"""
    shape: tuple[int, ...] = (BATCH, 6, 8)
    call: Callable = lambda layer, x, **options: layer(x, **options)
    mean: Callable = lambda layer, x, amount: x
    amount: float = 0.5
    rated: bool = True
    """The amount may be 0 or an array, and is not learned."""

    @property
    def x(self):
        return jax.random.normal(jax.random.key(1), self.shape)

    def layer(self, **options):
        return self.make(self.amount, **options)


def weighted(make):
    """A maker of layers whose weights need rngs, though their noise may do without."""

    def made(amount, *, rngs=None, **options):
        layer = make(amount, rngs=rngs or nnx.Rngs(params=0, dropout=0), **options)
        if rngs is None:
            layer.rngs = nnx.data(None)
        return layer

    return made


def plain(function, **arguments):
    return lambda key, layer, x, amount: function(key, x, amount, **arguments)


def cell(rate, **options):
    return layers.Zoneout(nnx.SimpleCell(8, 8, rngs=nnx.Rngs(0)), rate=rate, **options)


def step(layer, x, **options):
    return layer(2 + x, x, **options)[1]


def step_by_hand(key, layer, x, rate):
    new = layer.cell(2 + x, x)[1]
    return dj.zoneout(jax.random.split(key, 1)[0], new, 2 + x, rate)


def with_bias(layer, y):
    return y + jnp.broadcast_to(layer.bias[...], y.shape)


def sparse_mean(layer, x, amount):
    return with_bias(layer, x @ jnp.where(layer.mask(), layer.kernel[...], 0))


DENSE = (BATCH, 8)
CASES = {
    "flax": Case(nnx.Dropout),
    "Dropout": Case(layers.Dropout, plain(dj.dropout)),
    "ScheduledDropout": Case(
        lambda rate, **options: layers.ScheduledDropout(dj.rates.linear(rate, rate, 1), **options),
        plain(dj.dropout),
        rated=False,
    ),
    "GaussianDropout": Case(layers.GaussianDropout, plain(dj.gaussian_dropout)),
    "GaussianNoise": Case(layers.GaussianNoise, plain(dj.gaussian_noise)),
    "AlphaDropout": Case(layers.AlphaDropout, plain(dj.alpha_dropout)),
    "FeatureAlphaDropout": Case(layers.FeatureAlphaDropout, plain(dj.feature_alpha_dropout)),
    "SpatialDropout1D": Case(layers.SpatialDropout1D, plain(dj.dropout, broadcast_dims=(1,))),
    "SpatialDropout2D": Case(
        layers.SpatialDropout2D, plain(dj.dropout, broadcast_dims=(1, 2)), (BATCH, 3, 4, 8)
    ),
    "SpatialDropout3D": Case(
        layers.SpatialDropout3D, plain(dj.dropout, broadcast_dims=(1, 2, 3)), (BATCH, 2, 3, 4, 8)
    ),
    "DropPath": Case(layers.DropPath, plain(dj.drop_path)),
    "DropPathSubset": Case(
        lambda rate, **options: layers.DropPathSubset(
            nnx.Linear(8, 8, rngs=nnx.Rngs(1)), rate, **options
        ),
        lambda key, layer, x, rate: dj.drop_path_subset(key, x, rate, layer.branch),
        mean=lambda layer, x, rate: x + layer.branch(x),
        rated=False,
    ),
    "DropBlock": Case(
        lambda rate, **options: layers.DropBlock(rate, block_size=3, **options),
        plain(dj.drop_block, block_size=3),
    ),
    "DropConnectLinear": Case(
        weighted(lambda rate, **options: layers.DropConnectLinear(8, 8, rate=rate, **options)),
        lambda key, layer, x, rate: with_bias(
            layer, dj.drop_connect_dense(key, x, layer.kernel[...], rate)
        ),
        DENSE,
        mean=lambda layer, x, rate: nnx.Linear.__call__(layer, x),
    ),
    "Zoneout": Case(
        cell,
        step_by_hand,
        DENSE,
        call=step,
        mean=lambda layer, x, rate: dj.zoneout_mean(layer.cell(2 + x, x)[1], 2 + x, rate),
    ),
    "ConcreteDropout": Case(
        lambda rate, **options: layers.ConcreteDropout(
            nnx.Linear(8, 4, rngs=nnx.Rngs(1)), rate, **options
        ),
        lambda key, layer, x, rate: layer.layer(concrete_dropout(key, x, layer.logit_rate[...])),
        DENSE,
        mean=lambda layer, x, rate: layer.layer(x),
        rated=False,
    ),
    "VariationalDropout": Case(
        lambda rate, **options: layers.VariationalDropout(8, rate, **options),
        lambda key, layer, x, rate: dj.variational_dropout(key, x, layer.log_alpha),
        DENSE,
        amount=0.3,
        rated=False,
    ),
    "SparseLinear": Case(
        weighted(lambda amount, **more: layers.SparseLinear(8, 4, log_sigma2=amount, **more)),
        lambda key, layer, x, _: with_bias(
            layer, dj.sparse_dense(key, x, layer.kernel[...], layer.log_sigma2[...])
        ),
        DENSE,
        mean=sparse_mean,
        amount=-2.0,
        rated=False,
    ),
}  # fmt: skip
