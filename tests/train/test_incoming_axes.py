"""Max-norm and weight scaling know a unit's incoming weights in every layer of Flax."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import dropout_jax as dj

C = 0.25


def project(params, **options):
    """The parameters, far outside of every ball, after one update of 0."""
    params = jax.tree.map(lambda w: 1 + jnp.abs(w), params)
    transform = dj.max_norm(**({"c": C} | options))
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = transform.update(zeros, optax.EmptyState(), params)
    return params, optax.apply_updates(params, updates)


def check(params, incoming, **options):
    """Projected along `incoming[name]`, a suffix of the path; all else is bitwise unchanged."""
    before, after = project(params, **options)
    leaves = [jax.tree_util.tree_flatten_with_path(tree)[0] for tree in (before, after)]
    found = set()
    for (path, old), (_, new) in zip(*leaves, strict=True):
        parts = [str(getattr(key, "key", getattr(key, "name", ""))) for key in path]
        where = ".".join(parts[:-1] if parts[-1] == "value" else parts)
        axes = [axes for name, axes in incoming.items() if where.endswith(name)]
        if axes:
            found.add(where)
            length = np.sqrt((np.float64(new) ** 2).sum(axes[0]))
            np.testing.assert_allclose(length, C, rtol=1e-5, err_msg=where)
        else:
            np.testing.assert_array_equal(new, old, err_msg=where)
    assert len(found) >= len(incoming)


def rngs():
    return nnx.Rngs(0)


def linear(n_in=5, n_out=7, **more):
    return nnx.Linear(n_in, n_out, rngs=rngs(), **more)


def stacked(make, n=3):
    return nnx.vmap(lambda seed: make(rngs=nnx.Rngs(jax.random.key(seed))))(jnp.arange(n))


def concrete(rngs):
    return dj.layers.ConcreteDropout(nnx.Linear(5, 7, rngs=rngs))


ATTENTION = {
    "query.kernel": 0,
    "key.kernel": 0,
    "value.kernel": 0,
    "out.kernel": (0, 1),
}
NNX = {
    "Linear": (linear, {"kernel": 0}),
    "LinearGeneral in": (lambda: nnx.LinearGeneral((4, 8), 6, axis=(-2, -1), rngs=rngs()),
                         {"kernel": (0, 1)}),
    "LinearGeneral out": (lambda: nnx.LinearGeneral(6, (4, 8), rngs=rngs()), {"kernel": 0}),
    "LinearGeneral batch": (lambda: nnx.LinearGeneral(6, 8, batch_axis={0: 3}, rngs=rngs()),
                            {"kernel": 1}),
    "Conv": (lambda: nnx.Conv(4, 8, (3, 3), rngs=rngs()), {"kernel": (0, 1, 2)}),
    "Conv groups": (lambda: nnx.Conv(4, 8, (3, 3), feature_group_count=4, rngs=rngs()),
                    {"kernel": (0, 1, 2)}),
    "Conv1D no bias": (lambda: nnx.Conv(4, 8, (3,), use_bias=False, rngs=rngs()),
                       {"kernel": (0, 1)}),
    "ConvTranspose": (lambda: nnx.ConvTranspose(4, 8, (3, 3), rngs=rngs()), {"kernel": (0, 1, 2)}),
    "Einsum": (lambda: nnx.Einsum("nta,hab->nthb", (3, 4, 5), (3, 5), rngs=rngs()), {"kernel": 1}),
    "Embed": (lambda: nnx.Embed(9, 4, rngs=rngs()), {"embedding": 1}),
    "BatchNorm": (lambda: nnx.BatchNorm(4, rngs=rngs()), {}),
    "LayerNorm": (lambda: nnx.LayerNorm(4, rngs=rngs()), {}),
    "GroupNorm": (lambda: nnx.GroupNorm(4, num_groups=2, rngs=rngs()), {}),
    "LSTMCell": (lambda: nnx.OptimizedLSTMCell(3, 4, rngs=rngs()), {"i.kernel": 0, "h.kernel": 0}),
    "GRUCell": (lambda: nnx.GRUCell(3, 4, rngs=rngs()), {"i.kernel": 0, "h.kernel": 0}),
    "LoRALinear": (lambda: nnx.LoRALinear(4, 6, lora_rank=2, rngs=rngs()),
                   {".kernel": 0, "lora_a": 0, "lora_b": 0}),
    "Attention": (lambda: nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs()), ATTENTION),
    "Attention no bias": (lambda: nnx.MultiHeadAttention(2, 8, use_bias=False, decode=False,
                                                         rngs=rngs()), ATTENTION),
    "Attention heads = features": (lambda: nnx.MultiHeadAttention(8, 8, decode=False, rngs=rngs()),
                                   ATTENTION),
    "stacked Linear": (lambda: stacked(lambda rngs: nnx.Linear(5, 7, rngs=rngs)), {"kernel": 1}),
    "stacked Conv": (lambda: stacked(lambda rngs: nnx.Conv(4, 8, (2, 2), rngs=rngs)),
                     {"kernel": (1, 2, 3)}),
    "stacked Attention": (lambda: stacked(lambda rngs: nnx.MultiHeadAttention(
        2, 8, decode=False, rngs=rngs)), {**dict.fromkeys(ATTENTION, 1), "out.kernel": (1, 2)}),
    "stacked ConcreteDropout": (lambda: stacked(lambda rngs: stacked(concrete, 2)),
                                {"layer.kernel": 2}),
    "stacked VariationalDropout": (lambda: stacked(lambda rngs: dj.layers.VariationalDropout(4)),
                                   {}),
    "SparseLinear": (lambda: dj.layers.SparseLinear(5, 7, rngs=rngs()), {"kernel": 0}),
    "DropConnectLinear": (lambda: dj.layers.DropConnectLinear(5, 7, rate=0.5, rngs=rngs()),
                          {"kernel": 0}),
}  # fmt: skip


@pytest.mark.parametrize("name", NNX)
def test_flax_nnx(name):
    make, incoming = NNX[name]
    layer = make()
    check(nnx.state(nnx.Dict(layer=layer), (nnx.Param, nnx.LoRAParam)), incoming)


LINEN = {
    "Dense": (nn.Dense(7), (2, 5), {"kernel": 0}),
    "DenseGeneral": (nn.DenseGeneral((4, 3)), (2, 5), {"kernel": 0}),
    "Conv": (nn.Conv(8, (3, 3)), (1, 5, 5, 2), {"kernel": (0, 1, 2)}),
    "ConvLocal": (nn.ConvLocal(4, (3,)), (2, 5, 8), {"kernel": 1}),
    "ConvTranspose": (nn.ConvTranspose(8, (3, 3)), (1, 5, 5, 2), {"kernel": (0, 1, 2)}),
    "Attention": (nn.MultiHeadDotProductAttention(2), (2, 5, 8), ATTENTION),
    "Attention no bias": (nn.MultiHeadDotProductAttention(2, use_bias=False), (2, 5, 8), ATTENTION),
    "LayerNorm of two axes": (nn.LayerNorm(feature_axes=(-2, -1), reduction_axes=(-2, -1)),
                              (2, 3, 4), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEN)
def test_flax_linen(name):
    module, shape, incoming = LINEN[name]
    check(module.init(jax.random.key(0), jnp.ones(shape)), incoming)


def test_flax_linen_embeddings_and_boxed_parameters():
    check(nn.Embed(9, 4).init(jax.random.key(0), jnp.zeros(3, int)), {"embedding": 1})
    boxed = nn.Dense(3, kernel_init=nn.with_partitioning(nn.initializers.ones, (None, "model")))
    check(boxed.init(jax.random.key(0), jnp.ones((2, 5))), {"kernel": 0})


def test_haiku():
    hk = pytest.importorskip("haiku", reason="Haiku is in the extra compare")

    def net(ids):
        return hk.Linear(3)(hk.LayerNorm(-1, True, True)(hk.Embed(9, 4)(ids)))

    params = hk.transform(net).init(jax.random.key(0), jnp.zeros(2, int))
    check(params, {"embeddings": 1, "linear.w": 0})


def test_a_whole_transformer():
    class Block(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.LayerNorm(8, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
            self.up, self.down = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 8, rngs=rngs)

    model = nnx.Dict(embed=nnx.Embed(9, 8, rngs=rngs()), blocks=nnx.List([Block(rngs())] * 1))
    check(
        nnx.state(model, nnx.Param),
        {**ATTENTION, "up.kernel": 0, "down.kernel": 0, "embedding": 1},
    )


# What is not known


def eqx_params():
    eqx = pytest.importorskip("equinox", reason="Equinox is in the extra compare")
    model = eqx.nn.MLP(3, 2, 5, 1, key=jax.random.key(0))
    return eqx.filter(model, eqx.is_array)


def test_equinox_asks_for_axis_and_takes_it():
    with pytest.raises(ValueError, match=r"layers.*weight.*\(5, 3\).*\(out, in, \.\.\.\).*axis="):
        project(eqx_params())
    params = eqx_params()
    axis = jax.tree.map(lambda w: tuple(range(1, w.ndim)), params)  # as the error says
    check(params, {"weight": 1}, axis=axis)
    check(params, {"weight": 1}, axis=1)


@pytest.mark.parametrize(
    "params",
    [
        {"cls": jnp.ones((1, 1, 8))},
        {"kernel": jnp.ones((4, 4, 8)), "bias": jnp.ones((4, 8))},  # a stack of 4, or 4 -> (4, 8)
        {"kernel": jnp.ones((3, 3, 8, 4)), "bias": jnp.ones(8)},  # transpose_kernel
    ],
)
def test_what_is_not_known_says_so(params):
    with pytest.raises(ValueError, match=r"does not know which axes of .*axis"):
        project(params)


def test_a_subtree_left_alone_needs_no_axis():
    params = {"a": {"cls": jnp.ones((1, 1, 8))}, "b": {"kernel": jnp.ones((3, 2))}}
    check(params, {"b.kernel": 0}, c={"a": jnp.inf, "b": C})
    check(params, {"b.kernel": 0, "cls": 2}, axis={"a": (2,), "b": None})


def test_axis_is_a_prefix_too():
    params = {"a": {"weight": jnp.ones((3, 2, 2))}, "b": [jnp.ones((3, 2)), jnp.ones((3, 2))]}
    _, after = project(params, axis={"a": (1, 2), "b": [(0,), -1]})
    for leaf, axes in zip(jax.tree.leaves(after), [(1, 2), 0, 1], strict=True):
        np.testing.assert_allclose(np.sqrt((leaf**2).sum(axes)), C, rtol=1e-5)


@pytest.mark.parametrize("axis", ["in", 0.5, {"a": "in"}])
def test_axis_that_is_none(axis):
    with pytest.raises(TypeError, match=r"axis = .*write an axis such as 0"):
        dj.max_norm(C, axis)


# Numbers


def test_complex_weights_have_their_modulus():
    w = jnp.full((4, 1), 3 + 4j)
    updates, _ = dj.max_norm(1.0).update(jnp.zeros_like(w), optax.EmptyState(), w)
    np.testing.assert_allclose(w + updates, np.full((4, 1), 0.3 + 0.4j), rtol=1e-5)


@pytest.mark.parametrize("c", [0.5, jnp.inf])
def test_gradients_through_max_norm_are_finite_where_weights_are_0(c):
    def end(w):
        return (w + dj.max_norm(c).update(jnp.zeros_like(w), optax.EmptyState(), w)[0]).sum()

    slope = jax.grad(end)(jnp.array([[0.0, 3.0], [0.0, 4.0]]))
    assert np.isfinite(slope).all() and (slope[:, 0] == 1).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("update", [jnp.bfloat16, jnp.float32])
def test_narrow_weights_under_strict_promotion(dtype, update):
    w, u = jnp.ones((9, 4), dtype), jnp.ones((9, 4), update)
    with jax.numpy_dtype_promotion("strict"):
        found, _ = dj.max_norm(1.5).update(u, optax.EmptyState(), w)
        traced, _ = jax.jit(lambda c: dj.max_norm(c).update(u, optax.EmptyState(), w))(1.5)
    assert found.dtype == update
    np.testing.assert_array_equal(found, traced)
    end = np.float32(w) + np.float32(found)
    np.testing.assert_allclose(np.sqrt((end**2).sum(0)), 1.5, rtol=2 * float(jnp.finfo(dtype).eps))


# Weight scaling shares the names


def test_weight_scaling_leaves_every_bias():
    attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs())
    params = jax.tree.map(jnp.ones_like, nnx.state(attention, nnx.Param))
    scaled = dj.scale_for_inference(params, 0.5)
    for path, leaf in jax.tree_util.tree_flatten_with_path(scaled)[0]:
        np.testing.assert_array_equal(leaf, 1.0 if "bias" in str(path) else 0.5)
