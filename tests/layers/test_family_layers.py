"""What the layers of the family do beyond their contract: sharing, weights, recurrent states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dropout_jax as dj
from dropout_jax.layers.alpha import AlphaDropout
from dropout_jax.layers.connect import DropConnectLinear
from dropout_jax.layers.gaussian import GaussianDropout, GaussianNoise
from dropout_jax.layers.path import DropPath, DropPathSubset
from dropout_jax.layers.spatial import SpatialDropout1D, SpatialDropout2D, SpatialDropout3D
from dropout_jax.layers.zoneout import Zoneout

# In the fast loop the contract and the doctests stand for these: they compile much.
pytestmark = pytest.mark.slow

KEY = jax.random.key(3)
BATCH = 64  # that two draws of a case are equal by chance has probability 2^-64 or less


def linear(rate, *, rngs=None, **options):
    return DropConnectLinear(8, 8, rate=rate, rngs=rngs or nnx.Rngs(0), **options)


def assert_equal(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


# Sharing


@pytest.mark.parametrize("make", [GaussianDropout, GaussianNoise, AlphaDropout])
def test_broadcast_dims_share_a_draw(make):
    y = make(0.5, broadcast_dims=(1,), rngs=nnx.Rngs(0))(jnp.ones((4, 5, 6)))
    assert_equal(y, jnp.broadcast_to(y[:, :1], y.shape))
    assert (y[:1] != y).any()


@pytest.mark.parametrize("name", ["FeatureAlphaDropout", "SpatialDropout2D", "DropPath"])
def test_layers_that_fix_the_sharing_take_no_broadcast_dims(name):
    with pytest.raises(TypeError, match="broadcast_dims"):
        getattr(dj.layers, name)(0.5, broadcast_dims=(1,))


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
    x = jax.random.normal(jax.random.key(1), (BATCH, 8))
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


# Subsets of the batch


def test_noise_of_a_subset_has_mean_one_in_every_batch_and_gradients_pass_through_it_alone():
    """Samples alike, so that the noise's mean is seen; the branch runs on the subset only."""
    seen = []

    class Branch(nnx.Module):
        def __init__(self):
            self.linear = nnx.Linear(3, 3, rngs=nnx.Rngs(1))

        def __call__(self, x):
            seen.append(x.shape)
            return self.linear(x)

    layer = DropPathSubset(Branch(), 0.7, rngs=nnx.Rngs(0))
    x = jnp.broadcast_to(jnp.array([[1.0, 2.0, 3.0]]), (10, 3))
    added = layer(x) - x
    np.testing.assert_allclose(added.mean(0), layer.branch(x)[0], rtol=1e-6)
    assert seen[0] == (3, 3)
    taken = np.asarray((layer(x, rngs=KEY) != x).any(1))
    weights = jnp.arange(30.0).reshape(10, 3)

    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)

    def loss(params, x):
        y = nnx.merge(graphdef, params, rest, copy=True)(x, rngs=KEY)
        return (y * weights).sum()

    of_params, of_x = jax.grad(loss, (0, 1))(params, x)
    share = jnp.where(taken[:, None], weights, 0) * 10 / 3
    np.testing.assert_allclose(of_x, weights + share @ layer.branch.linear.kernel.T, rtol=1e-5)
    of_kernel = of_params["branch"]["linear"]["kernel"]
    np.testing.assert_allclose(of_kernel[...], x.T @ share, rtol=1e-5)


def test_a_subset_s_branch_keeps_its_own_dropout_and_is_whole_in_evaluation():
    rngs = nnx.Rngs(0)
    branch = nnx.Sequential(nnx.Linear(8, 8, rngs=rngs), dj.layers.Dropout(0.5, rngs=rngs))
    layer, x = DropPathSubset(branch, 0.5, rngs=rngs), jnp.ones((4, 8))
    jitted = nnx.jit(lambda layer, x: layer(x))
    jitted(layer, x), jitted(layer, x)
    assert int(branch.layers[1].rngs.count[...]) == int(layer.rngs.count[...]) == 2
    layer.eval()
    np.testing.assert_allclose(layer(x), x + branch.layers[0](x), rtol=1e-6)
    assert_equal(DropPathSubset(branch, 1.0, deterministic=False, rngs=rngs)(x), x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((jnp.sin, jnp.float32(0.5)), "DropPath, which takes arrays"),
        ((0.5, 0.5), "branch is float; write a module"),
        ((jnp.sin, "half"), "write a number"),
    ],
)
def test_a_subset_takes_a_branch_and_a_number(arguments, message):
    with pytest.raises(TypeError, match=message):
        DropPathSubset(*arguments, rngs=nnx.Rngs(0))
