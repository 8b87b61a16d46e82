"""Dropout of attention weights: who shares a mask, and attention as Flax computes it."""

import jax
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


# The attention function


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def qkv(heads=4, groups=4):
    return normal(1, 2, 5, heads, 8), normal(2, 2, 7, groups, 8), normal(3, 2, 7, groups, 8)


BIAS = normal(5, 2, 4, 5, 7)
MASK = normal(6, 2, 4, 5, 7) > -1


def attention_by_hand(query, key, value, bias, mask, drop):
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1]) + bias
    weights = jax.nn.softmax(jnp.where(mask, logits, -jnp.inf))
    return jnp.einsum("bhqk,bkhd->bqhd", drop(weights), value)


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
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{"deterministic": True, "dropout_rate": 0.5}, {}], ids=str)
@pytest.mark.parametrize("groups", [4, 2])
def test_attention_without_dropout_is_that_of_flax(options, groups):
    query, key, value = qkv(groups=groups)
    actual = dot_product_attention(query, key, value, BIAS, MASK, **options)
    expected = nnx.dot_product_attention(query, key, value, BIAS, MASK)
    np.testing.assert_array_equal(actual, expected)


def test_a_deterministic_call_leaves_the_weights_to_jax(monkeypatch):
    """Flax's function computes them itself whenever the rate is not 0."""
    calls = []
    fused = jax.nn.dot_product_attention

    def count(*args, **kwargs):
        calls.append(None)
        return fused(*args, **kwargs)

    monkeypatch.setattr(jax.nn, "dot_product_attention", count)
    query = normal(1, 2, 5, 4, 8)
    for function, expected in ((nnx.dot_product_attention, 0), (dot_product_attention, 1)):
        function(query, query, query, dropout_rate=0.5, deterministic=True)
        assert len(calls) == expected


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
    with pytest.raises(TypeError, match="no key was given"):
        dot_product_attention(query, key, value, dropout_rate=0.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        dot_product_attention(query, key, value, dropout_rng=KEY, dropout_rate=2)
    with pytest.raises(ValueError, match="3 heads, which do not divide the query's 4"):
        dot_product_attention(query, key, normal(3, 2, 7, 3, 8), dropout_rng=KEY, dropout_rate=0.5)


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
