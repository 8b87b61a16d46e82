"""Attention in blocks is attention with `attention_dropout`: the same mask, values, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dropout_jax as dj

KEY = jax.random.key(4)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def inputs(queries=9, length=9, heads=4, groups=4, batch=2, depth=8):
    query = normal(1, batch, queries, heads, depth)
    return query, normal(2, batch, length, groups, depth), normal(3, batch, length, groups, depth)


def held(key, query, keys, values, rate, bias=None, mask=None, is_causal=False, per="head"):
    """The same with the weights in memory."""
    keys, values = (jnp.repeat(a, query.shape[-2] // a.shape[-2], -2) for a in (keys, values))
    logits = jnp.einsum("...qhd,...khd->...hqk", query, keys) / np.sqrt(query.shape[-1])
    causal = np.tri(*logits.shape[-2:], dtype=bool) if is_causal else np.ones((1, 1), bool)
    allowed = np.ones((1, 1), bool) if mask is None else mask
    bias = np.float32(0) if bias is None else bias
    with jax.numpy_rank_promotion("allow"):
        logits = jnp.where(allowed & causal, logits + bias, -jnp.inf)
    weights = dj.attention_dropout(key, jax.nn.softmax(logits), rate, per=per)
    return jnp.einsum("...hqk,...khd->...qhd", weights, values)


# The mask


@pytest.mark.parametrize(
    ("queries", "length", "per"),
    [
        (7, 33, "head"),  # heads share words of the mask
        pytest.param(12, 64, "example", marks=pytest.mark.slow),  # rows of whole words
        pytest.param(8, 20, "batch", marks=pytest.mark.slow),  # rows share words
    ],
)
def test_the_mask_is_that_of_attention_dropout_whatever_the_block(queries, length, per):
    """Equal logits and values that tell the keys apart show every weight."""
    query, keys = jnp.zeros((2, queries, 3, 4)), jnp.zeros((2, length, 3, 4))
    values = jnp.broadcast_to(jnp.eye(length)[:, None], (2, length, 3, length))
    weights = jnp.full((2, 3, queries, length), 1 / length)
    for rate in (0.3, jnp.float32(0.3)):
        expected = dj.attention_dropout(KEY, weights, rate, per=per)
        for block in (1, 3, None):
            y = dj.dot_product_attention(KEY, query, keys, values, rate, per=per, block=block)
            np.testing.assert_allclose(y.swapaxes(-3, -2), expected, rtol=1e-6)


@pytest.mark.slow
def test_the_mask_of_another_generator():
    key, (query, keys, values) = jax.random.key(4, impl="rbg"), inputs(length=33)
    y = dj.dot_product_attention(key, query, keys, values, 0.3, block=4)
    np.testing.assert_allclose(y, held(key, query, keys, values, 0.3), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_legacy_key_is_the_typed_one():
    x = normal(1, 2, 9, 4, 8)
    typed, legacy = (
        dj.dot_product_attention(key, x, x, x, 0.3) for key in (KEY, jax.random.key_data(KEY))
    )
    np.testing.assert_array_equal(typed, legacy)


# Values and gradients

PADDING = (np.arange(9) < [[9], [4]])[:, None, None]  # (batch, 1, 1, keys)
DRAWS = np.random.default_rng(0)
ANY = DRAWS.random((2, 4, 9, 9)) < 0.8
ANY[..., 0] = True


def biases(*shape):
    return DRAWS.standard_normal(shape).astype(np.float32)


CASES = {
    "plain": {},
    "causal": {"is_causal": True},
    "bias": {"bias": biases(4, 9, 9)},
    "bias of a key": {"bias": biases(2, 1, 1, 9)},
    "bias of a query": {"bias": biases(9, 1)},
    "padding": {"mask": PADDING},
    "causal padding and bias": {"mask": PADDING, "is_causal": True, "bias": biases(4, 9, 9)},
    "mask of all": {"mask": ANY},
    "mask of a query": {"mask": np.ones((9, 1), bool)},
}


def same_values_and_gradients(query, keys, values, options, rate=0.3, block=4):
    """float32: sums of 9 to 64 terms of order 1, so that 1e-4 is hundreds of roundings."""
    bias = options.get("bias")

    def total(f, more):
        def of(query, keys, values, bias):
            y = f(KEY, query, keys, values, rate, **{**options, "bias": bias}, **more)
            return (y**2).sum(), y

        at = (0, 1, 2) if bias is None else (0, 1, 2, 3)
        return jax.jit(jax.grad(of, at, has_aux=True))(query, keys, values, bias)

    actual, expected = total(dj.dot_product_attention, {"block": block}), total(held, {})
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "case",
    [
        case if case == "causal padding and bias" else pytest.param(case, marks=pytest.mark.slow)
        for case in CASES
    ],
)
def test_values_and_gradients_are_those_of_weights_that_are_held(case):
    same_values_and_gradients(*inputs(), CASES[case])


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("queries", "length"), [(33, 33), (20, 64), (64, 20)])
def test_grouped_heads_and_other_lengths(groups, is_causal, queries, length):
    options = {"is_causal": is_causal, "per": "example"}
    same_values_and_gradients(*inputs(queries, length, groups=groups), options, block=6)


@pytest.mark.slow
@pytest.mark.parametrize("lead", [(), (2, 3)])
def test_any_number_of_batch_axes(lead):
    x = normal(1, *lead, 9, 4, 8)
    y = dj.dot_product_attention(KEY, x, x, x, 0.3, block=4)
    np.testing.assert_allclose(y, held(KEY, x, x, x, 0.3), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_values_of_another_depth_and_another_scale():
    query, keys, _ = inputs()
    y = dj.dot_product_attention(KEY, query, keys, keys[..., :3], 0.3, scale=0.1, block=4)
    expected = held(KEY, query * 0.1 * np.sqrt(8), keys, keys[..., :3], 0.3)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("is_causal", [False, True])
def test_without_dropout_it_is_that_of_jax(is_causal):
    query, keys, values = inputs(groups=2)
    options = {"is_causal": is_causal}
    y = dj.dot_product_attention(None, query, keys, values, 0, block=4, **options)
    expected = jax.nn.dot_product_attention(query, keys, values, **options)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block", [4, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "rate", [0.3, pytest.param(0, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.slow)]
)
def test_queries_that_see_no_key_get_0_and_no_nan(rate, block):
    query, keys, values = inputs()
    mask = jnp.ones((9, 9), bool).at[3:6].set(False)

    def total(query, keys, values):
        y = dj.dot_product_attention(KEY, query, keys, values, rate, mask=mask, block=block)
        return (y**2).sum(), y

    gradients, y = jax.grad(total, (0, 1, 2), has_aux=True)(query, keys, values)
    assert (y[:, 3:6] == 0).all() and (gradients[0][:, 3:6] == 0).all()
    assert all(jnp.isfinite(g).all() for g in (y, *gradients))
    assert (y[:, :3] != 0).any() == (rate < 1)


@pytest.mark.slow
def test_keys_hidden_by_a_causal_mask_have_no_gradient():
    x = normal(1, 2, 9, 4, 8)

    def first(x):
        return dj.dot_product_attention(KEY, x, x, x, 0.3, is_causal=True, block=2)[:, :3].sum()

    gradient = jax.grad(first)(x)
    assert (gradient[:, 3:] == 0).all() and (gradient[:, :3] != 0).any()


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_a_traced_rate_is_that_of_the_number(rate):
    query, keys, values = inputs()

    def total(query, rate):
        return (dj.dot_product_attention(KEY, query, keys, values, rate, block=4) ** 2).sum()

    traced = jax.jit(jax.value_and_grad(total))(query, rate)
    for a, b in zip(traced, jax.value_and_grad(total)(query, float(rate)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
def test_narrow_inputs_have_a_softmax_in_float32(dtype):
    """Logits near 100 differ by 0.25 or more in bfloat16, which moves weights by a fifth.

    In float32 only the weights (at most 1) and the output are rounded: by 2^-8 and 2^-8 of it in
    bfloat16, so that outputs of order 4 or less are within 4 * 2^-7.
    """
    query, keys, values = (x.astype(dtype) for x in inputs())
    query = query * 10
    y = dj.dot_product_attention(KEY, query, keys, values, 0.3, block=4)
    wide = (x.astype(jnp.float32) for x in (query, keys, values))
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype(jnp.float32), held(KEY, *wide, 0.3), atol=4 * 2.0**-7)
    gradient = jax.grad(
        lambda q: dj.dot_product_attention(KEY, q, keys, values, 0.3, block=4).sum().astype("f4")
    )(query)
    assert gradient.dtype == dtype and jnp.isfinite(gradient.astype(jnp.float32)).all()


@pytest.mark.slow
def test_float64_under_strict_promotion(x64):
    query, keys, values = (np.asarray(x, np.float64) for x in inputs())
    options = {"is_causal": True, "mask": PADDING, "bias": biases(4, 9, 9).astype(np.float64)}
    expected = held(KEY, query, keys, values, 0.3, **options)
    with jax.numpy_dtype_promotion("strict"):
        y = dj.dot_product_attention(KEY, query, keys, values, 0.3, block=4, **options)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


# Transformations


@pytest.mark.slow
@pytest.mark.parametrize("is_causal", [False, True])
def test_derivatives_forward_and_of_second_order(is_causal):
    query, keys, values = inputs()
    along = normal(7, *query.shape)

    def total(f, **more):
        def of(query):
            y = f(KEY, query, keys, values, 0.3, is_causal=is_causal, **more)
            return (y**2).sum()

        forward = jax.jvp(of, (query,), (along,))[1]
        over_reverse = jax.jvp(jax.grad(of), (query,), (along,))[1]
        twice = jax.grad(lambda q: (jax.grad(of)(q) * along).sum())(query)
        return forward, over_reverse, twice

    actual, expected = total(dj.dot_product_attention, block=4), total(held)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_vmap_scan_and_remat_draw_the_masks_of_a_loop():
    query, keys, values = inputs(batch=3)

    def one(key, query, keys, values):
        return dj.dot_product_attention(key, query, keys, values, 0.3, is_causal=True, block=4)

    rngs = jax.random.split(KEY, 3)
    loop = jnp.stack([one(*of) for of in zip(rngs, query, keys, values, strict=True)])
    scan = jax.lax.scan(lambda _, of: (None, one(*of)), None, (rngs, query, keys, values))[1]
    for y in (jax.vmap(one)(rngs, query, keys, values), scan, jax.vmap(jax.checkpoint(one))(
        rngs, query, keys, values
    )):  # fmt: skip
        np.testing.assert_allclose(y, loop, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_program_exported_without_batch_and_length():
    def step(x):
        return dj.dot_product_attention(KEY, x, x, x, 0.3, is_causal=True)

    shape = jax.export.symbolic_shape("batch, length, 4, 8")
    exported = jax.export.export(jax.jit(step))(jax.ShapeDtypeStruct(shape, jnp.float32))
    x = normal(1, 2, 9, 4, 8)
    np.testing.assert_allclose(exported.call(x), step(x), rtol=1e-5, atol=1e-6)


# Errors


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"keys": (2, 9, 4, 7)}, ValueError, "q, k depths must match"),
        ({"values": (2, 8, 4, 8)}, ValueError, "k, v lengths must match"),
        ({"values": (2, 1, 4, 8)}, ValueError, "k, v lengths must match"),
        ({"values": (1, 9, 4, 8)}, ValueError, "batch dims must match"),
        ({"values": (9, 4, 8)}, ValueError, "must have the same rank"),
        ({"query": (4, 8), "keys": (4, 8), "values": (4, 8)}, ValueError, "length, heads, depth"),
        ({"keys": (2, 9, 3, 8)}, ValueError, "keys has 3 heads, which do not divide the query's 4"),
        ({"values": (2, 9, 3, 8)}, ValueError, "values has 3 heads"),
    ],
)
def test_shapes_that_do_not_match(change, error, match):
    shapes = {"query": (2, 9, 4, 8), "keys": (2, 9, 4, 8), "values": (2, 9, 4, 8)} | change
    with pytest.raises(error, match=match):
        dj.dot_product_attention(KEY, *(jnp.ones(s) for s in shapes.values()), 0.3)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"rate": 2}, ValueError, "between 0 and 1"),
        ({"rate": jnp.ones(4)}, ValueError, "write one number for all weights"),
        ({"key": None}, TypeError, "no key was given"),
        ({"mask": jnp.ones((9, 9))}, TypeError, r"mask\.astype\(bool\)"),
        ({"mask": jnp.ones((2, 9), bool)}, ValueError, "mask of shape .* does not broadcast"),
        ({"bias": jnp.ones((3, 9, 9))}, ValueError, "bias of shape .* does not broadcast"),
        ({"per": "heads"}, ValueError, "write 'head', 'example' or 'batch'"),
        ({"block": 0}, ValueError, "the number of queries at a time"),
    ],
)
def test_other_bad_arguments(options, error, match):
    options = {"key": KEY, "rate": 0.3} | options
    key, rate = options.pop("key"), options.pop("rate")
    with pytest.raises(error, match=match):
        dj.dot_product_attention(key, *inputs(), rate, **options)
