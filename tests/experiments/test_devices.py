"""Runs divided among devices: the same runs, each on one device, and nothing sent between them.

What would make this wrong: a program that gathers the runs or copies all to each device; a run that
depends on the number of devices; a bad number that ends in JAX's words.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dropout_jax as dj
from dropout_jax import train
from experiments.harness.devices import divide_runs
from experiments.harness.training import seed_keys, train_seeds

X = jax.random.normal(jax.random.key(0), (64, 8))
SPLITS = {"train": (X, (X[:, 0] > 0).astype(jnp.int32)), "test": (X, jnp.zeros(64, jnp.int32))}


def build(rngs, hyper):
    return dj.layers.MLP((8, 16, 2), rates=0.5, rngs=rngs)


def test_runs_are_the_same_on_any_number_of_devices():
    def losses(devices):
        options = {"seeds": 4, "epochs": 2, "batch_size": 16, "devices": devices}
        outcome = train_seeds(build, lambda updates: optax.sgd(0.1), SPLITS, **options)
        return outcome.history["loss"], outcome.state.params

    (one, _), (four, params) = losses(1), losses(4)
    np.testing.assert_allclose(one, four, rtol=1e-5)
    for leaf in jax.tree.leaves(params):
        assert len(leaf.sharding.device_set) == 4
        assert leaf.addressable_shards[0].data.shape == (1, *leaf.shape[1:])


def test_the_program_sends_nothing():
    loop = train.make_loop(build, lambda hyper: optax.sgd(0.1), batch_size=16)
    (keys, _), splits = divide_runs(8, (seed_keys(8), {}), SPLITS)
    state = jax.jit(jax.vmap(loop.init, (0, None, None)))(keys, {}, splits)
    epoch = jax.jit(jax.vmap(loop.epoch, (0, None)))
    text = epoch.lower(state, {"train": splits["train"]}).compile().as_text()
    names = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    assert not [name for name in names if name in text]
    assert "num_partitions=8" in text


@pytest.mark.parametrize(
    ("devices", "words"),
    [(0, "write 1 to 8"), (9, "JAX sees 8"), (3, "4 runs do not divide among --devices 3")],
)
def test_a_bad_number_of_devices_is_named(devices, words):
    with pytest.raises(ValueError, match=words):
        divide_runs(devices, (seed_keys(4), {}), SPLITS)
