"""Batch normalisation is recalibrated to the network without noise.

What would make this wrong: statistics with noise in them, of the wrong batch, of a layer that sees
the old statistics of the one before; a momentum that stays in; a model whose mode or weights move.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dropout_jax as dj
from dropout_jax.train import recalibrate_batch_stats


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 5, rngs=rngs)
        self.norms = nnx.List([nnx.BatchNorm(8, rngs=rngs), nnx.BatchNorm(5, rngs=rngs)])
        self.drop = dj.layers.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        x = self.drop(nnx.relu(self.norms[0](self.first(x))))
        return self.norms[1](self.second(x))


def moments_by_hand(model, x):
    """The moments of both layers' inputs in float64, without dropout."""
    first, second = (
        (np.asarray(layer.kernel[...], np.float64), np.asarray(layer.bias[...], np.float64))
        for layer in (model.first, model.second)
    )
    a = np.asarray(x, np.float64) @ first[0] + first[1]
    normal = (a - a.mean(0)) / np.sqrt(a.var(0) + model.norms[0].epsilon)
    b = np.maximum(normal, 0) @ second[0] + second[1]
    return [(a.mean(0), a.var(0)), (b.mean(0), b.var(0))]


@pytest.fixture
def trained():
    """A net whose running averages have noise in them, and its inputs, sorted."""
    x = 3 + jnp.sort(jax.random.normal(jax.random.key(1), (600, 4)), axis=0)
    model = Net(nnx.Rngs(0))
    model.train()
    for _ in range(30):
        model(x)
    model.eval()
    return model, x


def test_one_batch_gives_the_moments_of_the_clean_network(trained):
    model, x = trained
    before = nnx.state(model, nnx.Param)
    noisy = model.norms[1].var[...]
    dj.recalibrate(model, x, batch_size=600)
    for norm, (mean, var) in zip(model.norms, moments_by_hand(model, x), strict=True):
        np.testing.assert_allclose(norm.mean[...], mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(norm.var[...], var, rtol=1e-4)
    assert (noisy > 1.2 * model.norms[1].var[...]).any()  # dropout had raised a variance
    assert model.norms[0].use_running_average and model.norms[0].momentum != 0
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(model, nnx.Param))


def test_batches_of_sorted_rows_are_close(trained):
    model, x = trained
    dj.recalibrate(model, x, batch_size=250)  # three batches of 200, every third row
    for norm, (mean, var) in zip(model.norms, moments_by_hand(model, x), strict=True):
        np.testing.assert_allclose(norm.mean[...], mean, atol=0.02)
        np.testing.assert_allclose(norm.var[...], var, rtol=0.03)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99])
def test_linen_is_recalibrated_whatever_its_momentum(momentum):
    norm = nn.BatchNorm(use_running_average=False, momentum=momentum)
    x = 2 + jax.random.normal(jax.random.key(0), (64, 3))
    variables = norm.init(jax.random.key(1), x)

    def update(stats, x):
        moved = {**variables, "batch_stats": stats}
        return norm.apply(moved, x, mutable=["batch_stats"])[1]["batch_stats"]

    stats = recalibrate_batch_stats(update, variables["batch_stats"], x)
    np.testing.assert_allclose(stats["mean"], x.mean(0), rtol=1e-4)
    np.testing.assert_allclose(stats["var"], x.var(0), rtol=1e-3)


@pytest.mark.parametrize(
    ("model", "x", "options", "words"),
    [
        (lambda: nnx.Linear(4, 2, rngs=nnx.Rngs(0)), (8, 4), {}, "no nnx.BatchNorm"),
        (lambda: Net(nnx.Rngs(0)), (1, 4), {}, "a variance takes 2"),
        (lambda: Net(nnx.Rngs(0)), (8, 4), {"batch_size": 1}, "a variance takes 2"),
    ],
)
def test_what_cannot_be_recalibrated_is_named(model, x, options, words):
    with pytest.raises(ValueError, match=words):
        dj.recalibrate(model(), jnp.ones(x), **options)
