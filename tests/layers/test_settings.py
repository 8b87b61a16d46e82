"""Rates that are arrays are variables of the module; bad arguments are refused when it is made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dropout_jax as dj
from dropout_jax import layers


def rngs():
    return nnx.Rngs(0)


RATE = jnp.float32(0.5)
WITH_ARRAYS = {
    "Dropout": lambda: layers.Dropout(RATE, rngs=rngs()),
    "GaussianNoise": lambda: layers.GaussianNoise(RATE, rngs=rngs()),
    "DropConnectLinear": lambda: layers.DropConnectLinear(3, 3, rate=RATE, rngs=rngs()),
    "ConcreteDropout": lambda: layers.ConcreteDropout(
        nnx.Linear(3, 3, rngs=rngs()), length_scale=RATE, temperature=RATE, rngs=rngs()
    ),
    "ScheduledDropout": lambda: layers.ScheduledDropout(dj.rates.early(0.5, 9), rngs=rngs()),
    "MLP": lambda: layers.MLP((3, 3, 3), rates=RATE, rngs=rngs()),
}
with_arrays = pytest.mark.parametrize("name", WITH_ARRAYS)
X = jnp.ones((2, 3))


@with_arrays
def test_arrays_are_variables(name):
    layer = WITH_ARRAYS[name]()
    state = nnx.state(layer)
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, nnx.Variable))
    assert all(isinstance(leaf, nnx.Variable) for leaf in leaves)
    again = nnx.merge(*nnx.split(WITH_ARRAYS[name]()))
    np.testing.assert_array_equal(layer(X), again(X))


@with_arrays
def test_cached_partial_and_tabulate_take_them(name):
    layer, alone = WITH_ARRAYS[name](), WITH_ARRAYS[name]()
    call = nnx.cached_partial(nnx.jit(lambda layer, x: layer(x)), layer)
    np.testing.assert_allclose(call(X), alone(X), rtol=1e-6)
    assert name in nnx.tabulate(WITH_ARRAYS[name](), X)


def test_an_array_rate_changes_in_place_without_compiling_again():
    layer, traces = layers.Dropout(RATE, rngs=rngs()), []

    @nnx.jit
    def call(layer, x):
        traces.append(None)
        return layer(x)

    call(layer, X)
    layer.rate[...] = jnp.float32(1)
    np.testing.assert_array_equal(call(layer, X), 0 * X)
    assert len(traces) == 1


# Zoneout finds its output inside of jit and remat


class Jitted(nnx.LSTMCell):
    __call__ = nnx.jit(nnx.LSTMCell.__call__)


class Remat(nnx.LSTMCell):
    __call__ = nnx.remat(nnx.LSTMCell.__call__)


class Both(nnx.LSTMCell):
    __call__ = nnx.remat(nnx.jit(nnx.LSTMCell.__call__))


class Projected(nnx.LSTMCell):
    @nnx.jit
    def __call__(self, carry, inputs):
        carry, output = nnx.LSTMCell.__call__(self, carry, inputs)
        return carry, output + 1


class Memory(nnx.LSTMCell):
    @nnx.jit
    def __call__(self, carry, inputs):
        carry, _ = nnx.LSTMCell.__call__(self, carry, inputs)
        return carry, carry[0]


def zoned(kind):
    return layers.Zoneout(kind(3, 4, rngs=rngs()), rate=(0.9, 0.2), rngs=rngs())


@pytest.mark.parametrize("kind", [Jitted, Remat, Both])
@pytest.mark.parametrize("run", [lambda cell, x: cell, nnx.RNN], ids=["cell", "rnn"])
def test_zoneout_of_a_cell_in_jit_or_remat(kind, run):
    def output(kind):
        cell = zoned(kind)
        if run is nnx.RNN:
            return nnx.RNN(cell)(jnp.ones((2, 5, 3)))
        return cell((jnp.ones((2, 4)),) * 2, jnp.ones((2, 3)))

    ours, theirs = output(kind), output(nnx.LSTMCell)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, theirs)


def test_zoneout_of_another_output_in_jit():
    carry, x = (jnp.ones((2, 4)), jnp.zeros((2, 4))), jnp.ones((2, 3))
    (memory, _), output = zoned(Memory)(carry, x)
    assert output is memory
    with pytest.raises(ValueError, match="none of its states"):
        zoned(Projected)(carry, x)


def test_zoneout_can_be_tabulated():
    assert "Zoneout" in nnx.tabulate(zoned(nnx.LSTMCell), (jnp.ones((2, 4)),) * 2, X)


# What is wrong is said when the layer is made

BAD = {
    "block of 0": (lambda: layers.DropBlock(0.1, block_size=0), ValueError, "block_size is 0.*7"),
    "block of a half": (lambda: layers.DropBlock(0.1, block_size=2.5), ValueError, "whole number"),
    "blocks": (lambda: layers.DropBlock(0.1, block_size=(2, 0)), ValueError, "block_size is 0"),
    "negative stddev": (
        lambda: layers.GaussianNoise(-0.1),
        ValueError,
        "stddev is -0.1.*or more",
    ),
    "no stddev": (lambda: layers.GaussianNoise("1"), TypeError, "stddev is '1'; write a number"),
    "activation": (
        lambda: layers.MLP((3, 2), rates=0.1, activation="relu", rngs=rngs()),
        TypeError,
        "activation is 'relu'; write a function, such as nnx.relu",
    ),
    "sizes": (
        lambda: layers.MLP(8, rates=0.1, rngs=rngs()),
        TypeError,
        r"sizes is 8; .*\(784",
    ),
    "dims": (lambda: layers.Dropout(0.5, broadcast_dims=1), TypeError, r"write a tuple.*\(1,\)"),
    "dims of floats": (lambda: layers.Dropout(0.5, broadcast_dims=(1.0,)), TypeError, "whole"),
    "dims of noise": (lambda: layers.GaussianNoise(0.5, broadcast_dims=1), TypeError, "tuple"),
    "dims of a schedule": (
        lambda: layers.ScheduledDropout(dj.rates.early(0.5, 9), broadcast_dims=1),
        TypeError,
        "tuple",
    ),
    "temperature": (
        lambda: layers.ConcreteDropout(nnx.Linear(3, 3, rngs=rngs()), temperature=2.0),
        ValueError,
        "temperature is 2.0",
    ),
    "length scale": (
        lambda: layers.ConcreteDropout(nnx.Linear(3, 3, rngs=rngs()), length_scale=0.0),
        ValueError,
        "length_scale is 0.0",
    ),
    "features": (lambda: layers.VariationalDropout(0), ValueError, "features is 0; write a whole"),
    "rates of zoneout": (
        lambda: layers.Zoneout(nnx.LSTMCell(3, 4, rngs=rngs()), rate=(0.5, 2.0)),
        ValueError,
        "rate is 2.0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_argument_is_refused_when_the_layer_is_made(name):
    make, error, match = BAD[name]
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize("make", [nnx.Dropout, layers.Dropout])
def test_errors_begin_as_those_of_flax(make):
    """Programs match them."""
    with pytest.raises(
        ValueError,
        match="^`deterministic` is False, but no `rngs` argument was provided",
    ):
        make(0.5)(X)
    with pytest.raises(ValueError, match="^No `deterministic` argument was provided to Dropout"):
        make(0.5, deterministic=None)(X)
