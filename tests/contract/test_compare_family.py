"""The family beside PyTorch and Keras. What would make this wrong: a rate that is a keep, another
scale, a mask shared along another axis, noise at inference.

A peer draws other noise from a seed than we do from a key. An element that is kept follows its
input and one that is dropped does not, so that a peer called twice with one seed shows its mask;
where it decided as we did, the values must agree. The masks are compared in distribution.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thresholds import assert_binomial
from scipy import stats

import dropout_jax as dj
from dropout_jax import layers

pytestmark = [pytest.mark.compare, pytest.mark.slow]

KEY = jax.random.key(11)
RATES = [0.2, 0.5]
ALPHA = 1e-7  # of this file, over all that it asserts
CHECKS = 150


def torch():
    return pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[torch]'")


def keras():
    return pytest.importorskip("keras", reason="Keras is absent: pip install -e '.[compare]'")


def by_torch(name, rate, x, training=True):
    """A PyTorch layer on channels-last data; PyTorch has the channels first."""
    torch().manual_seed(0)
    layer = getattr(torch().nn, name)(rate).train(training)
    y = layer(torch().from_numpy(np.moveaxis(x, -1, 1).copy()))
    return np.moveaxis(y.numpy(), 1, -1)


def by_keras(name, rate, x, training=True):
    last = {"data_format": "channels_last"} if name.endswith(("2D", "3D")) else {}
    layer = getattr(keras().layers, name)(rate, seed=0, **last)
    return np.asarray(layer(x, training=training))


@dataclasses.dataclass(frozen=True)
class Pair:
    """A layer of theirs, ours of the same law, and our function with a shape to try them on."""

    peer: Callable
    name: str
    ours: type
    function: Callable
    shape: tuple[int, ...]
    shared: tuple[int, ...] = ()


def shared_dropout(key, x, rate):
    return dj.dropout(key, x, rate, broadcast_dims=range(1, x.ndim - 1))


MATRIX, SEQUENCE, IMAGE, VOLUME = (256, 64), (96, 5, 64), (96, 3, 4, 64), (96, 2, 3, 2, 64)
MASKED = [
    Pair(by_torch, "Dropout", layers.Dropout, dj.dropout, MATRIX),
    Pair(by_torch, "Dropout1d", layers.SpatialDropout1D, shared_dropout, SEQUENCE, (1,)),
    Pair(by_torch, "Dropout2d", layers.SpatialDropout2D, shared_dropout, IMAGE, (1, 2)),
    Pair(by_torch, "Dropout3d", layers.SpatialDropout3D, shared_dropout, VOLUME, (1, 2, 3)),
    Pair(by_torch, "AlphaDropout", layers.AlphaDropout, dj.alpha_dropout, MATRIX),
    Pair(
        by_torch,
        "FeatureAlphaDropout",
        layers.FeatureAlphaDropout,
        dj.feature_alpha_dropout,
        IMAGE,
        (1, 2),
    ),
    Pair(by_keras, "Dropout", layers.Dropout, dj.dropout, MATRIX),
    Pair(by_keras, "SpatialDropout1D", layers.SpatialDropout1D, shared_dropout, SEQUENCE, (1,)),
    Pair(by_keras, "SpatialDropout2D", layers.SpatialDropout2D, shared_dropout, IMAGE, (1, 2)),
    Pair(by_keras, "SpatialDropout3D", layers.SpatialDropout3D, shared_dropout, VOLUME, (1, 2, 3)),
    Pair(by_keras, "AlphaDropout", layers.AlphaDropout, dj.alpha_dropout, MATRIX),
]
GAUSSIAN = [
    Pair(by_keras, "GaussianDropout", layers.GaussianDropout, dj.gaussian_dropout, MATRIX),
    Pair(by_keras, "GaussianNoise", layers.GaussianNoise, dj.gaussian_noise, MATRIX),
]


def label(pair):
    return f"{pair.peer.__name__.removeprefix('by_')}-{pair.name}"


def inputs(pair):
    return np.random.Generator(np.random.PCG64(0)).normal(size=pair.shape).astype(np.float32)


def ours(pair, rate, x):
    """Our layer's output, which is our function's."""
    y = pair.ours(rate)(jnp.asarray(x), rngs=KEY)
    np.testing.assert_array_equal(y, pair.function(KEY, jnp.asarray(x), rate))
    return np.asarray(y)


def kept(call, x):
    return call(x) != call(x + 1)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("pair", MASKED, ids=label)
def test_the_same_decision_gives_the_same_value(pair, rate):
    x = inputs(pair)
    theirs = pair.peer(pair.name, rate, x)
    their_mask = kept(lambda x: pair.peer(pair.name, rate, x), x)
    our_mask = dj.bernoulli_mask(KEY, rate, x.shape, broadcast_dims=pair.shared)
    np.testing.assert_array_equal(kept(lambda x: ours(pair, rate, x), x), our_mask)
    both_kept, both_dropped = their_mask & our_mask, ~their_mask & ~our_mask
    assert both_kept.any() and both_dropped.any()
    # Neither side rounds more than eight times, numbers of at most twice the largest input's size.
    rounding = 16 * 2.0**-24 * 2 * np.abs(x).max()
    for same in (both_kept, both_dropped):
        np.testing.assert_allclose(ours(pair, rate, x)[same], theirs[same], rtol=0, atol=rounding)
    if pair.function in (dj.dropout, shared_dropout):  # then the mask can be given to ours
        y = dj.apply_mask(jnp.asarray(x), jnp.asarray(their_mask), rate)
        np.testing.assert_allclose(y, theirs, rtol=0, atol=0 if rate == 0.5 else rounding)


def assert_independent(mask, shared, rate, what):
    """Equal along the shared axes; elsewhere the counts of a Bernoulli mask, in all and by axis."""
    drawn = mask[tuple(slice(0, 1) if a in shared else slice(None) for a in range(mask.ndim))]
    np.testing.assert_array_equal(mask, np.broadcast_to(drawn, mask.shape))
    drawn = drawn.reshape(len(mask), -1)
    assert_binomial(drawn.sum(), drawn.size, 1 - rate, ALPHA / CHECKS, what)
    for axis, n in enumerate(drawn.shape):
        assert_binomial(drawn.sum(axis), n, 1 - rate, ALPHA / CHECKS, f"{what}, axis {axis}")


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("pair", MASKED, ids=label)
def test_the_masks_have_one_law(pair, rate):
    x = inputs(pair)
    for call, who in ((pair.peer, pair.name), (lambda _, r, x: ours(pair, r, x), "ours")):
        mask = kept(lambda x, call=call: call(pair.name, rate, x), x)
        assert_independent(mask, pair.shared, rate, who)


@pytest.mark.parametrize("wrong", ["rate", "shared"])
def test_another_law_is_noticed(wrong):
    rate, dims = (0.25, ()) if wrong == "rate" else (0.2, (1,))
    mask = dj.bernoulli_mask(KEY, rate, MATRIX, broadcast_dims=dims)
    with pytest.raises(AssertionError):
        assert_independent(np.asarray(mask), (), 0.2, wrong)


def p_values(pair, amount, x):
    """Of Kolmogorov and Smirnov's test, theirs and ours, for the law that both document."""
    multiplied = pair.function is dj.gaussian_dropout
    stddev = np.sqrt(amount / (1 - amount)) if multiplied else amount
    for y in (pair.peer(pair.name, amount, x), ours(pair, amount, x)):
        noise = y / x - 1 if multiplied else y - x
        yield stats.kstest(noise.ravel(), stats.norm(0, stddev).cdf).pvalue


@pytest.mark.parametrize("amount", RATES)
@pytest.mark.parametrize("pair", GAUSSIAN, ids=label)
def test_gaussian_noise_has_one_law(pair, amount):
    x = np.full(pair.shape, 1.0, np.float32)
    assert min(p_values(pair, amount, x)) > ALPHA / CHECKS


def test_another_deviation_is_noticed():
    x = np.full(MATRIX, 1.0, np.float32)
    noise = np.asarray(dj.gaussian_noise(KEY, x, 0.55)) - x
    assert stats.kstest(noise.ravel(), stats.norm(0, 0.5).cdf).pvalue < ALPHA / CHECKS


@pytest.mark.parametrize("pair", [*MASKED, *GAUSSIAN], ids=label)
def test_inference_is_the_identity(pair):
    x = inputs(pair)
    np.testing.assert_array_equal(pair.peer(pair.name, 0.5, x, training=False), x)
    np.testing.assert_array_equal(pair.ours(0.5)(jnp.asarray(x), deterministic=True), x)


@pytest.mark.parametrize("pair", MASKED[:-1], ids=label)
def test_at_rate_1_all_is_zero(pair):
    """But not in the AlphaDropout of Keras, which divides by zero there."""
    x = inputs(pair)
    np.testing.assert_array_equal(pair.peer(pair.name, 1.0, x), np.zeros(x.shape))
    np.testing.assert_array_equal(ours(pair, 1.0, x), np.zeros(x.shape))
