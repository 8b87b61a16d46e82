"""What `flax.nnx.Dropout` documents, asked of Flax's class and of ours; then what ours adds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

from dropout_jax import layers
from dropout_jax.dropout import dropout

# Each mask of this many units at rate 0.5 that equals another by chance, or keeps all, has
# probability 2^-128.
UNITS = 128
# The chance with which one statistical assertion of this file fails on correct code.
FALSE_ALARM = 1e-8


@pytest.fixture(params=[nnx.Dropout, layers.Dropout], ids=["flax", "ours"])
def Dropout(request):
    return request.param


def ones(*shape):
    return jnp.ones(shape or (UNITS,))


def is_masked(y):
    """Whether y is ones after dropout at rate 0.5."""
    return set(np.unique(y)) == {0.0, 2.0}


def stream_count(layer):
    return int(layer.rngs.count[...])


# --- Flax's contract: values


@pytest.mark.parametrize("x", [ones(), jnp.arange(UNITS), jnp.full(3, jnp.nan)], ids=str)
def test_deterministic_returns_the_inputs(Dropout, x):
    layer = Dropout(0.5, deterministic=True)
    np.testing.assert_array_equal(layer(x), x)


@pytest.mark.parametrize("rate", [0, 0.0, np.float32(0)])
def test_rate_zero_returns_the_inputs_and_needs_no_rngs(Dropout, rate):
    np.testing.assert_array_equal(Dropout(rate)(jnp.arange(3)), [0, 1, 2])


@pytest.mark.parametrize("rate", [1, 1.0, np.float32(1)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rate_one_returns_zeros_and_needs_no_rngs(Dropout, rate, dtype):
    x = jnp.full(3, jnp.inf, dtype)
    y, gradient = jax.value_and_grad(lambda x: Dropout(rate)(x).sum())(x)
    assert y == 0 and y.dtype == dtype
    np.testing.assert_array_equal(gradient, jnp.zeros(3))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_kept_units_are_scaled_and_the_dtype_stays(Dropout, dtype):
    y = Dropout(0.5, rngs=nnx.Rngs(0))(ones().astype(dtype))
    assert y.dtype == dtype and is_masked(y)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_drops_at_the_rate(Dropout, rate):
    n = 100_000
    dropped = int((Dropout(rate, rngs=nnx.Rngs(0))(ones(n)) == 0).sum())
    assert stats.binomtest(dropped, n, rate).pvalue > FALSE_ALARM


@pytest.mark.parametrize("dims", [(1,), (-1,), [1], (0, -1), (0, 1, 2)])
def test_broadcast_dims_share_a_draw(Dropout, dims):
    y = Dropout(0.5, broadcast_dims=dims, rngs=nnx.Rngs(0))(ones(16, 4, 32))
    axes = {dim % 3 for dim in dims}
    first = y[tuple(slice(1) if axis in axes else slice(None) for axis in range(3))]
    np.testing.assert_array_equal(y, np.broadcast_to(first, y.shape))
    if len(axes) < 3:
        assert is_masked(y)


# --- Flax's contract: who decides


@pytest.mark.parametrize("constructor", [None, False, True])
@pytest.mark.parametrize("call", [None, False, True])
def test_deterministic_of_the_call_goes_first(Dropout, constructor, call):
    layer = Dropout(0.5, deterministic=constructor, rngs=nnx.Rngs(0))
    expected = constructor if call is None else call
    if expected is None:
        with pytest.raises(ValueError, match="deterministic"):
            layer(ones())
    else:
        assert is_masked(layer(ones(), deterministic=call)) is not expected


def test_deterministic_is_not_needed_to_be_given(Dropout):
    assert Dropout(0.5).deterministic is False


SOURCES = {
    "rngs": lambda: nnx.Rngs(dropout=7),
    "default": lambda: nnx.Rngs(7),
    "stream": lambda: nnx.Rngs(dropout=7).dropout,
    "key": lambda: jax.random.key(7),
    "legacy key": lambda: jax.random.PRNGKey(7),
}


@pytest.mark.parametrize("source", SOURCES)
def test_rngs_of_the_call_go_first(Dropout, source):
    layer, other = Dropout(0.5, rngs=nnx.Rngs(0)), Dropout(0.5)
    y = layer(ones(), rngs=SOURCES[source]())
    np.testing.assert_array_equal(y, other(ones(), rngs=SOURCES[source]()))
    assert is_masked(y) and stream_count(layer) == 0
    assert (y != layer(ones())).any()


def test_missing_rngs_are_an_error(Dropout):
    with pytest.raises(ValueError, match="rngs"):
        Dropout(0.5)(ones())


def test_the_error_of_missing_rngs_says_what_to_write():
    with pytest.raises(ValueError, match=r"rngs=nnx\.Rngs\(0\)"):
        layers.Dropout(0.5)(ones())
    with pytest.raises(ValueError, match=r"deterministic=False"):
        layers.Dropout(0.5, deterministic=None)(ones())


@pytest.mark.parametrize("rngs", [0, "dropout"])
def test_rngs_of_another_type_are_an_error(Dropout, rngs):
    with pytest.raises(TypeError, match="rngs"):
        Dropout(0.5, rngs=rngs)
    with pytest.raises(TypeError, match="rngs"):
        Dropout(0.5)(ones(), rngs=rngs)


def test_rng_collection_names_the_stream(Dropout):
    rngs = nnx.Rngs(dropout=0, noise=1)
    layer = Dropout(0.5, rng_collection="noise", rngs=rngs)
    layer(ones(), rngs=rngs)
    assert int(rngs.dropout.count[...]) == 0
    assert int(rngs.noise.count[...]) == 2  # one for the constructor's own stream, one for the call


# --- Flax's contract: the random streams


@pytest.mark.parametrize(
    "rate, deterministic, draws", [(0.5, False, 1), (0.5, True, 0), (0, False, 0), (1, False, 0)]
)
def test_draws_taken_from_the_stream(Dropout, rate, deterministic, draws):
    rngs = nnx.Rngs(dropout=0)
    layer = Dropout(rate, deterministic=deterministic, rngs=rngs)
    assert int(rngs.dropout.count[...]) == 1
    layer(ones())
    layer(ones())
    assert stream_count(layer) == 2 * draws


@pytest.mark.parametrize("given", ["rngs", "stream"])
def test_the_layer_keeps_a_stream_of_its_own(Dropout, given):
    rngs = nnx.Rngs(dropout=0)
    layer = Dropout(0.5, rngs=rngs if given == "rngs" else rngs.dropout)
    rngs.dropout()
    assert stream_count(layer) == 0


def test_two_calls_differ(Dropout):
    layer = Dropout(0.5, rngs=nnx.Rngs(0))
    assert (layer(ones()) != layer(ones())).any()


def test_keys_are_those_of_flax():
    """The mask is `dropout`'s for the key that Flax's class would have used."""
    layer = layers.Dropout(0.3, broadcast_dims=(0,), rngs=nnx.Rngs(dropout=5))
    stream = nnx.Rngs(dropout=5).dropout.fork()
    for _ in range(2):
        expected = dropout(stream(), ones(4, UNITS), 0.3, broadcast_dims=(0,))
        np.testing.assert_array_equal(layer(ones(4, UNITS)), expected)


def test_no_key_is_used_twice(key_reuse_checked):
    model = layers.MLP((8, 8, 8, 2), rates=(0.2, 0.5, 0.5), rngs=nnx.Rngs(0))
    model(ones(4, 8))
    model(ones(4, 8), rngs=jax.random.key(1))


# --- Flax's contract: modes


class Block(nnx.Module):
    def __init__(self, make_dropout, rngs):
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = make_dropout(rngs=rngs)


def test_train_and_eval(Dropout):
    block = Block(functools.partial(Dropout, 0.5), nnx.Rngs(0))
    block.eval()
    np.testing.assert_array_equal(block.drop(ones()), ones())
    block.train()
    assert is_masked(block.drop(ones()))


def test_view_changes_a_copy_that_shares_the_stream(Dropout):
    layer = Dropout(0.5, rngs=nnx.Rngs(0))
    view = nnx.view(layer, deterministic=True)
    np.testing.assert_array_equal(view(ones()), ones())
    assert is_masked(layer(ones()))
    nnx.view(view, deterministic=False)(ones())
    assert stream_count(layer) == 2


def test_set_attributes(Dropout):
    block = Block(functools.partial(Dropout, 0.5), nnx.Rngs(0))
    block.set_attributes(nnx.Dropout, deterministic=True)
    np.testing.assert_array_equal(block.drop(ones()), ones())
    block.set_attributes(deterministic=False, rate=0.0)
    np.testing.assert_array_equal(block.drop(ones()), ones())


def test_rngs_can_be_set_later(Dropout):
    layer = Dropout(0.5)
    layer.rngs = nnx.Rngs(0).dropout.fork()
    assert is_masked(layer(ones()))


# --- Flax's contract: transformations


def test_split_and_merge(Dropout):
    x = ones(UNITS, 2)
    layer, twin = (Dropout(0.5, broadcast_dims=(1,), rngs=nnx.Rngs(0)) for _ in range(2))
    np.testing.assert_array_equal(layer(x), twin(x))
    copy = nnx.merge(*nnx.split(layer))
    np.testing.assert_array_equal(copy(x), twin(x))
    assert type(copy) is Dropout and stream_count(copy) == 2


def test_jit_advances_the_stream_as_eager_calls_do_in_one_trace(Dropout):
    eager, jitted = (Dropout(0.5, rngs=nnx.Rngs(0)) for _ in range(2))
    traces = []

    @nnx.jit
    def apply(layer, x):
        traces.append(None)
        return layer(x)

    for _ in range(3):
        np.testing.assert_array_equal(apply(jitted, ones()), eager(ones()))
    assert len(traces) == 1 and stream_count(jitted) == 3


def test_vmap_over_keys(Dropout):
    layer = Dropout(0.5, rngs=nnx.Rngs(dropout=0))

    @nnx.split_rngs(splits=4)
    @nnx.vmap(in_axes=(nnx.StateAxes({nnx.RngState: 0}), None))
    def apply(layer, x):
        return layer(x)

    first, second = apply(layer, ones()), apply(layer, ones())
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 8


def test_vmap_without_split_rngs_shares_the_mask(Dropout):
    layer = Dropout(0.5, rngs=nnx.Rngs(dropout=0))
    y = nnx.vmap(lambda layer, x: layer(x), in_axes=(None, 0))(layer, ones(4, UNITS))
    assert len(np.unique(y, axis=0)) == 1 and is_masked(y)


def test_scan_over_layers(Dropout):
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def make(rngs):
        return Dropout(0.5, rngs=rngs)

    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=(nnx.Carry, 0))
    def apply(layer, x):
        return layer(x), layer(jnp.ones_like(x))

    y, masks = apply(make(nnx.Rngs(0)), ones())
    assert set(np.unique(y)) <= {0.0, 8.0}
    assert len(np.unique(masks, axis=0)) == 3


def test_functional_scan_carries_the_stream(Dropout):
    graphdef, state = nnx.split(Dropout(0.5, rngs=nnx.Rngs(0)))

    def step(state, x):
        layer = nnx.merge(graphdef, state)
        y = layer(x)
        return nnx.state(layer), y

    state, ys = jax.lax.scan(step, state, ones(3, UNITS))
    assert len(np.unique(ys, axis=0)) == 3
    assert stream_count(nnx.merge(graphdef, state)) == 3


def test_grad_flows_through_what_was_kept(Dropout):
    layer = Dropout(0.5)
    key = jax.random.key(0)
    gradient = jax.grad(lambda x: layer(x, rngs=key).sum())(ones())
    np.testing.assert_array_equal(gradient, layer(ones(), rngs=key))


# --- beyond Flax: the rate


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), jnp.float32(2)])
def test_rate_outside_0_1_is_an_error(rate):
    with pytest.raises(ValueError, match="between 0 and 1"):
        layers.Dropout(rate)


def test_rate_of_another_type_is_an_error():
    with pytest.raises(TypeError, match="write a number"):
        layers.Dropout(None)


def test_integer_inputs_are_an_error():
    with pytest.raises(TypeError, match="int32"):
        layers.Dropout(0.5, rngs=nnx.Rngs(0))(jnp.arange(3))


@pytest.mark.parametrize("dims", [(2,), (-3,), (0, -2)])
def test_bad_broadcast_dims_are_an_error(dims):
    with pytest.raises(ValueError, match="broadcast_dims"):
        layers.Dropout(0.5, broadcast_dims=dims, rngs=nnx.Rngs(0))(ones(2, 2))


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 1.0])
def test_array_rate_masks_as_the_number_does(rate):
    number, array, numpy = (
        layers.Dropout(r, rngs=nnx.Rngs(0)) for r in (rate, jnp.float32(rate), np.array(rate))
    )
    expected = number(ones())
    np.testing.assert_array_equal(array(ones()), expected)
    np.testing.assert_array_equal(numpy(ones()), expected)


@pytest.mark.slow
def test_sweep_over_array_rates_is_one_trace():
    layer = layers.Dropout(jnp.float32(0.1), rngs=nnx.Rngs(0))
    traces = []

    @nnx.jit
    def apply(layer, x):
        traces.append(None)
        return layer(x)

    for rate in (0.0, 0.1, 0.5, 0.9, 1.0):
        layer.rate = jnp.float32(rate)
        y = apply(layer, ones(10_000))
        assert stats.binomtest(int((y == 0).sum()), 10_000, rate).pvalue > FALSE_ALARM
    assert len(traces) == 1


def test_array_rate_is_replaced_through_the_state():
    layer = layers.Dropout(jnp.float32(0.5), rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(layer)
    state["rate"] = jnp.float32(1)
    np.testing.assert_array_equal(nnx.merge(graphdef, state)(ones()), 0 * ones())
    nnx.update(layer, state)
    np.testing.assert_array_equal(layer(ones()), 0 * ones())


@pytest.mark.parametrize("transform", [jax.jit, lambda f: jax.vmap(f, in_axes=(0, None))])
def test_a_layer_made_with_a_traced_rate_has_it_in_its_state(transform):
    @transform
    def make(rate, key):
        return nnx.split(layers.Dropout(rate, rngs=nnx.Rngs(key)))

    _, state = make(jnp.array([0.2, 0.7]), jax.random.key(0))
    np.testing.assert_allclose(state["rate"], [0.2, 0.7])


@pytest.mark.slow
def test_map_over_rates_and_over_stacked_layers():
    rates = jnp.array([0.0, 0.5, 1.0])

    @nnx.vmap
    def make(rate, key):
        return layers.Dropout(rate, rngs=nnx.Rngs(dropout=key))

    def apply(layer, x):
        return layer(x)

    for transform in (nnx.vmap, nnx.scan):
        over_layers = transform(apply, in_axes=(0, None), out_axes=0)
        y = over_layers(make(rates, jax.random.split(jax.random.key(0), 3)), ones())
        np.testing.assert_array_equal(y[0], ones())
        assert is_masked(y[1])
        np.testing.assert_array_equal(y[2], 0 * ones())


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_gradient_is_finite_at_a_traced_end(rate):
    @jax.jit
    def gradient(x, rate):
        layer = layers.Dropout(rate, rngs=nnx.Rngs(0))
        return jax.grad(lambda x: layer(x, rngs=jax.random.key(0)).sum())(x)

    np.testing.assert_array_equal(gradient(ones(), rate), (1 - rate) * ones())


def test_the_mean_is_kept_in_bfloat16():
    """Where Flax's scale, 1 / bfloat16(0.9), gives 1.0017 times the mean."""
    rate, n = 0.1, 2**22
    x = jax.random.uniform(jax.random.key(0), (n,), minval=1, maxval=2).astype(jnp.bfloat16)
    y = layers.Dropout(rate, rngs=nnx.Rngs(0))(x)
    x = np.asarray(x, np.float64)
    kept = np.asarray(jnp.asarray(x / (1 - rate), jnp.bfloat16), np.float64)
    mask_error = stats.norm.isf(FALSE_ALARM / 2) * np.sqrt(rate * (1 - rate) * np.mean(kept**2) / n)
    rounding_error = abs((1 - rate) * kept.mean() - x.mean())
    tolerance = mask_error + rounding_error
    assert tolerance < 0.0017 * x.mean()
    assert abs(np.asarray(y, np.float64).mean() - x.mean()) < tolerance


# --- MLP


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
