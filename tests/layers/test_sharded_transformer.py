"""Transformer steps with our layers, data-, fully sharded and tensor-parallel.

What would make this wrong: a mask that is sent, or that makes the compiler divide the step in
another way. A step with dropout has no collective that the same step without it has not.
"""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import dropout_jax as dj

WIDTH, HEADS, BATCH, LENGTH = 64, 8, 16, 32
COLLECTIVES = r" (all-reduce|all-gather|collective-permute|all-to-all|reduce-scatter)(?:-start)?\("
QUICKLY = {"xla_backend_optimization_level": 0}

# How each parameter is divided, by the end of its path.
TENSOR_PARALLEL = {
    "query/kernel": P(None, "model", None), "query/bias": P("model", None),
    "key/kernel": P(None, "model", None), "key/bias": P("model", None),
    "value/kernel": P(None, "model", None), "value/bias": P("model", None),
    "out/kernel": P("model", None, None), "up/kernel": P(None, "model"),
    "up/bias": P("model"), "down/kernel": P("model", None),
}  # fmt: skip
LAYOUTS = {
    "data parallel": ((8, 1), lambda path, shape: P()),
    "fully sharded": ((8, 1), lambda path, shape: P("data") if shape[0] % 8 == 0 else P()),
    "tensor parallel": ((1, 8), lambda path, shape: TENSOR_PARALLEL.get(path, P())),
    "both": ((2, 4), lambda path, shape: TENSOR_PARALLEL.get(path, P())),
}


class Block(nnx.Module):
    def __init__(self, rate, rngs):
        self.norm1, self.norm2 = nnx.LayerNorm(WIDTH, rngs=rngs), nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            HEADS, WIDTH, dropout_rate=rate, broadcast_dropout=False, decode=False,
            deterministic=False, attention_fn=dj.layers.dot_product_attention,
            rngs=rngs)  # fmt: skip
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)
        self.inner, self.outer = (dj.layers.Dropout(rate, rngs=rngs) for _ in range(2))
        self.path = dj.layers.DropPath(rate, rngs=rngs)

    def __call__(self, x):
        x = x + self.path(self.outer(self.attention(self.norm1(x))))
        h = self.inner(nnx.gelu(self.up(self.norm2(x))))
        return x + self.path(self.outer(self.down(h)))


def collectives(step, mesh, *arguments):
    with jax.set_mesh(mesh):
        text = jax.jit(step).lower(*arguments).compile(QUICKLY).as_text()
    return collections.Counter(re.findall(COLLECTIVES, text))


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dropout_adds_no_collective_to_a_transformer(layout):
    (rows, columns), spec_of = LAYOUTS[layout]
    mesh = jax.make_mesh((rows, columns), ("data", "model"), axis_types=(AxisType.Auto,) * 2)

    def program(rate):
        graph, params, rest = nnx.split(Block(rate, nnx.Rngs(0)), nnx.Param, ...)

        def shaped(path, leaf):
            names = [part.key for part in path if hasattr(part, "key")]
            sharding = NamedSharding(mesh, spec_of("/".join(names[-2:]), leaf.shape))
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        given = jax.tree_util.tree_map_with_path(shaped, params)
        x = jax.ShapeDtypeStruct(
            (BATCH, LENGTH, WIDTH), jnp.float32, sharding=NamedSharding(mesh, P("data"))
        )

        def step(params, x):
            def loss(params):
                return jnp.mean(nnx.merge(graph, params, rest, copy=True)(x) ** 2)

            value, grads = jax.value_and_grad(loss)(params)
            new = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
            kept = jax.tree.map(
                lambda a, s: jax.lax.with_sharding_constraint(a, s.sharding), new, given
            )
            return value, kept

        return collectives(step, mesh, given, x)

    without, with_dropout = program(0.0), program(0.1)
    assert without  # gradients or activations are summed
    assert with_dropout <= without


def explicit_step(rate):
    """A layer of a transformer written for explicit axes: heads and hidden units over "model"."""
    whole = P("data", None, None)

    def loss(w, x, key):
        def noisy(site, x):
            return dj.dropout(dj.site_key(key, site), x, rate)

        q, k, v = (jnp.einsum("btd,dhk->bthk", x, w[name]) for name in ("q", "k", "v"))
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))
        weights = dj.attention_dropout(dj.site_key(key, "attention"), weights, rate)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
        y = jnp.einsum("bthk,hkd->btd", y, w["out"], out_sharding=whole)
        x = x + dj.drop_path(dj.site_key(key, "path"), noisy("outer", y), rate)
        h = noisy("hidden", nnx.gelu(jnp.einsum("btd,df->btf", x, w["up"])))
        y = jnp.einsum("btf,fd->btd", h, w["down"], out_sharding=whole)
        return jnp.mean((x + noisy("last", y)) ** 2)

    return jax.value_and_grad(loss)


@pytest.mark.slow
def test_dropout_adds_no_collective_where_axes_are_explicit():
    mesh, alone = (
        jax.make_mesh(shape, ("data", "model"), axis_types=(AxisType.Explicit,) * 2,
                      devices=jax.devices()[: shape[0] * shape[1]])
        for shape in ((2, 4), (1, 1))
    )  # fmt: skip
    heads = (WIDTH, HEADS, WIDTH // HEADS), P(None, "model", None)
    shapes = {
        "q": heads, "k": heads, "v": heads,
        "out": ((HEADS, WIDTH // HEADS, WIDTH), P("model", None, None)),
        "up": ((WIDTH, 4 * WIDTH), P(None, "model")),
        "down": ((4 * WIDTH, WIDTH), P("model", None)),
    }  # fmt: skip
    normal = jax.random.normal
    weights = {name: normal(jax.random.key(i), shape) / 8
               for i, (name, (shape, _)) in enumerate(shapes.items())}  # fmt: skip
    x, key = normal(jax.random.key(7), (BATCH, LENGTH, WIDTH)), jax.random.key(8)
    with jax.set_mesh(mesh):
        placed = {name: jax.device_put(w, shapes[name][1]) for name, w in weights.items()}
        given = placed, jax.device_put(x, P("data", None, None)), key
        found = [collectives(explicit_step(rate), mesh, *given) for rate in (0.0, 0.1)]
        value, grads = jax.jit(explicit_step(0.1))(*given)
    assert found[0] and found[1] <= found[0]
    with jax.set_mesh(alone):
        expected, gradients = jax.jit(explicit_step(0.1))(weights, x, key)
    assert abs(float(value) - float(expected)) <= 1e-5 * float(expected)
    for name, gradient in gradients.items():
        assert grads[name].sharding.spec == shapes[name][1]
        difference = np.abs(np.asarray(grads[name]) - np.asarray(gradient))
        assert difference.max() <= 1e-4 * abs(gradient).max()
