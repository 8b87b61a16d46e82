"""The layers that learn their noise: what they compute, and what their losses ask for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dropout_jax.layers import ConcreteDropout, SparseLinear, VariationalDropout, total_kl
from dropout_jax.noise.concrete import concrete_dropout, concrete_kl
from dropout_jax.noise.sparse import sparse_dense, sparse_kl, sparse_log_alpha
from dropout_jax.noise.variational import variational_dropout, variational_kl

# In the fast loop the contract and the doctests stand for these: they compile much.
pytestmark = pytest.mark.slow

X = jnp.linspace(0.5, 2, 12).reshape(3, 4)


def concrete(**more):
    return ConcreteDropout(nnx.Linear(4, 2, rngs=nnx.Rngs(1)), 0.3, **more)


def variational(**more):
    return VariationalDropout(4, 0.3, **more)


def sparse(rngs=None, **more):
    """Its parameters need rngs, its noise may do without."""
    layer = SparseLinear(4, 2, log_sigma2=-2.0, rngs=rngs or nnx.Rngs(1), **more)
    if rngs is None:
        layer.rngs = nnx.data(None)
    return layer


LAYERS = [concrete, variational, sparse]
every_layer = pytest.mark.parametrize("make", LAYERS)


def differ(a, b):
    return bool((a != b).any())


# What they compute


def test_concrete_is_the_function_before_the_layer():
    layer, key = concrete(temperature=0.5), jax.random.key(3)
    inputs = concrete_dropout(key, X, layer.logit_rate[...], temperature=0.5)
    np.testing.assert_array_equal(layer(X, rngs=key), layer.layer(inputs))
    np.testing.assert_array_equal(layer(X, deterministic=True), layer.layer(X))
    assert float(layer.rate) == pytest.approx(0.3, rel=1e-6)
    kl = concrete_kl(layer.layer.kernel[...], layer.logit_rate[...], length_scale=1e-4)
    assert layer.kl() == kl


def test_concrete_on_a_convolution_drops_channels():
    conv = nnx.Conv(3, 5, (2, 2), rngs=nnx.Rngs(0))
    layer, key = ConcreteDropout(conv, broadcast_dims=(1, 2)), jax.random.key(3)
    images = jnp.ones((2, 4, 4, 3))
    noisy = concrete_dropout(key, images, layer.logit_rate[...], broadcast_dims=(1, 2))
    np.testing.assert_array_equal(layer(images, rngs=key), conv(noisy))
    assert np.isfinite(layer.kl())


def test_variational_is_the_function():
    layer, key = variational(), jax.random.key(3)
    np.testing.assert_array_equal(layer(X, rngs=key), variational_dropout(key, X, layer.log_alpha))
    np.testing.assert_array_equal(layer(X, deterministic=True), X)
    np.testing.assert_allclose(jnp.exp(layer.log_alpha), np.full(4, 3 / 7), rtol=1e-6)
    np.testing.assert_allclose(layer.kl(), 4 * variational_kl(np.log(3 / 7)), rtol=1e-5)


def test_variational_alpha_never_leaves_its_range_and_can_come_back():
    layer = variational(rngs=nnx.Rngs(0))
    for logit in (-1e3, -5.0, 5.0, 15.0):
        layer.logit_alpha[...] = jnp.full(4, logit)
        slope = nnx.grad(lambda layer: layer.log_alpha.sum())(layer)
        assert (layer.log_alpha <= 0).all() and (slope.logit_alpha[...] > 0).all()


def test_sparse_is_the_function_and_evaluates_the_kept_weights():
    layer, key = sparse(), jax.random.key(3)
    layer.bias[...] = jnp.array([1.0, -1.0])
    layer.kernel[...] = jnp.ones((4, 2))
    layer.log_sigma2[...] = jnp.array([[-2.0, 2.9], [3.1, -2.0], [8.0, 9.0], [0.0, 3.5]])
    mask = np.array([[1, 1], [0, 1], [0, 0], [1, 0]], bool)
    np.testing.assert_array_equal(layer.mask(), mask)
    drawn = sparse_dense(key, X, layer.kernel[...], layer.log_sigma2[...])
    np.testing.assert_allclose(layer(X, rngs=key), drawn + layer.bias[...][None], rtol=1e-6)
    clean = np.float32(X) @ mask + np.array([[1, -1]])
    np.testing.assert_allclose(layer(X, deterministic=True), clean, rtol=1e-6)
    log_alpha = sparse_log_alpha(layer.kernel[...], layer.log_sigma2[...])
    assert layer.kl() == sparse_kl(log_alpha).sum()


def test_sparse_pruned_in_training_has_noise_and_no_weight():
    layer = sparse(prune_in_training=True, rngs=nnx.Rngs(0))
    layer.log_sigma2[...] = jnp.full((4, 2), 5.0).at[:, 0].set(-5.0)
    draws = np.stack([layer(X) for _ in range(400)])
    spread = np.sqrt(np.exp(5.0) * np.sum(np.asarray(X) ** 2, axis=-1))
    # Of the mean of 400 draws; a false alarm at 6 deviations in 5e8.
    assert (np.abs(draws[:, :, 1].mean(axis=0)) < 6 * spread / 20).all()
    np.testing.assert_allclose(draws[:, :, 1].std(axis=0), spread, rtol=6 / np.sqrt(2 * 400))
    slopes = nnx.grad(lambda layer: layer(X).sum())(layer)
    assert (np.asarray(slopes.kernel[...])[:, 1] == 0).all()
    assert (np.asarray(slopes.kernel[...])[:, 0] != 0).all()
    assert (np.asarray(slopes.log_sigma2[...]) != 0).all()  # so that a weight can come back


def test_sparse_without_a_bias():
    layer = SparseLinear(4, 2, use_bias=False, rngs=nnx.Rngs(0))
    assert layer.bias is None and layer(X).shape == (3, 2)
    np.testing.assert_array_equal(layer.log_sigma2[...], jnp.full((4, 2), -10.0))


@every_layer
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_narrow_inputs(make, dtype):
    layer = make(rngs=nnx.Rngs(0))
    for deterministic in (False, True):
        y = layer(X.astype(dtype), deterministic=deterministic)
        assert np.isfinite(y).all()
        assert y.dtype == (dtype if make is variational else jnp.float32)  # parameters are float32


# Losses


def test_total_kl_counts_each_layer_once():
    layers = [make(rngs=nnx.Rngs(0)) for make in LAYERS]
    model = nnx.Dict(a=nnx.List(layers), b=nnx.Dict(again=layers[0], other=nnx.Dropout(0.5)))
    expected = sum(layer.kl() for layer in layers)
    np.testing.assert_allclose(total_kl(model), expected, rtol=1e-6)
    assert total_kl(layers[0]) == layers[0].kl()
    assert total_kl(nnx.Linear(2, 3, rngs=nnx.Rngs(0))) == 0


@every_layer
def test_likelihood_and_kl_have_gradients_for_every_parameter(make):
    layer = make(rngs=nnx.Rngs(0))
    likelihood = nnx.grad(lambda layer: (layer(X) ** 2).sum())(layer)
    prior = nnx.grad(total_kl)(layer)
    learned = {concrete: "logit_rate", variational: "logit_alpha", sparse: "log_sigma2"}[make]
    for slopes in (likelihood, prior):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
        assert (slopes[learned][...] != 0).all()
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(likelihood))


def train(model, loss, steps, rate=0.02):
    """The model after Adam, written out, at a learning rate that falls to 0."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def step(carry, i):
        params, m, v = carry
        key = jax.random.fold_in(jax.random.key(11), i)
        slopes = jax.grad(lambda p: loss(nnx.merge(graph, p, rest), key))(params)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, slopes)
        v = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g * g, v, slopes)
        now = rate * (1 - i / steps)
        params = jax.tree.map(lambda p, m, v: p - now * m / (jnp.sqrt(v) + 1e-8), params, m, v)
        return (params, m, v), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    scan = jax.jit(functools.partial(jax.lax.scan, step))
    (params, _, _), _ = scan((params, zeros, zeros), jnp.arange(steps))
    return nnx.merge(graph, params, rest)


def test_weights_of_useless_inputs_are_pruned_and_the_others_kept():
    """Linear regression where 3 of 10 inputs matter: least squares gives the others exactly 0."""
    x = jax.random.normal(jax.random.key(0), (200, 10))
    y = x[:, :3] @ jnp.array([2.0, -1.0, 1.5])

    def loss(model, key):
        error = (model(x, rngs=key)[:, 0] - y) / 0.1
        return (error**2).mean() / 2 + total_kl(model) / len(x)

    model = train(SparseLinear(10, 1, rngs=nnx.Rngs(0)), loss, 3000)
    np.testing.assert_array_equal(model.mask()[:, 0], [True] * 3 + [False] * 7)


def test_the_learned_rate_falls_with_the_number_of_examples():
    """The claim of the paper's synthetic experiment: less is left to doubt."""
    x = jnp.linspace(-1, 1, 64)[:, None] * jnp.ones((1, 8))
    y = x.sum(1)

    def loss(model, key, n):
        return ((model(x, rngs=key)[:, 0] - y) ** 2).mean() / 2 + total_kl(model) / n

    rates = [
        float(train(ConcreteDropout(nnx.Linear(8, 1, rngs=nnx.Rngs(0))), partial, 1000).rate)
        for partial in (functools.partial(loss, n=n) for n in (10, 100, 1000))
    ]
    assert rates[0] > rates[1] > rates[2]


# Errors of the constructors


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, np.nan])
def test_errors_of_the_rate_to_begin_with(rate):
    linear = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=f"rate is {rate}.*between 0 and 1.*write 0.1"):
        ConcreteDropout(linear, rate)
    with pytest.raises(ValueError, match="between 0 and 0.5"):
        VariationalDropout(4, rate)


def test_errors_of_the_constructors():
    with pytest.raises(ValueError, match="rate is 0.5"):
        VariationalDropout(4, 0.5)
    with pytest.raises(TypeError, match=r"layer is Dropout, without a kernel.*nnx\.Linear"):
        ConcreteDropout(nnx.Dropout(0.5))
    with pytest.raises(TypeError, match=r"rngs is NoneType; write rngs=nnx\.Rngs\(0\)"):
        SparseLinear(4, 2, rngs=None)


def test_made_under_vmap_with_traced_rates():
    rates = jnp.array([0.1, 0.3])
    starts = jax.vmap(lambda rate: VariationalDropout(4, rate).log_alpha)(rates)
    np.testing.assert_allclose(jnp.exp(starts[:, 0]), rates / (1 - rates), rtol=1e-5)


@pytest.mark.parametrize("deterministic", [False, True])
def test_another_size_is_refused_in_either_mode(deterministic):
    rngs = nnx.Rngs(0)
    for layer in (VariationalDropout(8, rngs=rngs), SparseLinear(8, 3, rngs=rngs)):
        with pytest.raises(ValueError, match="shape"):
            layer(jnp.ones((2, 7)), deterministic=deterministic)
