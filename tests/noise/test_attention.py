"""Dropout of attention weights: who shares a mask, and attention as Flax computes it."""

import inspect

import flax.linen as nn
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dropout_jax as dj
from dropout_jax.layers.attention import dot_product_attention
from dropout_jax.noise.attention import attention_dropout

# In the fast loop the contract and the doctests stand for these: they compile much.
pytestmark = pytest.mark.slow

KEY = jax.random.key(4)
WEIGHTS = jnp.ones((3, 4, 8, 16))  # that two masks of it are equal has probability 2^-128


def masks(per, weights=WEIGHTS):
    """The number of different masks among examples, and among the heads of the first example."""
    y = np.asarray(attention_dropout(KEY, weights, 0.5, per=per))
    assert set(np.unique(y)) == {0.0, 2.0}
    return len(np.unique(y, axis=0)), len(np.unique(y[0], axis=0))


@pytest.mark.parametrize(
    ("per", "examples", "heads"), [("head", 3, 4), ("example", 3, 1), ("batch", 1, 1)]
)
def test_who_shares_a_mask(per, examples, heads):
    assert masks(per) == (examples, heads)


@pytest.mark.parametrize(("per", "dims"), [("head", ()), ("example", (1,)), ("batch", (0, 1))])
def test_it_is_dropout_with_shared_axes(per, dims):
    expected = dj.dropout(KEY, WEIGHTS, 0.3, broadcast_dims=dims)
    np.testing.assert_array_equal(attention_dropout(KEY, WEIGHTS, 0.3, per=per), expected)


@pytest.mark.parametrize("lead", [(4,), (2, 3, 4)])
def test_any_number_of_batch_axes(lead):
    weights = jnp.ones((*lead, 8, 16))
    y = attention_dropout(KEY, weights, 0.5, per="example")
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[..., :1, :, :], y.shape))
    assert (attention_dropout(KEY, weights, 0.5, per="head") != y).any()


def test_an_array_rate_for_each_head():
    rate = jnp.array([0.0, 1.0, 0.5, 0.5]).reshape(4, 1, 1)
    y = attention_dropout(KEY, WEIGHTS, rate)
    np.testing.assert_array_equal(y[:, 0], WEIGHTS[:, 0])
    np.testing.assert_array_equal(y[:, 1], 0 * WEIGHTS[:, 1])
    assert (y[:, 2] != y[:, 3]).any()


def test_errors_of_attention_dropout():
    with pytest.raises(ValueError, match=r"write \(\.\.\., heads, queries, keys\)"):
        attention_dropout(KEY, jnp.ones((8, 16)), 0.5)
    with pytest.raises(ValueError, match="per is 'heads'; write 'head', 'example' or 'batch'"):
        attention_dropout(KEY, WEIGHTS, 0.5, per="heads")
    with pytest.raises(TypeError, match=r"weights\.astype"):
        attention_dropout(KEY, jnp.ones((4, 8, 16), int), 0.5)


# The attention function, beside Flax's


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def qkv(heads=4, groups=4):
    return normal(1, 2, 5, heads, 8), normal(2, 2, 7, groups, 8), normal(3, 2, 7, groups, 8)


BIAS = np.random.default_rng(0).standard_normal((2, 4, 5, 7)).astype(np.float32)
MASK = np.random.default_rng(1).random((2, 4, 5, 7)) < 0.8
MASK[..., 0] = True


def attention_by_hand(query, key, value, bias, mask, drop):
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1]) + bias
    weights = jax.nn.softmax(jnp.where(mask, logits, -jnp.inf))
    return jnp.einsum("bhqk,bkhd->bqhd", drop(weights), value)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shared", "per"), [(True, "batch"), (False, "head")])
@pytest.mark.parametrize("groups", [4, 2, 1])
def test_attention_is_that_of_the_dropped_weights(shared, per, groups):
    query, key, value = qkv(groups=groups)
    options = {"dropout_rng": KEY, "dropout_rate": 0.3, "broadcast_dropout": shared}
    actual = dot_product_attention(query, key, value, BIAS, MASK, **options)
    key, value = (jnp.repeat(a, 4 // groups, axis=2) for a in (key, value))
    expected = attention_by_hand(
        query, key, value, BIAS, MASK, lambda w: attention_dropout(KEY, w, 0.3, per=per)
    )
    close(actual, expected)


@pytest.mark.parametrize("options", [{"deterministic": True, "dropout_rate": 0.5}, {}], ids=str)
@pytest.mark.parametrize("groups", [4, 2])
def test_attention_without_dropout_is_that_of_flax(options, groups):
    query, key, value = qkv(groups=groups)
    actual = dot_product_attention(query, key, value, BIAS, MASK, **options)
    close(actual, nnx.dot_product_attention(query, key, value, BIAS, MASK))


# Flax takes these in training, where it computes the weights itself. Its evaluation at rate 0 goes
# another way, which refuses some; ours is one way for both.
FORMS = {
    "a mask that shares one of two batch axes": {"mask": np.ones((2, 1, 1, 5, 7), bool)},
    "a bias that shares one of two batch axes": {"bias": np.ones((1, 3, 4, 5, 7), np.float32)},
    "a mask of keys": {"mask": np.arange(7) < 4},
    "a mask of numbers": {"mask": (np.arange(7) < 4).astype(np.float32)},
    "values of another depth": {"value": 3},
    "a head and a query for all": {"bias": np.ones((2, 3, 1, 1, 7), np.float32)},
}


@pytest.mark.parametrize("deterministic", [False, True], ids=["training", "evaluation"])
@pytest.mark.parametrize("form", FORMS)
def test_shapes_that_flax_takes_in_training(form, deterministic):
    options = dict(FORMS[form])
    query, key = normal(1, 2, 3, 5, 4, 8), normal(2, 2, 3, 7, 4, 8)
    value = normal(3, 2, 3, 7, 4, options.pop("value", 8))
    rate = {"dropout_rate": 1e-30, "dropout_rng": KEY, "deterministic": deterministic}
    with jax.numpy_rank_promotion("allow"):
        # A rate that drops nothing, and is not 0.
        expected = nnx.dot_product_attention(query, key, value, **options, **rate)
    close(dot_product_attention(query, key, value, **options, **rate), expected)


@pytest.mark.parametrize("deterministic", [False, True], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    ("shapes", "match"),
    [
        ([(2, 5, 4, 8), (2, 7, 4, 8), (2, 6, 4, 8)], "lengths must match"),
        ([(2, 5, 4, 8), (2, 7, 4, 8), (2, 1, 4, 8)], "lengths must match"),
        ([(2, 5, 4, 8), (2, 7, 4, 8), (1, 7, 4, 8)], "batch dims must match"),
        ([(2, 5, 4, 8), (2, 7, 4, 8), (7, 4, 8)], "must have the same rank"),
        ([(2, 5, 4, 8), (2, 7, 4, 6), (2, 7, 4, 8)], "depths must match"),
        ([(2, 5, 4, 8), (2, 7, 3, 8), (2, 7, 3, 8)], "3 heads, which do not divide"),
    ],
)
def test_shapes_that_do_not_match_in_either_mode(shapes, match, deterministic):
    arrays = [jnp.ones(shape) for shape in shapes]
    options = {"dropout_rng": KEY, "dropout_rate": 0.5, "deterministic": deterministic}
    with pytest.raises(ValueError, match=match):
        dot_product_attention(*arrays, **options)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_the_dtype_is_that_of_flax(dtype):
    query, key, value = qkv()
    query = query.astype(dtype)
    options = {"dropout_rng": KEY, "dropout_rate": 0.5}
    for given in (None, jnp.bfloat16, np.dtype("float32")):
        results = [
            function(query, key, value, dtype=given, **options)
            for function in (dot_product_attention, nnx.dot_product_attention)
        ]
        assert results[0].dtype == results[1].dtype and results[0].shape == results[1].shape


def test_a_causal_mask_is_kept():
    x = normal(1, 2, 5, 4, 8)

    def first_output(x):
        y = dot_product_attention(x, x, x, dropout_rng=KEY, dropout_rate=0.3, is_causal=True)
        return (y[:, 0] ** 2).sum()

    gradient = jax.grad(first_output)(x)
    np.testing.assert_array_equal(gradient[:, 1:], 0 * x[:, 1:])


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_a_traced_rate_is_finite_with_its_gradient(rate):
    query, key, value = qkv()

    @jax.jit
    def run(query, rate):
        options = {"dropout_rng": KEY, "dropout_rate": rate}
        return jax.value_and_grad(
            lambda query: dot_product_attention(query, key, value, **options).sum()
        )(query)

    total, gradient = run(query, rate)
    expected = dot_product_attention(query, key, value, dropout_rng=KEY, dropout_rate=rate).sum()
    np.testing.assert_allclose(total, expected, rtol=1e-4, atol=1e-4)
    assert jnp.isfinite(gradient).all()


def test_keys_typed_and_legacy_and_errors():
    query, key, value = qkv()
    typed, legacy = (
        dot_product_attention(query, key, value, dropout_rng=rng, dropout_rate=0.5)
        for rng in (KEY, jax.random.key_data(KEY))
    )
    np.testing.assert_array_equal(typed, legacy)
    for rng, match in (
        (None, "no key was given"),
        (0, r"dropout_rng is 0; write dropout_rng=jax\.random\.key\(0\)"),
        (nnx.Rngs(0), r"write dropout_rng=rngs\.dropout\(\)"),
        (nnx.Rngs(0).dropout, r"write dropout_rng=stream\(\)"),
    ):
        with pytest.raises(TypeError, match=match):
            dot_product_attention(query, key, value, dropout_rng=rng, dropout_rate=0.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        dot_product_attention(query, key, value, dropout_rng=KEY, dropout_rate=2)


def products(jaxpr):
    """The precision of every product in a program, loops and calls included."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            found.append(equation.params["precision"])
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            found += products(inner)
    return found


@pytest.mark.parametrize("deterministic", [False, True], ids=["training", "evaluation"])
@pytest.mark.parametrize("length", [5, 300])
def test_both_products_have_the_precision_that_is_asked_for(length, deterministic):
    x = jax.ShapeDtypeStruct((2, length, 4, 8), jnp.float32)
    options = {"dropout_rng": KEY, "dropout_rate": 0.5, "deterministic": deterministic}
    program = jax.make_jaxpr(
        lambda x: dot_product_attention(x, x, x, precision="highest", **options)
    )(x)
    found = products(program.jaxpr)
    assert len(found) == 2 and set(found) == {(jax.lax.Precision.HIGHEST,) * 2}


# In flax.nnx.MultiHeadAttention


def make_attention(**options):
    return nnx.MultiHeadAttention(
        4, 16, decode=False, deterministic=False, rngs=nnx.Rngs(0), **options
    )


def test_multi_head_attention_drops_with_the_key_of_its_stream():
    x = normal(1, 2, 5, 16)
    layer, twin = (
        make_attention(dropout_rate=0.3, attention_fn=dot_product_attention) for _ in range(2)
    )
    y = layer(x)
    options = {"dropout_rng": twin.rngs(), "dropout_rate": 0.3}
    expected = twin.out(dot_product_attention(twin.query(x), twin.key(x), twin.value(x), **options))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    assert (layer(x) != y).any() and int(layer.rngs.count[...]) == 2


def test_multi_head_attention_switches_and_sows_as_with_flax():
    x, mask = normal(1, 2, 5, 16), nnx.make_causal_mask(jnp.ones((2, 5)))
    ours = make_attention(dropout_rate=0.5, num_kv_heads=2, attention_fn=dot_product_attention)
    flax = make_attention(dropout_rate=0.5, num_kv_heads=2)
    for layer in (ours, flax):
        layer.eval()
    np.testing.assert_allclose(ours(x, mask=mask), flax(x, mask=mask), rtol=1e-5, atol=1e-5)
    ours.train()
    sown = []
    for layer in (ours, flax):
        sow = nnx.capture(layer, nnx.Intermediate)
        _, intermediates = sow(x, mask=mask, sow_weights=True)
        sown.append(intermediates["attention_weights"][0])
    np.testing.assert_array_equal(*sown)  # before dropout


# In flax.linen.MultiHeadDotProductAttention


def linen_attention(**options):
    return nn.MultiHeadDotProductAttention(
        4, dropout_rate=0.5, attention_fn=dot_product_attention, **options
    )


def test_linen_passes_on_all_that_it_has():
    """Linen leaves out, silently, what an attention function's signature does not name."""
    given = set(inspect.signature(nn.dot_product_attention).parameters)
    assert given <= set(inspect.signature(dot_product_attention).parameters)


@pytest.mark.parametrize("deterministic", [False, True])
def test_linen_sows_the_weights_as_with_flax(deterministic):
    x, variables = normal(1, 2, 5, 16), None
    options = {"deterministic": deterministic, "sow_weights": True}
    sown, outputs = [], []
    for layer in (linen_attention(), nn.MultiHeadDotProductAttention(4, dropout_rate=0.5)):
        variables = variables or layer.init(KEY, x, deterministic=True)
        y, state = layer.apply(
            variables, x, rngs={"dropout": KEY}, mutable=["intermediates"], **options
        )
        sown.append(state["intermediates"]["attention_weights"][0])
        outputs.append(y)
    np.testing.assert_array_equal(*sown)  # before dropout
    assert not deterministic or (outputs[0] == outputs[1]).all()


def test_linen_products_have_the_precision_and_the_einsums_that_are_given():
    x, calls = normal(1, 2, 5, 16), []

    def einsum(*args):
        calls.append(args[0])
        return jnp.einsum(*args)

    layer = linen_attention(
        qk_attn_weights_einsum_cls=lambda: einsum,
        attn_weights_value_einsum_cls=lambda: einsum,
    )
    variables = layer.init(KEY, x, deterministic=True)
    calls.clear()
    layer.apply(variables, x, deterministic=False, rngs={"dropout": KEY})
    assert calls == ["...qhd,...khd->...hqk", "...hqk,...khd->...qhd"]
    layer = linen_attention(precision="highest")
    program = jax.make_jaxpr(
        lambda x: layer.apply(variables, x, deterministic=False, rngs={"dropout": KEY})
    )(x)
    found = products(program.jaxpr)
    assert len(found) == 6 and set(found) == {(jax.lax.Precision.HIGHEST,) * 2}
