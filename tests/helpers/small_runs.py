"""Runs of a second: what the tests of `fit` and `run` start from."""

import functools

import chex
import jax
import jax.numpy as jnp
import optax
from flax import nnx

import dropout_jax as dj
from dropout_jax import train
from dropout_jax.train import runner

KEY = jax.random.key(0)
BATCH = 16  # four updates an epoch
EPS = float(jnp.finfo(jnp.float32).eps)


def task(n=64, seed=99):
    x = jax.random.normal(jax.random.key(seed), (n, 8))
    return x, (x[:, 0] > 0).astype(jnp.int32)


def mlp(seed=0, hidden=32):
    return dj.layers.MLP((8, hidden, 2), rates=0.5, rngs=nnx.Rngs(seed))


def fit(model, *, x=None, y=None, optimizer=None, **options):
    options = {"key": KEY, "epochs": 3, "batch_size": BATCH, "progress": False} | options
    given = task()
    x, y = given[0] if x is None else x, given[1] if y is None else y
    return dj.fit(model, optimizer or optax.adam(1e-2), x, y, **options)


def params_of(model):
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def assert_same(a, b):
    """Bitwise."""
    chex.assert_trees_all_equal(a, b)


LOOP = train.make_loop(
    lambda rngs, hyper: dj.layers.MLP((8, 32, 2), rates=0.5, rngs=rngs),
    lambda hyper: optax.sgd(hyper["learning_rate"]),
    batch_size=BATCH,
)
DATA = {"train": task(), "test": task(40, 98)}


def run(*, loop=LOOP, key=KEY, learning_rate=0.125, data=DATA, **options):
    state = loop.init(key, {"learning_rate": learning_rate}, data)
    return runner.run(loop, state, data, **({"epochs": 4, "progress": False} | options))


@functools.cache
def straight_run(epochs=4, every=1):
    return run(epochs=epochs, evaluate_every=every)


def weights(state):
    return nnx.to_pure_dict(state.params)
