"""Max-norm: an exact projection of the vectors outside the ball, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import dropout_jax as dj

C = 1.5


def project(weights, update, c, axis):
    """The definition, one unit at a time, in float64."""
    weights = np.asarray(weights, np.float64) + np.asarray(update, np.float64)
    units = np.moveaxis(weights, axis, range(len(axis)))  # incoming axes first; a view
    for unit in np.ndindex(units.shape[len(axis) :]):
        vector = units[(slice(None),) * len(axis) + unit]
        vector *= min(1.0, c / np.sqrt((vector**2).sum()))
    return weights


def apply(transform, weights, update):
    """The weights after one update of a single leaf."""
    return weights + transform.update(update, transform.init(weights), weights)[0]


def normal(seed, shape, scale=1.0, dtype="float32"):
    return (scale * jax.random.normal(jax.random.key(seed), shape)).astype(dtype)


def lengths(kernel):
    return np.sqrt((np.asarray(kernel, np.float64) ** 2).sum(tuple(range(kernel.ndim - 1))))


def rounding(kernel, *updates, c=C):
    """How far above c rounding may end: the sum of squares, the factor, and w + (end - w)."""
    eps = float(jnp.finfo(kernel.dtype).eps)
    fan_in = kernel.size / kernel.shape[-1]
    longest = max(lengths(leaf).max() for leaf in (kernel, *updates))
    return eps * (fan_in + 4) * (c + longest)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "shape, axis, incoming",
    [
        ((20, 7), None, (0,)),
        ((20, 7), 1, (1,)),
        ((20, 7), -1, (1,)),
        ((20, 7), (0, 1), (0, 1)),
        ((3, 3, 4, 6), None, (0, 1, 2)),
        ((3, 3, 4, 6), [0, 1], (0, 1)),
        ((1, 1), None, (0,)),
    ],
)
def test_projects_each_unit_after_the_update(shape, axis, incoming, dtype):
    w, u = normal(0, shape, dtype=dtype), normal(1, shape, 0.5, dtype)
    after = apply(dj.max_norm(C, axis), w, u)
    assert after.dtype == dtype and after.shape == shape
    np.testing.assert_allclose(
        np.asarray(after, np.float64), project(w, u, C, incoming), rtol=0, atol=rounding(w, u)
    )


def test_float64_is_projected_in_float64(x64):
    w, u = normal(0, (20, 7), dtype="float64"), normal(1, (20, 7), dtype="float64")
    after = apply(dj.max_norm(C), w, u)
    np.testing.assert_allclose(after, project(w, u, C, (0,)), rtol=0, atol=rounding(w, u))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_update_of_a_unit_inside_the_ball_is_bitwise_unchanged(dtype):
    scale = 10.0 ** -jnp.arange(40.0)[None]  # from w alone to u alone
    w, u = normal(0, (50, 40), scale, dtype), normal(1, (50, 40), scale[:, ::-1], dtype)
    after, _ = dj.max_norm(C).update(u, optax.EmptyState(), w)
    # The transformation measures the same w + u, and in float32: 50 squares, their sum, a root.
    inside = lengths(w + u) < C * (1 - 52 * jnp.finfo(jnp.float32).eps)
    assert 0 < inside.sum() < 40
    np.testing.assert_array_equal(after[:, inside], u[:, inside])


def test_on_the_sphere_is_inside():
    w, u = jnp.array([[3.0], [0.0]]), jnp.array([[0.0], [4.0]])
    np.testing.assert_array_equal(dj.max_norm(5.0).update(u, optax.EmptyState(), w)[0], u)


def test_only_the_end_of_the_update_counts():
    w, u = jnp.array([[30.0], [40.0]]), jnp.array([[-27.0], [-36.0]])
    np.testing.assert_array_equal(apply(dj.max_norm(5.0), w, u), [[3.0], [4.0]])


def test_direction_is_preserved():
    w, u = normal(0, (30, 9), 10), normal(1, (30, 9))
    before = np.asarray(w + u, np.float64)
    after = np.asarray(apply(dj.max_norm(C), w, u), np.float64)
    cosine = (before * after).sum(0) / lengths(before) / lengths(after)
    # An error of relative size e turns a vector by e at most, which the cosine sees as e^2.
    np.testing.assert_allclose(cosine, 1, rtol=0, atol=(rounding(w, u) / C) ** 2)


def test_a_second_projection_changes_nothing_but_rounding():
    w = apply(dj.max_norm(C), normal(0, (30, 9), 10), jnp.zeros((30, 9)))
    np.testing.assert_allclose(apply(dj.max_norm(C), w, jnp.zeros_like(w)), w, atol=rounding(w))


@pytest.mark.parametrize("shape", [(), (5,)])
def test_biases_are_never_constrained(shape):
    w, u = jnp.full(shape, 100.0), normal(0, shape)
    np.testing.assert_array_equal(dj.max_norm(C).update(u, optax.EmptyState(), w)[0], u)


def test_log_variances_are_no_weights():
    layer = dj.layers.SparseLinear(64, 3, rngs=nnx.Rngs(0))
    params = nnx.state(layer, nnx.Param)
    optimizer = dj.max_norm(0.1)
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    after = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(after["log_sigma2"][...], -10.0)
    lengths = jnp.linalg.norm(after["kernel"][...], axis=0)
    np.testing.assert_allclose(lengths, 0.1, rtol=1e-6)


def test_zero_weights_stay_zero():
    zeros = jnp.zeros((4, 3))
    with jax.debug_nans(True):
        np.testing.assert_array_equal(apply(dj.max_norm(C), zeros, zeros), zeros)
        np.testing.assert_array_equal(apply(dj.max_norm(jnp.inf), zeros, zeros), zeros)


def test_a_prefix_gives_each_subtree_its_own_c():
    params = {"hidden": {"kernel": normal(0, (9, 5), 10), "bias": jnp.full(5, 9.0)},
              "softmax": {"kernel": normal(1, (5, 3), 10)}}  # fmt: skip
    transform = dj.max_norm({"hidden": 2.0, "softmax": jnp.inf})
    updates, _ = transform.update(jax.tree.map(jnp.zeros_like, params), optax.EmptyState(), params)
    after = optax.apply_updates(params, updates)
    hidden = params["hidden"]["kernel"]
    np.testing.assert_allclose(
        lengths(after["hidden"]["kernel"]), 2.0, rtol=0, atol=rounding(hidden, c=2.0)
    )
    np.testing.assert_array_equal(after["hidden"]["bias"], params["hidden"]["bias"])
    np.testing.assert_array_equal(after["softmax"]["kernel"], params["softmax"]["kernel"])


def test_a_prefix_of_nnx_params():
    model = dj.layers.MLP((9, 5, 3), rates=0.5, rngs=nnx.Rngs(0))
    params = jax.tree.map(lambda leaf: 10 * leaf, nnx.state(model, nnx.Param))
    transform = dj.max_norm(nnx.State({"linears": {0: 2.0, 1: jnp.inf}}))
    updates, _ = transform.update(jax.tree.map(jnp.zeros_like, params), optax.EmptyState(), params)
    after, before = optax.apply_updates(params, updates)["linears"], params["linears"]
    first = before[0]["kernel"][...]
    np.testing.assert_allclose(
        lengths(after[0]["kernel"][...]), 2.0, rtol=0, atol=rounding(first, c=2.0)
    )
    np.testing.assert_array_equal(after[1]["kernel"][...], before[1]["kernel"][...])


def test_a_traced_c_sweeps_in_one_program():
    w, u = normal(0, (9, 5), 10), normal(1, (9, 5))
    sweep = jnp.array([0.5, 2.0, jnp.inf])
    together = jax.jit(jax.vmap(lambda c: apply(dj.max_norm(c), w, u)))(sweep)
    for c, after in zip(sweep, together, strict=True):
        c = min(float(c), 1e30)
        expected = project(w, u, c, (0,))
        np.testing.assert_allclose(after, expected, rtol=0, atol=rounding(w, u, c=min(c, 40)))


@pytest.mark.parametrize("make", [optax.sgd, optax.adam], ids=["sgd", "adam"])
@pytest.mark.parametrize("container", ["dict", "nnx"])
def test_last_in_a_chain_it_holds_after_every_update(make, container):
    model = dj.layers.MLP((9, 5, 3), rates=0, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(model, nnx.Param, ...)[:2]
    if container == "dict":
        params = {"kernel": normal(0, (9, 5)), "bias": jnp.zeros(5)}
    optimizer, free = optax.chain(make(0.5), dj.max_norm(C)), make(0.5)
    state, free_state = optimizer.init(params), free.init(params)
    constrained = 0
    for step in range(5):
        grads = jax.tree.map(lambda leaf, step=step: normal(step, leaf.shape), params)
        wanted, free_state = free.update(grads, free_state, params)
        updates, state = optimizer.update(grads, state, params)
        before, params = params, optax.apply_updates(params, updates)
        for old, want, new in zip(*map(jax.tree.leaves, (before, wanted, params)), strict=True):
            if new.ndim == 1:
                np.testing.assert_array_equal(new, old + want)
            else:
                assert np.all(lengths(new) <= C + rounding(old, want))
                constrained += np.any(lengths(old + want) > C)
    assert constrained


@pytest.mark.parametrize(
    "c", [0, -1.0, jnp.nan, jnp.array([1.0, 0.0]), {"a": 2.0, "b": 0.0}], ids=str
)
def test_a_concrete_c_must_be_positive(c):
    with pytest.raises(ValueError, match=r"c = .*write a length above 0, such as 2\.0"):
        dj.max_norm(c)


def test_params_are_needed():
    with pytest.raises(ValueError, match=r"write optimizer\.update\(g, state, params\)"):
        dj.max_norm(C).update(jnp.ones((2, 2)), optax.EmptyState())
