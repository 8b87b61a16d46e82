"""The layers of the family: each is its function, with the switch and the streams of Dropout."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dropout_jax as dj
from dropout_jax.layers.alpha import AlphaDropout, FeatureAlphaDropout
from dropout_jax.layers.block import DropBlock
from dropout_jax.layers.connect import DropConnectLinear
from dropout_jax.layers.dropout import Dropout
from dropout_jax.layers.gaussian import GaussianDropout, GaussianNoise
from dropout_jax.layers.path import DropPath
from dropout_jax.layers.spatial import SpatialDropout1D, SpatialDropout2D, SpatialDropout3D
from dropout_jax.layers.zoneout import Zoneout

# In the fast loop the contract and the doctests stand for these: they compile much.
pytestmark = pytest.mark.slow

KEY = jax.random.key(3)
BATCH = 64  # that two draws of a case are equal by chance has probability 2^-64 or less


def linear(rate, *, rngs=None, **options):
    # The weights need rngs: a layer that is to have no stream loses it afterwards.
    layer = DropConnectLinear(8, 8, rate=rate, rngs=rngs or nnx.Rngs(0), **options)
    if rngs is None:
        layer.rngs = nnx.data(None)
    return layer


def cell(rate, **options):
    return Zoneout(nnx.SimpleCell(8, 8, rngs=nnx.Rngs(0)), rate=rate, **options)


def step(layer, x, **options):
    return layer(2 + x, x, **options)[1]


def step_by_hand(key, layer, x, rate):
    new = layer.cell(2 + x, x)[1]
    return dj.zoneout(jax.random.split(key, 1)[0], new, 2 + x, rate)


def connect_by_hand(key, layer, x, rate):
    y = dj.drop_connect_dense(key, x, layer.kernel[...], rate)
    return y + jnp.broadcast_to(layer.bias[...], y.shape)


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer, the function that it is around, and what it does when deterministic."""

    make: Callable  # (rate, **options) -> layer
    function: Callable  # (key, layer, x, rate) -> y
    shape: tuple[int, ...] = (BATCH, 6, 8)
    call: Callable = lambda layer, x, **options: layer(x, **options)
    mean: Callable = lambda layer, x, rate: x

    @property
    def x(self):
        return jax.random.normal(jax.random.key(1), self.shape)


def plain(function, **arguments):
    return lambda key, layer, x, rate: function(key, x, rate, **arguments)


CASES = {
    "GaussianDropout": Case(GaussianDropout, plain(dj.gaussian_dropout)),
    "GaussianNoise": Case(GaussianNoise, plain(dj.gaussian_noise)),
    "AlphaDropout": Case(AlphaDropout, plain(dj.alpha_dropout)),
    "FeatureAlphaDropout": Case(FeatureAlphaDropout, plain(dj.feature_alpha_dropout)),
    "SpatialDropout1D": Case(SpatialDropout1D, plain(dj.dropout, broadcast_dims=(1,))),
    "SpatialDropout2D": Case(
        SpatialDropout2D, plain(dj.dropout, broadcast_dims=(1, 2)), (BATCH, 3, 4, 8)
    ),
    "SpatialDropout3D": Case(
        SpatialDropout3D, plain(dj.dropout, broadcast_dims=(1, 2, 3)), (BATCH, 2, 3, 4, 8)
    ),
    "DropPath": Case(DropPath, plain(dj.drop_path)),
    "DropBlock": Case(
        lambda rate, **options: DropBlock(rate, block_size=3, **options),
        plain(dj.drop_block, block_size=3),
    ),
    "DropConnectLinear": Case(
        linear,
        connect_by_hand,
        (BATCH, 8),
        mean=lambda layer, x, rate: nnx.Linear.__call__(layer, x),
    ),
    "Zoneout": Case(
        cell,
        step_by_hand,
        (BATCH, 8),
        call=step,
        mean=lambda layer, x, rate: dj.zoneout_mean(layer.cell(2 + x, x)[1], 2 + x, rate),
    ),
}


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
    """The file's time is compilation, and what it tests does not hang on LLVM's optimisations."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def assert_equal(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


def count(layer):
    return int(layer.rngs.count[...])


# Every layer


def test_a_layer_is_its_function(case):
    layer, x = case.make(0.5), case.x
    y = case.call(layer, x, rngs=KEY)
    np.testing.assert_allclose(y, case.function(KEY, layer, x, 0.5), rtol=1e-6, atol=1e-6)
    assert (y != case.mean(layer, x, 0.5)).any()


def test_keys_are_those_of_dropout(case):
    """Stream by stream: from the layer's own, from the call's, from a key of either kind."""
    layer, x = case.make(0.5, rngs=nnx.Rngs(params=0, dropout=5)), case.x
    stream = nnx.Rngs(dropout=5).dropout.fork()
    assert_equal(case.call(layer, x), case.call(layer, x, rngs=stream()))
    assert count(layer) == 1
    expected = case.call(layer, x, rngs=nnx.Rngs(dropout=7).dropout())
    assert_equal(case.call(layer, x, rngs=nnx.Rngs(dropout=7)), expected)
    assert_equal(case.call(layer, x, rngs=nnx.Rngs(dropout=7).dropout), expected)
    expected = case.call(layer, x, rngs=KEY)
    assert_equal(case.call(layer, x, rngs=jax.random.key_data(KEY)), expected)
    assert count(layer) == 1


def test_no_key_is_used_twice(case, key_reuse_checked):
    layer, x = case.make(0.5, rngs=nnx.Rngs(0)), case.x
    assert (case.call(layer, x) != case.call(layer, x)).any()


def test_rng_collection_names_the_stream(case):
    rngs = nnx.Rngs(params=0, dropout=0, noise=1)
    case.call(case.make(0.5, rng_collection="noise", rngs=rngs), case.x, rngs=rngs)
    assert int(rngs.dropout.count[...]) == 0
    assert int(rngs.noise.count[...]) == 2  # for the layer's own stream, and for the call


def test_train_eval_and_views_switch_the_noise(case):
    x = case.x
    model = nnx.List([case.make(0.5, rngs=nnx.Rngs(0))])
    expected = case.mean(model[0], x, 0.5)
    model.eval()
    assert_equal(case.call(model[0], x), expected)
    assert count(model[0]) == 0
    model.train()
    assert (case.call(model[0], x) != expected).any()
    assert_equal(case.call(model[0], x, deterministic=True), expected)
    assert_equal(case.call(nnx.view(model, deterministic=True)[0], x), expected)
    assert count(model[0]) == 1


def test_deterministic_has_to_be_given_somewhere(case):
    layer = case.make(0.5, deterministic=None, rngs=nnx.Rngs(0))
    name = type(layer).__name__
    with pytest.raises(ValueError, match=rf"{name}\(\.\.\., deterministic=False\)"):
        case.call(layer, case.x)
    assert_equal(case.call(layer, case.x, deterministic=True), case.mean(layer, case.x, 0.5))


def test_missing_or_wrong_rngs_say_what_to_write(case):
    layer = case.make(0.5)
    with pytest.raises(ValueError, match=r"rngs=nnx\.Rngs\(0\)"):
        case.call(layer, case.x)
    with pytest.raises(TypeError, match=r"rngs is str; write nnx\.Rngs\(0\)"):
        case.call(layer, case.x, rngs="dropout")


def test_a_rate_of_0_needs_no_rngs(case):
    layer = case.make(0)
    assert_equal(case.call(layer, case.x), case.mean(layer, case.x, 0))


def test_a_sweep_over_array_rates_is_one_trace(case):
    x, layer = case.x, case.make(jnp.float32(0.5), rngs=nnx.Rngs(0))
    traces = []

    @nnx.jit
    def apply(layer, x):
        traces.append(None)
        return case.call(layer, x, rngs=KEY)

    name = "stddev" if hasattr(layer, "stddev") else "rate"
    for rate in (0.0, 0.25, 1.0):
        setattr(layer, name, jnp.float32(rate))
        expected = case.function(KEY, layer, x, rate)
        np.testing.assert_allclose(apply(layer, x), expected, rtol=1e-5, atol=1e-5)
    assert len(traces) == 1


def test_a_layer_is_made_under_vmap_over_rates(case):
    @nnx.vmap
    def make(rate, key):
        return case.make(rate, rngs=nnx.Rngs(key))

    layers = make(jnp.array([0.0, 0.5]), jax.random.split(KEY, 2))
    y = nnx.vmap(lambda layer, x: case.call(layer, x), in_axes=(0, None))(layers, case.x)
    one = nnx.vmap(lambda layer, x: case.call(layer, x, deterministic=True), in_axes=(0, None))
    expected = one(layers, case.x)
    np.testing.assert_allclose(y[0], expected[0], rtol=1e-6, atol=1e-6)
    assert (y[1] != expected[1]).any()


def test_a_bad_rate_is_an_error(case):
    if case is CASES["GaussianNoise"]:
        with pytest.raises(ValueError, match="stddev is -1"):
            case.call(case.make(-1.0, rngs=nnx.Rngs(0)), case.x)
        return
    with pytest.raises(ValueError, match="between 0 and 1"):
        case.make(1.5, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="write a number"):
        case.make("half", rngs=nnx.Rngs(0))


def test_rngs_of_another_type_are_an_error():
    with pytest.raises(TypeError, match=r"rngs is int; write rngs=nnx\.Rngs\(0\)"):
        GaussianNoise(0.5, rngs=0)


@pytest.mark.parametrize(
    "name", sorted(set(CASES) - {"GaussianNoise", "DropConnectLinear", "Zoneout"})
)
def test_filters_for_dropout_find_the_layers_of_a_rate(name):
    layer = CASES[name].make(0.5)
    assert isinstance(layer, Dropout) and isinstance(layer, nnx.Dropout)


# Sharing


@pytest.mark.parametrize("make", [GaussianDropout, GaussianNoise, AlphaDropout])
def test_broadcast_dims_share_a_draw(make):
    y = make(0.5, broadcast_dims=(1,), rngs=nnx.Rngs(0))(jnp.ones((4, 5, 6)))
    assert_equal(y, jnp.broadcast_to(y[:, :1], y.shape))
    assert (y[:1] != y).any()


@pytest.mark.parametrize("name", ["FeatureAlphaDropout", "SpatialDropout2D", "DropPath"])
def test_layers_that_fix_the_sharing_take_no_broadcast_dims(name):
    with pytest.raises(TypeError, match="broadcast_dims"):
        CASES[name].make(0.5, broadcast_dims=(1,))


@pytest.mark.parametrize(
    ("make", "rank", "axes"),
    [
        (SpatialDropout1D, 3, "length"),
        (SpatialDropout2D, 4, "height, width"),
        (SpatialDropout3D, 5, "depth, height, width"),
    ],
)
@pytest.mark.parametrize("off", [-1, 1])
@pytest.mark.parametrize("deterministic", [False, True])
def test_spatial_dropout_says_which_axes_it_takes(make, rank, axes, off, deterministic):
    layer = make(0.5, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=rf"takes \(batch, {axes}, channel\)"):
        layer(jnp.ones((2,) * (rank + off)), deterministic=deterministic)


def test_drop_path_per_batch_has_one_draw():
    layer = DropPath(0.5, per="batch", rngs=nnx.Rngs(0))
    draws = [np.unique(layer(jnp.ones((8, 3)))).tolist() for _ in range(BATCH)]
    assert sorted(map(tuple, {tuple(draw) for draw in draws})) == [(0.0,), (2.0,)]


@pytest.mark.parametrize(
    ("make", "choices"),
    [(lambda per: DropPath(0.5, per=per), "sample"), (lambda per: linear(0.5, per=per), "example")],
)
def test_an_unknown_per_is_an_error_when_the_layer_is_made(make, choices):
    with pytest.raises(ValueError, match=f"per is 'row'; write '{choices}' or 'batch'"):
        make("row")


# DropConnect


def test_drop_connect_has_the_weights_of_linear():
    ours, flax = linear(0.5, rngs=nnx.Rngs(2)), nnx.Linear(8, 8, rngs=nnx.Rngs(2))
    assert_equal(ours.kernel[...], flax.kernel[...])
    x = CASES["DropConnectLinear"].x
    assert_equal(ours(x, deterministic=True), flax(x))


@pytest.mark.parametrize(("per", "masks"), [("example", BATCH), ("batch", 1)])
def test_drop_connect_draws_per_example_or_per_batch(per, masks):
    layer = linear(0.5, per=per, use_bias=False, rngs=nnx.Rngs(0))
    y = layer(jnp.ones((BATCH, 8)))
    assert len(np.unique(y, axis=0)) == masks


def test_drop_connect_keeps_the_bias_at_rate_1_and_computes_in_its_dtype():
    layer = linear(1.0, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.arange(8, dtype=jnp.float32)
    y = layer(jnp.ones((2, 3, 8)))
    assert y.dtype == jnp.bfloat16
    assert_equal(y, jnp.broadcast_to(jnp.arange(8, dtype=jnp.bfloat16), (2, 3, 8)))


def test_gradients_are_zero_where_weights_were_dropped():
    layer = linear(0.5, per="batch", rngs=nnx.Rngs(0))
    gradient = nnx.grad(lambda layer: layer(jnp.eye(8), rngs=KEY).sum())(layer)["kernel"][...]
    mask = dj.drop_connect(KEY, jnp.ones((8, 8)), 0.5)
    assert_equal(gradient, mask)


# Zoneout

XS = jax.random.normal(jax.random.key(2), (4, 7, 3))


def lstm(rate, **options):
    return Zoneout(nnx.LSTMCell(3, 5, rngs=nnx.Rngs(0)), rate=rate, **options)


def test_zoneout_of_rate_0_in_a_scan_is_the_cell():
    expected = nnx.RNN(nnx.LSTMCell(3, 5, rngs=nnx.Rngs(0)))(XS)
    actual = nnx.RNN(lstm((0.0, 0.0), rngs=nnx.Rngs(0)))(XS)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_zoneout_draws_anew_at_every_step_of_a_scan():
    """A clock as the cell: a state that keeps its old value for a step lags by one."""

    class Clock(nnx.RNNCellBase):
        num_feature_axes = 1

        def __call__(self, carry, inputs):
            time = jnp.maximum(inputs, carry)
            return time, time

        def initialize_carry(self, input_shape, rngs=None):
            return jnp.zeros(input_shape)

    time = jnp.broadcast_to(jnp.arange(1.0, 8.0)[:, None], (7, BATCH))
    rnn = nnx.RNN(Zoneout(Clock(), rate=0.5, rngs=nnx.Rngs(0)), time_major=True)
    kept_old = rnn(time) != time
    assert len(np.unique(kept_old, axis=0)) == 7
    assert (kept_old != (rnn(time) != time)).any()


@pytest.mark.parametrize("kind", [tuple, list])
def test_a_rate_for_each_state(kind):
    layer = lstm(kind((1.0, 0.0)), rngs=nnx.Rngs(0))
    carry = (jnp.full((4, 5), 0.5), jnp.full((4, 5), 0.25))
    (memory, hidden), output = layer(carry, XS[:, 0])
    assert_equal(memory, carry[0])
    assert_equal(hidden, layer.cell(carry, XS[:, 0])[1])
    assert output is hidden


def test_the_states_of_a_step_have_draws_of_their_own():
    """Masks that were equal would keep the old memory just where they keep the old hidden state."""
    layer = lstm(0.5, rngs=nnx.Rngs(0))
    ones = jnp.ones((BATCH, 5))
    (memory, hidden), _ = layer((ones, ones), jnp.ones((BATCH, 3)))
    assert ((memory == 1) != (hidden == 1)).any()


def test_zoneout_errors():
    carry = (jnp.ones((4, 5)),) * 2
    with pytest.raises(ValueError, match="3 numbers for 2 states"):
        lstm((0.5, 0.5, 0.5), rngs=nnx.Rngs(0))(carry, XS[:, 0])

    class Projected(nnx.LSTMCell):
        def __call__(self, carry, inputs):
            carry, output = super().__call__(carry, inputs)
            return carry, output + 1

    layer = Zoneout(Projected(3, 5, rngs=nnx.Rngs(0)), rate=0.5, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="none of its states.*dropout_jax.zoneout"):
        layer(carry, XS[:, 0])
