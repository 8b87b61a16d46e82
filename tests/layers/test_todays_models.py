"""Transformers as they are trained today, with our dropout: stacked, rematerialised, exported.

What would make this wrong: layers of a stack that share a mask, a backward pass with another mask
than the forward one, an update that depends on how a batch was cut, noise in decoding.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import dropout_jax as dj
from dropout_jax import layers

pytestmark = pytest.mark.slow

WIDTH, LENGTH, LAYERS = 16, 9, 3
X = np.random.default_rng(0).standard_normal((4, LENGTH, WIDTH)).astype(np.float32)


class Block(nnx.Module):
    def __init__(self, rngs, rate=0.3, dtype=None):
        self.norm = nnx.LayerNorm(WIDTH, dtype=dtype, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            2, WIDTH, dropout_rate=rate, broadcast_dropout=False, decode=False,
            deterministic=False, attention_fn=layers.dot_product_attention, dtype=dtype, rngs=rngs,
        )  # fmt: skip
        self.dropout = layers.Dropout(rate, rngs=rngs)

    def __call__(self, x, decode=False):
        y = self.attention(self.norm(x), is_causal=not decode, decode=decode)
        return x + self.dropout(y)


@nnx.split_rngs(splits=LAYERS)
@nnx.vmap
def stack(rngs):
    return Block(rngs)


def layer_of(stacked, i):
    graph, state = nnx.split(stacked)
    return nnx.merge(graph, jax.tree.map(lambda a: a[i], state))


def scanned(stacked, x, **options):
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def forward(block, x):
        call = nnx.remat(lambda block, x: block(x), **options) if options else Block.__call__
        return call(block, x)

    return forward(stacked, x)


def loss_and_gradient(stacked, run):
    graph, params, rest = nnx.split(stacked, nnx.Param, ...)

    @jax.jit
    def step(params):
        return jax.value_and_grad(
            lambda params: jnp.mean(run(nnx.merge(graph, params, rest, copy=True)) ** 2)
        )(params)

    return step(params)


def assert_close(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), a, b)


def test_a_scan_over_stacked_layers_is_the_loop_over_them():
    expected = X
    for i in range(LAYERS):
        expected = layer_of(stack(nnx.Rngs(0)), i)(expected)
    assert_close(scanned(stack(nnx.Rngs(0)), X), expected)


@pytest.mark.parametrize(
    "policy", [None, "dots_saveable", "nothing_saveable", "everything_saveable"]
)
def test_remat_draws_the_masks_again_whatever_its_policy_keeps(policy):
    policy = policy and getattr(jax.checkpoint_policies, policy)
    expected = loss_and_gradient(stack(nnx.Rngs(0)), lambda model: scanned(model, X))
    found = loss_and_gradient(
        stack(nnx.Rngs(0)), lambda model: scanned(model, X, prevent_cse=False, policy=policy)
    )
    assert_close(found, expected)


@pytest.mark.parametrize("size", [1, 2])
def test_gradient_accumulation_does_not_depend_on_the_cut(size):
    """With a key for each example, micro-batches of 1, 2 and 4 lead to one update.

    optax averages the micro-batches' gradients: sums of four terms in another order.
    """
    params = {"w": np.eye(WIDTH, dtype=np.float32)}
    ids, key = jnp.arange(4), jax.random.key(1)

    def loss(params, x, ids):
        def one(key, x):
            qkv = (x @ params["w"]).reshape(LENGTH, 2, WIDTH // 2)
            y = dj.dot_product_attention(key, qkv, qkv, qkv, 0.3, is_causal=True, block=4)
            return jnp.mean(dj.dropout(dj.site_key(key, "out"), y, 0.5) ** 2)

        return jnp.mean(jax.vmap(one)(dj.per_example_keys(key, ids), x))

    def trained(size):
        optimizer = optax.MultiSteps(optax.sgd(0.1), every_k_schedule=4 // size)
        state, updated = optimizer.init(params), params
        for start in range(0, 4, size):
            part = slice(start, start + size)
            gradient = jax.grad(loss)(params, X[part], ids[part])
            updates, state = optimizer.update(gradient, state, params)
            updated = optax.apply_updates(updated, updates)
        assert (updated["w"] != params["w"]).any()
        return updated

    assert_close(trained(size), trained(4))


def test_bfloat16_is_float32_rounded():
    """Block outputs of order 4: a few roundings of 2^-8 of them, three terms."""
    narrow, wide = Block(nnx.Rngs(0), dtype=jnp.bfloat16), Block(nnx.Rngs(0))
    y = narrow(X.astype(jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(np.float32), wide(X), atol=4 * 4 * 2.0**-8)


def test_members_of_an_ensemble_have_masks_of_their_own():
    @nnx.split_rngs(splits=2)
    @nnx.vmap
    def make(rngs):
        return Block(rngs)

    models = make(nnx.Rngs(0))
    together = nnx.vmap(lambda model, x: model(x), in_axes=(0, None))(models, X)
    alone = jnp.stack([layer_of(make(nnx.Rngs(0)), i)(X) for i in range(2)])
    assert_close(together, alone)
    assert (together[0] != together[1]).any()


def test_decoding_with_a_cache_is_the_causal_pass_of_evaluation():
    model = Block(nnx.Rngs(0))
    model.eval()
    expected = model(X)
    model.attention.init_cache(X.shape, dtype=X.dtype)
    decoded = [model(X[:, i : i + 1], decode=True) for i in range(LENGTH)]
    assert_close(jnp.concatenate(decoded, axis=1), expected)
    counts = nnx.state(model, nnx.RngCount)
    assert all(int(count) == 0 for count in jax.tree.leaves(counts))


def test_a_training_step_is_exported_without_batch_and_length():
    graph, params, rest = nnx.split(Block(nnx.Rngs(0)), nnx.Param, ...)

    @jax.jit
    def gradient(params, x):
        def loss(params):
            return jnp.mean(nnx.merge(graph, params, rest, copy=True)(x) ** 2)

        return jax.grad(loss)(params)

    shape = jax.export.symbolic_shape(f"batch, length, {WIDTH}")
    flat, tree = jax.tree.flatten(params)
    exported = jax.export.export(jax.jit(lambda flat, x: gradient(tree.unflatten(flat), x)))(
        [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in flat],
        jax.ShapeDtypeStruct(shape, jnp.float32),
    )
    for x in (X, X[:2, :5]):
        found = jax.tree.map(jnp.asarray, exported.call(flat, x))
        assert_close(jax.tree.leaves(found), jax.tree.leaves(gradient(params, x)))
