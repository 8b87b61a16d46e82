"""Stochastic depth: who shares a draw, and the subset form's exact mean and saved computation."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thresholds import assert_binomial

import dropout_jax as dj

KEY = jax.random.key(0)


def test_per_sample_and_per_batch():
    x = jnp.ones((64, 2, 3))
    sample = dj.drop_path(KEY, x, 0.5)
    np.testing.assert_array_equal(sample, dj.dropout(KEY, x, 0.5, broadcast_dims=(1, 2)))
    assert set(sample[:, 0, 0].tolist()) == {0.0, 2.0}
    batches = [dj.drop_path(key, x, 0.5, per="batch") for key in jax.random.split(KEY, 16)]
    assert {tuple(np.unique(batch)) for batch in batches} == {(0.0,), (2.0,)}


def test_a_rate_a_sample():
    rates = jnp.asarray([0.0, 1.0, 0.0, 1.0]).reshape(4, 1)
    np.testing.assert_array_equal(
        dj.drop_path(KEY, jnp.ones((4, 3)), rates), jnp.broadcast_to(1 - rates, (4, 3))
    )
    with pytest.raises(ValueError, match="broadcast"):
        dj.drop_path(KEY, jnp.ones((4, 3)), jnp.full((4, 3), 0.5))


def test_errors():
    with pytest.raises(ValueError, match="'sample' or 'batch'"):
        dj.drop_path(KEY, jnp.ones((4, 3)), 0.5, per="layer")
    with pytest.raises(ValueError, match=r"x\[None\]"):
        dj.drop_path(KEY, jnp.ones(()), 0.5)
    with pytest.raises(TypeError, match="drop_path, which takes traced rates"):
        dj.drop_path_subset(KEY, jnp.ones(4), jnp.float32(0.5), jnp.sin)
    with pytest.raises(ValueError, match=r"\(2, 3\) into \(2,\)"):
        dj.drop_path_subset(KEY, jnp.ones((4, 3)), 0.5, lambda x: x.sum(-1))


@pytest.mark.parametrize(
    ("n", "rate", "kept"),
    [(8, 0.5, 4), (8, 0.3, 6), (8, 0.99, 1), (8, 0.01, 8), (1, 0.5, 1), (0, 0.5, 0)],
)
def test_the_branch_runs_on_the_kept_samples_only(n, rate, kept):
    seen = []

    def branch(x):
        seen.append(x.shape)
        return jnp.ones_like(x)

    y = dj.drop_path_subset(KEY, jnp.zeros((n, 2)), rate, branch)
    assert seen == [(kept, 2)]
    assert (y[:, 0] > 0).sum() == kept
    np.testing.assert_allclose(y.sum(), 2 * n, rtol=16 * 2.0**-24)  # n / kept, kept times


def test_each_sample_gets_its_own_branch():
    x = jnp.arange(1.0, 9).reshape(8, 1)
    y = dj.drop_path_subset(KEY, x, 0.5, lambda x: x**2)
    assert all(
        value in (a, a + 2 * a**2) for value, a in zip(y.ravel().tolist(), range(1, 9), strict=True)
    )


def test_gradients_are_those_of_the_masked_block():
    """The same subset as a mask, the branch run on everything; whole numbers, so exactly."""
    x, w = jnp.arange(18.0).reshape(6, 3), jnp.arange(9.0).reshape(3, 3)

    def subset(w, x):
        return dj.drop_path_subset(KEY, x, 0.5, lambda x: (x @ w) ** 2).sum()

    taken = (dj.drop_path_subset(KEY, jnp.zeros((6, 1)), 0.5, jnp.ones_like) > 0).astype(x.dtype)

    def masked(w, x):
        return (x + 2 * taken * (x @ w) ** 2).sum()

    for ours, theirs in zip(
        jax.grad(subset, (0, 1))(w, x), jax.grad(masked, (0, 1))(w, x), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_subsets_are_uniform():
    """All 10 subsets of 3 of 5, each at its binomial count; false-alarm rate 1e-7."""
    draws = 2**14
    keys = jax.random.split(KEY, draws)
    draw = jax.vmap(lambda key: dj.drop_path_subset(key, jnp.zeros(5), 0.4, jnp.ones_like))
    taken = np.asarray(jax.jit(draw)(keys)) > 0
    assert (taken.sum(1) == 3).all()
    codes = [sum(1 << i for i in subset) for subset in itertools.combinations(range(5), 3)]
    counts = np.bincount(taken @ (1 << np.arange(5)), minlength=32)
    assert_binomial(counts[codes], draws, 1 / 10, 1e-7, "draws of a subset")
