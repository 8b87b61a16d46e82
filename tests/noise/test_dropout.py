"""`dropout` and `dropout_unscaled`: values, derivatives, what is stored, and what is refused."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thresholds import normal_threshold

import dropout_jax as dj

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (6, 50))
FORMS = ["static", "traced", "array"]


def in_form(rate, form, shape=(6, 50)):
    if form == "static":
        return rate
    return jnp.float32(rate) if form == "traced" else jnp.full(shape, rate, jnp.float32)


def equal(a, b):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


# Values


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.75, 0.999, 1.0])
def test_kept_values_are_scaled_and_the_others_zero(rate, form):
    given = in_form(rate, form)
    kept = np.asarray(dj.bernoulli_mask(KEY, given, X.shape))
    keep = 1 - np.float32(rate)
    factor = np.float32(1) / keep if keep else np.float32(0)
    equal(dj.dropout(KEY, X, given), np.where(kept, X * factor, 0))
    equal(dj.dropout_unscaled(KEY, X, given), np.where(kept, X, 0))


@pytest.mark.parametrize("rate", [0.3, 0.9, 0.9999, 1 - 1e-7])
def test_the_factor_is_that_of_the_rate_drawn(rate):
    """The mask is drawn at float32(rate): so is the factor, and both forms of a rate agree."""
    x = jnp.ones(2**20)
    y = np.unique(dj.dropout(KEY, x, rate))
    equal(y, np.unique(dj.dropout(KEY, x, jnp.float32(rate))))
    equal(y[y > 0], (1 / (1 - np.float32(rate)))[None][: np.count_nonzero(y)])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "dtype",
    [
        jnp.bfloat16,
        jnp.float32,
        pytest.param(jnp.float16, marks=pytest.mark.slow),
        pytest.param(jnp.float8_e4m3fn, marks=pytest.mark.slow),
    ],
)
def test_shape_and_dtype_are_kept(dtype, form):
    for shape in [(), (3, 0), (3, 5, 7)]:
        x = jnp.ones(shape, dtype)
        y = dj.dropout(KEY, x, in_form(0.2, form, shape))
        assert (y.shape, y.dtype) == (shape, dtype)
        equal(y, dj.dropout(KEY, x, 0.2))


def test_float64(x64):
    x = jnp.linspace(1, 2, 100, dtype=jnp.float64)
    y = dj.dropout(KEY, x, 0.3)
    assert y.dtype == jnp.float64
    equal(y, np.where(dj.bernoulli_mask(KEY, 0.3, x.shape), x * (1 / (1 - 0.3)), 0))
    assert dj.dropout(KEY, x.astype(jnp.float32), jnp.float64(0.3)).dtype == jnp.float32


def test_complex_values():
    y = dj.dropout(KEY, jnp.full(64, 1 + 2j), 0.5)
    equal(jnp.unique(y), [0, 2 + 4j])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.7])
def test_the_factor_is_applied_in_float32_and_rounded_once(dtype, rate):
    x = jnp.linspace(1, 2, 1000).astype(dtype)
    factor = 1 / (1 - np.float32(rate))
    right = (np.asarray(x, np.float32) * factor).astype(dtype)
    kept = np.asarray(dj.bernoulli_mask(KEY, rate, x.shape))
    equal(dj.dropout(KEY, x, rate), np.where(kept, right, 0))
    narrow = np.asarray(x / (1 - jnp.asarray(rate, dtype)))  # what a factor in x's dtype gives
    assert (narrow != right).any()


def test_the_mean_is_right_in_bfloat16():
    """False-alarm rate 1e-8. The peers' bias at this rate, 0.26 %, would be seen."""
    x = jax.random.uniform(jax.random.key(2), (2**22,), minval=0.5, maxval=1.5).astype(jnp.bfloat16)
    wide = np.asarray(x, np.float64)
    y = np.asarray(dj.dropout(KEY, x, 0.1), np.float64)
    # The noise, and a rounding error within half a unit in the last place (2^-8, relative).
    variance = (wide**2 * (0.1 / 0.9 + 2**-16)).sum()
    limit = normal_threshold(1e-8) * np.sqrt(variance) / wide.sum()
    assert limit < 0.0026 / 2
    assert abs(y.sum() / wide.sum() - 1) < limit


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_dropped_values_that_are_not_finite_become_zero(form):
    x = jnp.where(dj.bernoulli_mask(KEY, 0.3, X.shape), X, jnp.nan).at[0].multiply(jnp.inf)
    rate = in_form(0.3, form)
    kept = np.asarray(dj.bernoulli_mask(KEY, rate, X.shape))
    for y in (dj.dropout(KEY, x, rate), dj.dropout_unscaled(KEY, x, rate)):
        equal(np.asarray(y)[~kept], np.zeros((~kept).sum()))
    gradient = jax.grad(lambda x: dj.dropout(KEY, x, rate).sum())(x)
    assert np.isfinite(gradient).all()
    equal(dj.dropout(KEY, x * jnp.nan, in_form(1.0, form)), np.zeros(X.shape))


@pytest.mark.slow
@pytest.mark.parametrize("dims", [(0,), (1,), (-1,), (0, 1)])
@pytest.mark.parametrize("rate", [0.5, 0.2, jnp.float32(0.2)], ids=str)
def test_shared_axes(dims, rate):
    mask = dj.bernoulli_mask(KEY, rate, X.shape, broadcast_dims=dims)
    equal(dj.dropout(KEY, X, rate, broadcast_dims=dims), dj.apply_mask(X, mask, rate))
    equal(dj.dropout_unscaled(KEY, X, rate, broadcast_dims=dims), np.where(mask, X, 0))
    for axis in dims:
        equal(mask, np.broadcast_to(np.take(mask, [0], axis), mask.shape))


def test_inputs_of_any_layout():
    equal(dj.dropout(KEY, X.T, 0.5), dj.dropout(KEY, jnp.array(np.ascontiguousarray(X.T)), 0.5))
    strided = np.asarray(jnp.tile(X, (1, 2)))[::2, ::-3]
    equal(dj.dropout(KEY, strided, 0.5), dj.dropout(KEY, jnp.array(strided.copy()), 0.5))
    equal(dj.dropout(KEY, [1.0, 2.0], 0), [1.0, 2.0])


# Derivatives


@pytest.mark.slow
@pytest.mark.parametrize("residual", ["packed", "key"])
@pytest.mark.parametrize("form", [*FORMS[:2], pytest.param("array", marks=pytest.mark.slow)])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 1.0])
def test_derivatives(rate, form, residual):
    given = in_form(rate, form)

    def drop(x):
        return dj.dropout(KEY, x, given, residual=residual)

    noise = dj.dropout(KEY, jnp.ones_like(X), given)
    tangent = jnp.cos(X)
    y, dy = jax.jvp(drop, (X,), (tangent,))
    equal(y, drop(X))
    equal(dy, noise * tangent)
    equal(jax.vjp(drop, X)[1](tangent)[0], noise * tangent)
    equal(jax.linearize(drop, X)[1](tangent), noise * tangent)
    cubic = jax.grad(lambda x: (drop(x) ** 3).sum() / 6)
    np.testing.assert_allclose(cubic(X), noise**3 * X**2 / 2, rtol=1e-6)
    second = jax.jvp(cubic, (X,), (tangent,))[1]
    np.testing.assert_allclose(second, noise**3 * X * tangent, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("residual", ["packed", "key"])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_hessian(rate, residual):
    x = X[0, :5]

    def energy(x, r):
        return (dj.dropout(KEY, x, r, residual=residual) ** 2).sum() / 2

    expected = np.diag(np.asarray(dj.dropout(KEY, jnp.ones(5), rate)) ** 2)
    np.testing.assert_allclose(jax.hessian(energy)(x, rate), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.hessian(energy))(x, rate), expected, rtol=1e-6)


def test_the_rate_has_no_gradient():
    for rate in (0.0, 0.3, 1.0):
        assert jax.grad(lambda r: dj.dropout(KEY, X, r).sum())(rate) == 0


@pytest.mark.parametrize("rate", [-0.5, 1.5, np.nan, np.inf])
def test_traced_rates_out_of_range_give_no_nan(rate):
    drop = jax.jit(lambda r: jax.value_and_grad(lambda x: dj.dropout(KEY, x, r).sum())(X))
    chex.assert_tree_all_finite(drop(rate))


# Transformations


@pytest.mark.slow
def test_vmap_over_keys_rates_and_both():
    keys, rates = jax.random.split(KEY, 3), jnp.array([0.0, 0.2, 0.5])
    by_key = jax.vmap(dj.dropout, (0, None, None))
    equal(by_key(keys, X, 0.2), np.stack([dj.dropout(k, X, 0.2) for k in keys]))
    by_rate = jax.vmap(dj.dropout, (None, None, 0))(KEY, X, rates)
    equal(by_rate, np.stack([dj.dropout(KEY, X, r) for r in rates]))
    both = jax.vmap(by_key, (None, None, 0))(keys, X, rates)
    equal(both, np.stack([[dj.dropout(k, X, r) for k in keys] for r in rates]))
    paired = jax.jit(jax.vmap(dj.dropout, (0, 0, 0)))(keys, X[:3], rates)
    equal(paired, np.stack([dj.dropout(k, x, r) for k, x, r in zip(keys, X, rates, strict=False)]))


@pytest.mark.slow
@pytest.mark.parametrize("residual", ["packed", "key"])
@pytest.mark.parametrize("rate", [0.5, jnp.float32(0.2)], ids=str)
def test_gradients_of_each_example(rate, residual):
    keys = dj.per_example_keys(KEY, jnp.arange(6))

    def loss(key, x):
        return (dj.dropout(key, x, rate, residual=residual) ** 2).sum()

    expected = np.stack([jax.grad(loss, 1)(k, x) for k, x in zip(keys, X, strict=True)])
    np.testing.assert_array_equal(jax.vmap(jax.grad(loss, 1))(keys, X), expected)


@pytest.mark.slow
@pytest.mark.parametrize("residual", ["packed", "key"])
def test_scan(residual):
    keys, rates = jax.random.split(KEY, 4), jnp.array([0.1, 0.5, 0.0, 0.25])

    def step(state, xs):
        return dj.dropout(xs[0], state, xs[1], residual=residual), None

    def run(x):
        return jax.lax.scan(step, x, (keys, rates))[0]

    expected = X
    for key, rate in zip(keys, rates, strict=True):
        expected = dj.dropout(key, expected, rate)
    np.testing.assert_allclose(run(X), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda x: run(x).sum())(X), expected / X, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("residual", ["packed", "key"])
@pytest.mark.parametrize("rate", [0.5, 0.2, jnp.float32(0.2)], ids=str)
def test_remat_draws_the_same_mask_again(rate, residual):
    noise = dj.dropout(KEY, jnp.ones_like(X), rate)

    @jax.checkpoint
    def drop(x):
        return dj.dropout(KEY, jnp.sin(x), rate, residual=residual)

    gradient = jax.jit(jax.grad(lambda x: drop(x).sum()))(X)
    np.testing.assert_allclose(gradient, noise * jnp.cos(X), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(lambda x: drop(x).sum())(X), noise * jnp.cos(X), rtol=1e-5)


# What the backward pass stores


def stored(f, x):
    return jax.tree.leaves(jax.vjp(f, x)[1])


@pytest.mark.slow
@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("rate", [0.5, 0.2, jnp.float32(0.2)], ids=str)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_one_bit_an_element_is_stored(rate, dtype, jitted):
    x = jnp.ones((256, 1024), dtype)
    for function in (dj.dropout, dj.dropout_unscaled):
        drop = lambda x, function=function: function(KEY, x, rate)  # noqa: E731
        leaves = stored(jax.jit(drop) if jitted else drop, x)
        arrays = [leaf for leaf in leaves if leaf.ndim]
        assert [(leaf.shape, leaf.dtype) for leaf in arrays] == [((256, 32), jnp.uint32)]
        assert sum(leaf.nbytes for leaf in leaves) <= x.size // 8 + 4  # and a traced factor


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("rate", [0.5, 0.2, jnp.float32(0.2)], ids=str)
def test_nothing_but_the_key_is_stored(rate, jitted):
    drop = lambda x: dj.dropout(KEY, x, rate, residual="key")  # noqa: E731
    leaves = stored(jax.jit(drop) if jitted else drop, jnp.ones((256, 1024)))
    assert all(leaf.ndim == 0 for leaf in leaves) and len(leaves) <= 2  # and a traced rate


@pytest.mark.parametrize("residual", ["packed", "key"])
@pytest.mark.parametrize("rate", [0.2, jnp.float32(0.2)], ids=str)
def test_the_gradient_is_not_held_back(rate, residual):
    """XLA fuses nothing through a barrier: of what stands behind one, none is as large as x."""
    drop = lambda x: dj.dropout(KEY, jnp.sin(x), rate, residual=residual).sum()  # noqa: E731
    text = jax.jit(jax.grad(drop)).lower(X).as_text()
    held = re.findall(r"optimization_barrier .* : (.*)", text)
    assert held and not any(f"tensor<{'x'.join(map(str, X.shape))}x" in line for line in held)


@pytest.mark.parametrize("residual", ["packed", "key"])
def test_nothing_moves_with_the_rate(residual):
    y, along = jax.jvp(
        lambda rate: dj.dropout(KEY, X, rate, residual=residual), (jnp.float32(0.2),), (1.0,)
    )
    chex.assert_trees_all_equal(y, dj.dropout(KEY, X, 0.2))
    chex.assert_trees_all_equal(along, jnp.zeros_like(X))


@pytest.mark.slow
def test_both_residuals_give_the_same_values_in_a_network():
    w = jax.random.normal(jax.random.key(3), (50, 50)) / 7

    def loss(w, residual):
        h = dj.dropout(KEY, jnp.tanh(X @ w), 0.3, residual=residual)
        return (h @ w).sum()

    packed, by_key = (jax.value_and_grad(loss)(w, residual) for residual in ("packed", "key"))
    chex.assert_trees_all_equal(packed, by_key)


# Compilation


def test_a_sweep_over_rates_and_keys_traces_once():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def drop(key, rate):
        return dj.dropout(key, X, rate)

    for rate in (0.0, 0.1, 0.5, 1.0):
        key = jax.random.fold_in(KEY, int(10 * rate))
        equal(drop(key, rate), dj.dropout(key, X, rate))
    chex.clear_trace_counter()


def test_calls_outside_jit_compile_once(caplog):
    def compiled(rate):
        caplog.clear()
        with jax.log_compiles(True):
            dj.dropout(jax.random.key(5), X[:, :7], rate)
        return [r.message for r in caplog.records if r.message.startswith("Compiling jit(_apply")]

    assert len(compiled(jnp.float32(0.1))) == 1
    assert not compiled(jnp.float32(0.3)) and not compiled(jnp.float32(1.0))
    assert len(compiled(0.1)) == 1
    assert not compiled(0.1)


def test_distinct_keys_are_no_reuse(key_reuse_checked):
    keys = jax.random.split(jax.random.key(0), 3)
    for key, rate in zip(keys, (0.5, 0.2, jnp.float32(0.2)), strict=True):
        jax.value_and_grad(lambda x, key=key, rate=rate: dj.dropout(key, x, rate).sum())(X)


# Errors


@pytest.mark.parametrize("function", [dj.dropout, dj.dropout_unscaled])
@pytest.mark.parametrize(
    ("key", "x", "rate", "error", "fix"),
    [
        (None, X, 0.5, TypeError, r"no key was given; write jax\.random\.key\(0\)"),
        (X, KEY, 0.5, TypeError, r"write jax\.random\.key\(0\)"),
        (jax.random.split(KEY, 6), X, 0.5, ValueError, r"jax\.vmap\(dropout, \(0, 0, None\)\)"),
        (KEY, jnp.arange(3), 0.5, TypeError, r"write x\.astype\(jnp\.float32\)"),
        (KEY, jnp.ones(3, bool), 0.5, TypeError, r"x has dtype bool"),
        (KEY, None, 0.5, TypeError, "x is NoneType; write an array"),
        (KEY, {"a": X}, 0.5, TypeError, "x is dict; write an array"),
        (KEY, X, KEY, TypeError, "write a number between 0 and 1"),
        (KEY, X, True, TypeError, "write a number between 0 and 1"),
        (KEY, X, None, TypeError, "write a number between 0 and 1"),
        (KEY, X, 1.5, ValueError, r"rate is 1\.5"),
        (KEY, X, -0.1, ValueError, r"rate is -0\.1.* write 0\.5"),
        (KEY, X, np.nan, ValueError, "rate is nan"),
        (KEY, X, jnp.array(2.0), ValueError, r"rate is 2\.0"),
        (KEY, X, jnp.full((7, 50), 0.5), ValueError, r"rate of shape \(7, 50\)"),
        (KEY, X, jnp.full((2, 6, 50), 0.5), ValueError, r"rate of shape \(2, 6, 50\)"),
        (KEY, X, jnp.full((6,), 0.5), ValueError, r"rate of shape \(6,\)"),
    ],
)
def test_bad_arguments(function, key, x, rate, error, fix):
    with pytest.raises(error, match=fix):
        function(key, x, rate)


@pytest.mark.parametrize("rate", [0, 0.5, 1])
def test_bad_arguments_are_refused_at_certain_rates_too(rate):
    with pytest.raises(TypeError, match="no key was given"):
        dj.dropout(None, X, rate)
    with pytest.raises(TypeError, match="x has dtype int"):
        dj.dropout(KEY, np.arange(3), rate)
    with pytest.raises(ValueError, match="broadcast_dims has axis 2.*axes -2 to 1"):
        dj.dropout(KEY, X, rate, broadcast_dims=(2,))
    with pytest.raises(ValueError, match="write each axis once"):
        dj.dropout_unscaled(KEY, X, rate, broadcast_dims=(0, -2))
    with pytest.raises(ValueError, match="write 'packed' or 'key'"):
        dj.dropout(KEY, X, rate, residual="none")


def test_bad_arguments_are_refused_under_jit():
    with pytest.raises(ValueError, match=r"rate is 1\.5"):
        jax.jit(lambda x: dj.dropout(KEY, x, 1.5))(X)
    with pytest.raises(ValueError, match="does not broadcast"):
        jax.jit(dj.dropout)(KEY, X, jnp.full((7,), 0.5))


def test_weights_are_floating_point():
    with pytest.raises(TypeError, match="weight has dtype int32"):
        dj.scale_for_inference(jnp.ones((2, 2), int), 0.5)
    assert dj.scale_for_inference(2.0, 0.5) == 1


@pytest.mark.parametrize("zero", [0, np.zeros(()), jnp.float32(0)])
def test_no_map_to_a_convention_that_keeps_nothing(zero):
    with pytest.raises(ValueError, match="keep is 0"):
        dj.to_scaled_convention({"weight_decay": 0.1}, zero)


def test_numpy_weights_are_scaled_in_their_own_precision():
    weights = np.full((2, 2), 1 / 3)
    scaled = dj.scale_for_inference(weights, 0.3)
    assert scaled.dtype == np.float64
    np.testing.assert_array_equal(scaled, weights * 0.3)
