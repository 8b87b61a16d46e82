"""The `MLP`: its layers, its initial weights, and where it drops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers.masked_ones import FALSE_ALARM, SOURCES, UNITS, is_masked, ones
from scipy import stats

from dropout_jax import layers


def textbook(**overrides):
    arguments = {"rates": (0, 0.5, 0.5), "rngs": nnx.Rngs(0)} | overrides
    return layers.MLP((784, 128, 64, 10), **arguments)


@pytest.mark.slow
def test_mlp_has_the_layers_it_was_asked_for():
    model = textbook()
    assert [linear.kernel.shape for linear in model.linears] == [(784, 128), (128, 64), (64, 10)]
    assert [drop.rate for drop in model.dropouts] == [0, 0.5, 0.5]
    assert model(ones(3, 784)).shape == (3, 10)


@pytest.mark.slow
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_mlp_at_inference_is_the_matrix_product(lead):
    model = textbook(activation=jnp.tanh)
    model.eval()
    x = jax.random.normal(jax.random.key(1), (*lead, 784))
    h = x
    for i, linear in enumerate(model.linears):
        bias = jnp.broadcast_to(linear.bias[...], (*lead, linear.out_features))
        h = h @ linear.kernel[...] + bias
        h = jnp.tanh(h) if i < 2 else h
    np.testing.assert_allclose(model(x), h, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(textbook(activation=jnp.tanh)(x, deterministic=True), model(x))


def test_mlp_takes_the_initialiser():
    model = textbook(kernel_init=nnx.initializers.constant(0.25))
    assert all((linear.kernel[...] == 0.25).all() for linear in model.linears)


def test_mlp_initialises_as_he_and_the_rates_do_not_change_it():
    kernel = textbook().linears[0].kernel[...]
    expected = nnx.Linear(784, 128, kernel_init=nnx.initializers.he_normal(), rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(kernel, expected.kernel[...])
    np.testing.assert_array_equal(kernel, textbook(rates=0.9).linears[0].kernel[...])


def test_one_rate_is_that_of_the_hidden_layers():
    rates = [drop.rate for drop in textbook(rates=0.3).dropouts]
    assert rates == [0, 0.3, 0.3]
    rates = [drop.rate for drop in textbook(rates=jnp.array([0.2, 0.5, 0.6])).dropouts]
    np.testing.assert_allclose(rates, [0.2, 0.5, 0.6])


def identity_mlp(rates, depth=3):
    """Passes its input through: what comes out shows the product of the sites' masks."""
    return layers.MLP(
        (UNITS,) * (depth + 1),
        rates=rates,
        kernel_init=lambda key, shape, dtype, *_: jnp.eye(*shape, dtype=dtype),
        rngs=nnx.Rngs(0),
    )


@pytest.mark.parametrize("site", [0, 1, 2])
def test_mlp_drops_at_each_site_and_not_on_the_output(site):
    rates = [0.0, 0.0, 0.0]
    rates[site] = 0.5
    assert is_masked(identity_mlp(rates)(ones(2, UNITS)))
    # Only the output is left, and it is whole.
    np.testing.assert_array_equal(identity_mlp([0.0] * 3)(ones(2, UNITS)), ones(2, UNITS))


def test_mlp_biases_survive_a_rate_of_one():
    model = identity_mlp((0, 1.0, 1.0))
    model.linears[-1].bias[...] = jnp.arange(UNITS, dtype=jnp.float32)
    np.testing.assert_array_equal(model(ones(UNITS)), jnp.arange(UNITS))


@pytest.mark.parametrize("source", [None, *SOURCES])
def test_mlp_masks_of_the_sites_are_independent(source):
    model = identity_mlp((0.5, 0.5, 0.5))
    n, kept_by_all = 100 * UNITS, 1 / 8
    y = model(ones(100, UNITS), rngs=source and SOURCES[source]())
    assert set(np.unique(y)) == {0.0, 8.0}
    # Were a mask used at two sites, a quarter of the units would be kept.
    assert stats.binomtest(int((y > 0).sum()), n, kept_by_all).pvalue > FALSE_ALARM


def test_mlp_call_with_a_key_is_a_function_of_it():
    model = identity_mlp(0.5)
    first, second = (model(ones(UNITS), rngs=jax.random.key(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first != model(ones(UNITS), rngs=jax.random.key(4))).any()


@pytest.mark.slow
def test_mlp_train_step_in_one_trace():
    model = textbook(rates=(jnp.float32(0.2), jnp.float32(0.5), 0.5))
    traces = []

    @nnx.jit
    def gradient(model, x):
        traces.append(None)
        return nnx.grad(lambda model: (model(x) ** 2).mean())(model)

    grads = [gradient(model, ones(3, 784)) for _ in range(2)]
    assert len(traces) == 1
    assert jax.tree.structure(grads[0]) == jax.tree.structure(nnx.state(model, nnx.Param))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert (grads[0].linears[2].kernel[...] != grads[1].linears[2].kernel[...]).any()


@pytest.mark.slow
def test_mlp_is_made_under_vmap_over_seeds_and_rates():
    keys, rates = jax.random.split(jax.random.key(0), 2), jnp.array([0.0, 0.5, 1.0])
    x = jax.random.normal(jax.random.key(1), (4, 6))

    def make(key, rate):
        return nnx.split(layers.MLP((6, 8, 3), rates=rate, rngs=nnx.Rngs(key)))

    over_rates = jax.vmap(make, in_axes=(None, 0))
    graphdef, states = jax.jit(jax.vmap(over_rates, in_axes=(0, None)))(keys, rates)
    logits = jax.jit(jax.vmap(jax.vmap(lambda state: nnx.merge(graphdef, state)(x))))(states)
    assert logits.shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(logits[:, 2], 0)  # nothing but the biases
    kernels = states["linears"][0]["kernel"][...]
    assert (kernels[0] != kernels[1]).any()
    np.testing.assert_array_equal(kernels[:, 0], kernels[:, 2])
    alone = layers.MLP((6, 8, 3), rates=0, rngs=nnx.Rngs(keys[1]))
    np.testing.assert_allclose(logits[1, 0], alone(x), rtol=1e-5, atol=1e-6)


def test_mlp_through_eval_shape():
    model = nnx.eval_shape(lambda: textbook(rates=jnp.float32(0.5)))
    assert model.linears[0].kernel.shape == (784, 128)
    assert model.dropouts[1].rate.shape == ()


@pytest.mark.parametrize("sizes", [(), (784,), (784, 0), (784, -1, 10), (784, 12.5, 10), (8, "10")])
def test_bad_sizes_are_an_error(sizes):
    with pytest.raises(ValueError, match=r"such as \(784, 128, 10\)"):
        layers.MLP(sizes, rates=0.5, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("rates", [(), (0.5, 0.5), (0, 0.5, 0.5, 0.5), jnp.array([0.5, 0.5])])
def test_the_wrong_number_of_rates_is_an_error(rates):
    with pytest.raises(ValueError, match=r"write rates=\(0, 0\.5, 0\.5\)"):
        textbook(rates=rates)


@pytest.mark.parametrize("rates", [1.5, (0, 0.5, -0.1), jnp.float32(1.5)])
def test_rates_outside_0_1_are_an_error(rates):
    with pytest.raises(ValueError, match="between 0 and 1"):
        textbook(rates=rates)


@pytest.mark.parametrize("rngs", [0, "dropout", None])
def test_rngs_of_another_type_say_what_to_write(rngs):
    with pytest.raises(TypeError, match=r"write rngs=nnx.Rngs\(0\)"):
        layers.MLP((8, 2), rates=0.5, rngs=rngs)
    with pytest.raises(TypeError, match=r"write rngs=nnx.Rngs\(0\)"):
        layers.DropConnectLinear(8, 2, rate=0.5, rngs=rngs)


def test_a_layer_of_another_kind_may_take_the_place_of_a_linear_one():
    """As concrete dropout does, which wraps the layer and has no kernel of its own."""
    model = layers.MLP((4, 8, 2), rates=0.0, rngs=nnx.Rngs(0))
    x = jnp.ones((3, 4))
    expected = model(x, deterministic=True)
    wrapped = (layers.ConcreteDropout(f, 0.1, rngs=nnx.Rngs(1)) for f in model.linears[1:])
    model.linears = nnx.List([model.linears[0], *wrapped])
    model.eval()
    np.testing.assert_allclose(model(x), expected, rtol=1e-6)
