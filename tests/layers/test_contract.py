"""Flax's contract of a noise layer, asked of Flax's Dropout and of every layer of ours.

Who decides whether there is noise, where keys come from, what the transformations of NNX do.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers.layer_cases import CASES
from helpers.masked_ones import SOURCES

from dropout_jax import layers

KEY = jax.random.key(3)
OURS = [name for name in CASES if name != "flax"]
RATED = [name for name in OURS if CASES[name].rated]
FAST = ("flax", "Dropout")  # the others compile much


def over(names):
    marked = [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in names]
    return pytest.mark.parametrize("name", marked)


every_layer, every_one_of_ours, every_rated = over(CASES), over(OURS), over(RATED)
# The layers that differ in the state they hold: transformations see no other difference.
every_kind = over(
    ["flax", "Dropout", "ScheduledDropout", "DropConnectLinear", "Zoneout", "ConcreteDropout",
     "SparseLinear"]
)  # fmt: skip


def streams(**more):
    return nnx.Rngs(params=0, **({"dropout": 0} | more))


def assert_equal(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


def differ(a, b):
    return bool((a != b).any())


def count(layer):
    return int(layer.rngs.count[...])


def test_every_layer_is_in_the_list():
    made = {type(case.layer()).__name__ for case in CASES.values()}
    noise = {n for n in layers.__all__ if isinstance(getattr(layers, n), type)}
    noise = {n for n in noise if issubclass(getattr(layers, n), layers.NoiseLayer)}
    assert noise - made == {"NoiseLayer"}, "add a Case to tests/helpers/layer_cases.py"


@every_one_of_ours
def test_a_layer_is_its_function(name):
    case = CASES[name]
    layer, x = case.layer(), case.x
    y = case.call(layer, x, rngs=KEY)
    expected = case.function(KEY, layer, x, case.amount)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    assert differ(y, case.mean(layer, x, case.amount))


# Who decides whether there is noise


@every_layer
def test_deterministic_of_the_call_goes_before_the_constructor(name):
    case, x = CASES[name], CASES[name].x
    for constructor in (None, False, True):
        layer = case.layer(deterministic=constructor, rngs=streams())
        clean = case.mean(layer, x, case.amount)
        assert_equal(case.call(layer, x, deterministic=True), clean)
        assert count(layer) == 0
        assert differ(case.call(layer, x, deterministic=False), clean)
        if constructor is None:
            name = type(layer).__name__
            with pytest.raises(ValueError, match=f"No `deterministic` argument .* to {name}"):
                case.call(layer, x)
        else:
            assert differ(case.call(layer, x), clean) is not constructor
    assert case.layer().deterministic is False


@every_layer
def test_train_eval_views_and_attributes_switch_the_noise(name):
    case, x = CASES[name], CASES[name].x
    model = nnx.List([case.layer(rngs=streams())])
    layer, clean = model[0], case.mean(model[0], x, case.amount)

    def noisy(layer):
        return differ(case.call(layer, x), clean)

    model.eval()
    assert not noisy(layer) and count(layer) == 0
    model.train()
    assert noisy(layer)
    model.set_attributes(type(layer), deterministic=True)
    assert not noisy(layer)
    model.set_attributes(deterministic=False)
    assert noisy(layer)
    view = nnx.view(model, deterministic=True)
    assert not noisy(view[0]) and noisy(layer)
    assert noisy(nnx.view(view, deterministic=False)[0])
    assert count(layer) == 4  # the view shares the stream


# Where keys come from


@every_layer
def test_keys_of_the_call_go_first_and_come_from_any_source(name):
    case, x = CASES[name], CASES[name].x
    layer, other = case.layer(rngs=streams()), case.layer()
    found = {}
    for source, make in SOURCES.items():
        found[source] = case.call(layer, x, rngs=make())
        if type(layer).__name__ != "ScheduledDropout":  # whose calls are counted
            assert_equal(found[source], case.call(other, x, rngs=make()))
    assert count(layer) == 0
    for one, same in (("rngs", "stream"), ("key", "legacy key")):
        assert_equal(found[one], found[same])
    assert differ(found["key"], found["rngs"]) and differ(found["key"], case.call(layer, x))


@every_layer
def test_the_layers_own_stream(name):
    """Forked when it is made, and drawn from once a call."""
    case, x = CASES[name], CASES[name].x
    rngs = streams(dropout=5)
    layer, again, other = (
        case.layer(rngs=r) for r in (rngs, streams(dropout=5), streams(dropout=6))
    )
    assert int(rngs.dropout.count[...]) == 1
    rngs.dropout()
    stream = nnx.Rngs(dropout=5).dropout.fork()
    first = case.call(layer, x)
    assert_equal(first, case.call(layer, x, rngs=stream()))
    assert_equal(first, case.call(again, x))
    assert differ(first, case.call(layer, x)) and differ(first, case.call(other, x))
    assert count(layer) == 2
    layer.rngs = nnx.Rngs(dropout=5).dropout.fork()
    assert_equal(first, case.call(layer, x))


@pytest.mark.slow
def test_rng_collection_names_the_stream(subtests):
    for name in CASES:
        with subtests.test(name):
            case, rngs = CASES[name], streams(noise=1)
            case.call(case.layer(rng_collection="noise", rngs=rngs), case.x, rngs=rngs)
            assert int(rngs.dropout.count[...]) == 0
            assert int(rngs.noise.count[...]) == 2  # for the layer's own stream, and for the call


@pytest.mark.slow
def test_missing_or_wrong_rngs_say_what_to_write(subtests):
    for name in CASES:
        with subtests.test(name):
            case = CASES[name]
            layer, ours = case.layer(), name != "flax"
            with pytest.raises(
                ValueError, match="`deterministic` is False, but no `rngs`"
            ) as error:
                case.call(layer, case.x)
            assert not ours or "rngs=nnx.Rngs(0)" in str(error.value)
            with pytest.raises(
                TypeError, match=r"rngs is str; write nnx\.Rngs\(0\)" if ours else "rngs"
            ):
                case.call(layer, case.x, rngs="dropout")
            with pytest.raises(TypeError, match=r"rngs is int; write rngs=nnx" if ours else "rngs"):
                case.layer(rngs=3)


@pytest.mark.slow
def test_no_key_is_used_twice(subtests, key_reuse_checked):
    for name in OURS:
        with subtests.test(name):
            case = CASES[name]
            layer, x = case.layer(rngs=nnx.Rngs(0)), case.x
            assert differ(case.call(layer, x), case.call(layer, x))


# Transformations


@every_layer
def test_jit_split_and_merge(name):
    """One trace, the stream advances as in eager calls, and a merged copy goes on from there."""
    case, x = CASES[name], CASES[name].x
    eager, jitted, traces = case.layer(rngs=streams()), case.layer(rngs=streams()), []

    @nnx.jit
    def call(layer, x):
        traces.append(None)
        return case.call(layer, x)

    for _ in range(2):
        np.testing.assert_allclose(call(jitted, x), case.call(eager, x), rtol=1e-5, atol=1e-5)
    assert len(traces) == 1 and count(jitted) == 2
    copy = nnx.merge(*nnx.split(eager))
    assert type(copy) is type(eager)
    np.testing.assert_allclose(case.call(copy, x), case.call(jitted, x), rtol=1e-5, atol=1e-5)


@every_kind
def test_a_functional_scan_carries_the_stream(name):
    case = CASES[name]
    graphdef, state = nnx.split(case.layer(rngs=streams()))

    def step(state, x):
        layer = nnx.merge(graphdef, state)
        y = case.call(layer, x)
        return nnx.state(layer), y

    state, ys = jax.lax.scan(step, state, jnp.stack([case.x] * 3))
    assert len(np.unique(np.reshape(ys, (3, -1)), axis=0)) == 3
    assert count(nnx.merge(graphdef, state)) == 3


@every_kind
def test_vmap_with_split_keys_differs_and_without_is_shared(name):
    case, x = CASES[name], CASES[name].x
    layer = case.layer(rngs=streams())

    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=(nnx.StateAxes({nnx.RngState: 0, ...: None}), None))
    def split(layer, x):
        return case.call(layer, x)

    def shared(layer, x):
        return case.call(layer, x)

    if name != "ScheduledDropout":  # which writes its count: not to be mapped over without an axis
        assert len(np.unique(np.reshape(split(layer, x), (3, -1)), axis=0)) == 3
        ys = nnx.vmap(shared, in_axes=(None, 0))(layer, jnp.stack([x] * 3))
        assert len(np.unique(np.reshape(ys, (3, -1)), axis=0)) == 1


@every_kind
def test_scan_over_stacked_layers(name):
    case, x = CASES[name], CASES[name].x

    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def make(rngs):
        return case.layer(rngs=rngs)

    @nnx.scan(in_axes=(0, None), out_axes=0)
    def apply(layer, x):
        return case.call(layer, x)

    ys = apply(make(streams()), x)
    assert len(np.unique(np.reshape(ys, (3, -1)), axis=0)) == 3


# The amount of noise


@pytest.mark.slow
def test_an_amount_of_0_needs_no_rngs(subtests):
    for name in ["flax", *RATED]:
        with subtests.test(name):
            case = CASES[name]
            layer = case.make(0)
            assert_equal(case.call(layer, case.x), case.mean(layer, case.x, 0))


@every_rated
def test_a_sweep_over_arrays_is_one_trace(name):
    case, x = CASES[name], CASES[name].x
    layer, traces = case.make(jnp.float32(0.5), rngs=nnx.Rngs(0)), []

    @nnx.jit
    def apply(layer, x):
        traces.append(None)
        return case.call(layer, x, rngs=KEY)

    held = layer.stddev if hasattr(layer, "stddev") else layer.rate
    for amount in (0.0, 0.25, 1.0):
        held[...] = jnp.float32(amount)
        expected = case.function(KEY, layer, x, amount)
        np.testing.assert_allclose(apply(layer, x), expected, rtol=1e-5, atol=1e-5)
    assert len(traces) == 1


@every_rated
def test_a_layer_is_made_under_vmap_over_amounts(name):
    case = CASES[name]

    @nnx.vmap
    def make(amount, key):
        return case.make(amount, rngs=nnx.Rngs(key))

    made = make(jnp.array([0.0, 0.5]), jax.random.split(KEY, 2))
    y = nnx.vmap(lambda layer, x: case.call(layer, x), in_axes=(0, None))(made, case.x)
    one = nnx.vmap(lambda layer, x: case.call(layer, x, deterministic=True), in_axes=(0, None))
    expected = one(made, case.x)
    np.testing.assert_allclose(y[0], expected[0], rtol=1e-6, atol=1e-6)
    assert differ(y[1], expected[1])


@pytest.mark.slow
def test_a_bad_amount_is_refused(subtests):
    for name in RATED:
        with subtests.test(name):
            case, noise = CASES[name], name == "GaussianNoise"
            with pytest.raises(ValueError, match="stddev is -1.0" if noise else "between 0 and 1"):
                case.make(-1.0, rngs=nnx.Rngs(0))
            with pytest.raises(TypeError, match="write a number"):
                case.make("half", rngs=nnx.Rngs(0))


def test_filters_for_dropout_find_the_layers_of_a_rate():
    for name in set(RATED) - {"GaussianNoise", "DropConnectLinear", "Zoneout"}:
        layer = CASES[name].layer()
        assert isinstance(layer, layers.Dropout) and isinstance(layer, nnx.Dropout), name
