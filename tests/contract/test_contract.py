"""What every noise function promises: one list, every transformation, every dtype and edge.

Values are compared exactly where the library promises the same noise, and to a few roundings where
XLA may fuse differently. Moments have a stated false-alarm rate.
"""

import functools
import importlib
import inspect
import pkgutil
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers.thresholds import assert_normal

import dropout_jax as dj
from contract.entries import ENTRIES, NO_NOISE, Entry

KEY = jax.random.key(0)
RATES = (0.0, 0.5, 1.0)


def over(entries, slow=False):
    """Parametrise over entries; `slow` marks the variants."""
    marks = [pytest.mark.slow if slow and entry.functions else () for entry in entries]
    names = [entry.name for entry in entries]
    parameters = [pytest.param(e, marks=mark) for e, mark in zip(entries, marks, strict=True)]
    return pytest.mark.parametrize("entry", parameters, ids=names)


RATED = [entry for entry in ENTRIES if entry.at_one]
TRACED = [entry for entry in ENTRIES if entry.traced]


def values(shape, dtype=jnp.float32, seed=1):
    return jax.random.normal(jax.random.key(seed), shape, jnp.float32).astype(dtype)


def assert_same(actual, expected, scale=8.0):
    """Equal up to a few roundings of numbers of order `scale`."""
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=scale * 2.0**-23)


def assert_equal(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


# The list is complete


def public_functions_of_a_key():
    import dropout_jax.noise

    found = {name: getattr(dj, name) for name in set(dir(dj)) | set(vars(dj)) if name[0] != "_"}
    for module in pkgutil.iter_modules(dropout_jax.noise.__path__, "dropout_jax.noise."):
        members = vars(importlib.import_module(module.name))
        found |= {n: f for n, f in members.items() if getattr(f, "__module__", "") == module.name}
    for name, value in found.items():
        if inspect.isfunction(value) and not name.startswith("_"):
            if next(iter(inspect.signature(value).parameters), "") == "key":
                yield name


def test_every_public_noise_function_is_in_the_list():
    listed = {name for entry in ENTRIES for name in entry.covers} | set(NO_NOISE)
    missing = set(public_functions_of_a_key()) - listed
    assert not missing, f"add an Entry to tests/contract/entries.py for {sorted(missing)}"


def test_the_list_names_public_functions_once():
    assert all(hasattr(dj, name) for entry in ENTRIES for name in entry.covers)
    names = [entry.name for entry in ENTRIES]
    assert len(names) == len(set(names))


# Shapes, dtypes, edges


@pytest.mark.slow
@over(ENTRIES)
def test_jax_may_be_told_to_promote_nothing(entry):
    rates = (0.2, jnp.float32(0.2)) if entry.traced else (0.2,)
    with jax.numpy_dtype_promotion("strict"):
        for dtype in (jnp.float32, jnp.bfloat16):
            x = values(entry.shape, dtype)
            for rate in rates:
                y, pull = jax.vjp(lambda x, rate=rate: entry.call(KEY, x, rate), x)
                assert y.dtype == pull(jnp.ones_like(y))[0].dtype == dtype


@pytest.mark.slow
@over(ENTRIES, slow=True)
def test_shapes_and_dtypes_are_kept_and_narrow_ones_rounded_once(entry, x64):
    """The noise and the arithmetic are those of float32: a narrow result is its rounding."""

    @jax.jit
    def run(xs):
        return [entry.call(KEY, x, 0.5) for x in xs]

    dtypes = (jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn, jnp.float8_e5m2)
    narrow = [values(entry.shape, dtype) for dtype in dtypes]
    wide = [x.astype(jnp.float32) for x in narrow]
    xs = [*narrow, *wide, wide[0].astype(jnp.float64), *map(values, entry.odd_shapes)]
    ys = run(xs)
    for x, y in zip(xs, ys, strict=True):
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
        assert np.isfinite(y).all()
    for y, reference in zip(ys[:4], ys[4:8], strict=True):
        if entry.rounds_once:
            assert_equal(y, reference.astype(y.dtype))
        else:
            bound = 4 * float(jnp.finfo(y.dtype).eps) * float(jnp.abs(reference).max() + 1)
            np.testing.assert_allclose(np.float32(y), reference, atol=bound)
    if entry.same_in_64_bits:
        assert_same(ys[8], ys[4])


@over(ENTRIES)
def test_a_rate_of_0_changes_no_bit(entry):
    x = values(entry.shape)
    for rate in (0, 0.0, np.float32(0)):
        assert_equal(entry.call(KEY, x, rate), entry.at_zero(x))


@over(RATED)
def test_a_rate_of_1_is_finite_with_its_gradient(entry):
    x, weights = values(entry.shape), values(entry.shape, seed=2)
    for rate in (1, 1.0):
        y, pullback = jax.vjp(lambda x, rate=rate: entry.call(KEY, x, rate), x)
        assert_equal(y, entry.at_one(x))
        assert_equal(pullback(weights)[0], jax.vjp(entry.at_one, x)[1](weights)[0])


# Transformations


@pytest.mark.slow
@over(ENTRIES, slow=True)
def test_transformations_see_one_noise(entry):
    """y = A x + c for a key, so that derivatives are known from values."""
    x, tangent, weights = (values(entry.shape, seed=seed) for seed in (1, 2, 3))
    tangent = jnp.abs(tangent) * jnp.sign(x)
    keys = jax.random.split(KEY, 8)

    @jax.jit
    def call(key, x):
        return entry.call(key, x, 0.5)

    def loss(x, call=call):
        return jnp.sum(weights * call(KEY, x))

    def square(x):
        return jnp.sum(weights * call(KEY, x) ** 2) / 2

    @jax.jit
    def everything(x):
        y, slope = jax.jvp(lambda x: call(KEY, x), (x,), (tangent,))
        return {
            "y": y,
            "slope": slope,
            "gradient": jax.grad(loss)(x),
            "remat": jax.grad(lambda x: loss(x, jax.checkpoint(call)))(x),
            "second": jax.jvp(jax.grad(square), (x,), (tangent,))[1],
            "mapped": jax.vmap(call, (0, None))(keys, x),
            "scanned": jax.lax.scan(lambda _, key: (None, call(key, x)), None, keys)[1],
        }

    out, alone = everything(x), np.stack([call(key, x) for key in keys])
    assert_equal(call(keys[0], x), alone[0])
    assert (alone != alone[0]).any(), "the key changes nothing"
    assert_same(out["y"], call(KEY, x))
    assert_same(out["slope"], call(KEY, x + tangent) - call(KEY, x), 64)
    assert_same(jnp.sum(out["gradient"] * tangent), jnp.sum(weights * out["slope"]), 8 * x.size)
    assert_same(out["remat"], out["gradient"])
    curvature = jnp.sum(weights * out["slope"] ** 2)
    assert_same(jnp.sum(out["second"] * tangent), curvature, 64 * x.size)
    assert_same(out["mapped"], alone)
    assert_same(out["scanned"], alone)


@over(ENTRIES)
def test_the_gradient_is_not_held_back(entry):
    """XLA fuses nothing through a barrier: neither x nor its gradient stands behind one."""
    x = values(entry.shape)
    gradient = jax.grad(lambda x: jnp.sum(entry.call(KEY, jnp.sin(x), 0.5)))
    text = jax.jit(gradient).lower(x).as_text()
    numbers = f"tensor<{'x'.join(map(str, x.shape))}xf32>"
    assert numbers in text
    assert not re.findall(rf"optimization_barrier .* : .*{numbers}", text)


@pytest.mark.slow
@over(TRACED, slow=True)
def test_a_sweep_over_rates_is_one_program(entry):
    """Numbers, or arrays where they are taken: 0, 1 and mixtures too, in value and gradient."""
    x, weights = values(entry.shape), values(entry.shape, seed=2)

    traces = []

    @jax.jit
    def value_and_gradient(rate):
        traces.append(rate)
        y, pullback = jax.vjp(lambda x: entry.call(KEY, x, rate), x)
        return y, pullback(weights)[0]

    shape = entry.rate_shape or ()
    alone = {rate: value_and_gradient(jnp.full(shape, rate, jnp.float32)) for rate in RATES}
    assert all(np.isfinite(part).all() for result in alone.values() for part in result)
    assert_equal(alone[0.0], (entry.at_zero(x), jax.vjp(entry.at_zero, x)[1](weights)[0]))
    assert_same(alone[0.5][0], entry.call(KEY, x, 0.5))
    if entry.at_one:
        assert_equal(alone[1.0], (entry.at_one(x), jax.vjp(entry.at_one, x)[1](weights)[0]))
    rates = np.random.default_rng(0).choice(RATES, shape)
    mixed = value_and_gradient(jnp.asarray(rates, jnp.float32))
    assert len(traces) == 1
    rates = np.broadcast_to(rates, entry.shape)
    for rate, result in alone.items():
        for ours, theirs in zip(mixed, result, strict=True):
            assert_same(np.asarray(ours)[rates == rate], np.asarray(theirs)[rates == rate])


@pytest.mark.slow
@over(ENTRIES)
def test_eight_devices_draw_what_one_draws(entry):
    x = values(entry.shape)
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.device_put(x, jax.NamedSharding(mesh, jax.P("batch")))
    call = jax.jit(lambda x: entry.call(KEY, x, 0.5))
    assert_same(call(sharded), call(x))


@over(TRACED)
def test_a_traced_scalar_rate_is_taken(entry):
    x = jax.ShapeDtypeStruct(entry.shape, jnp.float32)
    rate = jax.ShapeDtypeStruct((), jnp.float32)
    assert jax.eval_shape(lambda x, rate: entry.call(KEY, x, rate), x, rate).shape == entry.shape


# Errors


@over(ENTRIES)
def test_errors_say_what_to_write(entry):
    x = values(entry.shape)
    for bad in (None, 0, jnp.ones(2), nnx.Rngs(0), nnx.Rngs(0).dropout):
        with pytest.raises(TypeError, match=r"jax\.random\.key\(0\)"):
            entry.call(bad, x, 0.5)
    with pytest.raises(ValueError, match=r"key\[0\]"):
        entry.call(jax.random.split(KEY, 2), x, 0.5)
    with pytest.raises(TypeError, match=r"astype\(jnp\.float32\)"):
        entry.call(KEY, x.astype(jnp.int32), 0.5)
    wrong = (7, 7) if entry.rate_shape is not None else (2,)
    with pytest.raises((TypeError, ValueError), match=r"\(2,\)|broadcast|Python number"):
        entry.call(KEY, x, jnp.full(wrong, 0.5))
    for bad in (-0.5, float("nan"), *([1.5] if entry.at_one else [])):
        with pytest.raises(ValueError, match=str(bad)):
            entry.call(KEY, x, bad)


@over(ENTRIES)
def test_a_legacy_key_draws_what_its_typed_one_draws(entry):
    x = values(entry.shape)
    assert_equal(entry.call(jax.random.PRNGKey(0), x, 0.5), entry.call(KEY, x, 0.5))
    with pytest.raises(ValueError, match=r"key\[0\]"):
        entry.call(jax.random.split(jax.random.PRNGKey(0), 3), x, 0.5)


@pytest.mark.usefixtures("key_reuse_checked")
@over(ENTRIES)
def test_jax_sees_a_key_that_is_used_twice(entry):
    x, used = values(entry.shape), jax.random.key(1)
    y = entry.call(used, x, 0.5)
    with pytest.raises(jax.errors.KeyReuseError):
        entry.call(used, x, 0.5)
    with pytest.raises(jax.errors.KeyReuseError):
        jax.jit(lambda key, x: entry.call(key, entry.call(key, x, 0.5), 0.5))(KEY, x)
    with jax.debug_key_reuse(False):
        assert_equal(entry.call(jax.random.key(1), x, 0.5), y)


HAIKU = [
    dj.dropout, dj.dropout_unscaled, dj.gaussian_dropout, dj.gaussian_noise, dj.alpha_dropout,
    dj.feature_alpha_dropout, dj.drop_path, functools.partial(dj.drop_block, block_size=2),
    dj.drop_connect, dj.attention_dropout,
]  # fmt: skip


@pytest.mark.parametrize("function", HAIKU)
def test_the_order_of_haiku_is_named(function):
    with pytest.raises(TypeError, match=r"\(key, x, rate\).*Haiku"):
        function(KEY, 0.5, values((4, 5, 6)))


# Moments

DRAWS = 2**14
WITH_MOMENTS = [entry for entry in ENTRIES if entry.variance]
# Means of two-point (skewness under 1.5) and chi-square (2.83) variables: at |z| = 6.3 the third
# moment raises the normal tail by exp(2.83 z^3 / (6 sqrt(DRAWS))) < 3 at most, allowed for here.
ALPHA = 1e-6 / (3 * 2 * len(WITH_MOMENTS))


def check_moments(entry, alpha, rate=0.25):
    x = values(entry.shape)
    draw = jax.jit(jax.vmap(lambda key: entry.call(key, x, rate)))
    y = np.float64(draw(jax.random.split(jax.random.key(2014), DRAWS)))
    exact = np.float64(x)
    deviation = y - entry.mean(exact, rate)
    variance = entry.variance(exact, rate)
    assert_normal(deviation.mean(0) / np.sqrt(variance / DRAWS), alpha, "mean")
    error = (deviation**2).mean(0) - variance
    assert_normal(error / ((deviation**2).std(0) / np.sqrt(DRAWS)), alpha, "variance")


@pytest.mark.usefixtures("key_reuse_checked")
@over(WITH_MOMENTS)
def test_mean_and_variance_of_keys_used_once(entry):
    check_moments(entry, ALPHA)


@pytest.mark.usefixtures("key_reuse_checked")
def test_a_key_used_twice_is_caught():
    def twice(key, x, rate):
        return dj.gaussian_noise(key, dj.gaussian_dropout(key, x, rate), rate)

    with pytest.raises(jax.errors.KeyReuseError):
        check_moments(Entry("twice", twice), ALPHA)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda key, x, rate: 1.04 * dj.dropout(key, x, rate), "mean"),
        (lambda key, x, rate: dj.dropout(key, x, 0.3125), "variance"),
    ],
)
def test_a_wrong_moment_is_caught(call, what):
    with pytest.raises(AssertionError, match=what):
        check_moments(Entry("wrong", call), ALPHA)
