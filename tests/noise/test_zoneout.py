"""Zoneout keeps states, its mean is stated, and one mask can serve all steps of a scan."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dropout_jax as dj

KEY = jax.random.key(0)
NEW, OLD = jnp.ones((8, 6)), -jnp.ones((8, 6))


def test_what_is_dropped_is_the_update():
    mask = dj.bernoulli_mask(KEY, 0.3, (8, 6))
    np.testing.assert_array_equal(dj.zoneout(KEY, NEW, OLD, 0.3), jnp.where(mask, NEW, OLD))
    shared = dj.zoneout(KEY, NEW, OLD, 0.3, broadcast_dims=(0,))
    np.testing.assert_array_equal(shared, jnp.broadcast_to(shared[:1], shared.shape))


def test_gradient_flows_through_the_state_that_was_taken():
    mask = dj.bernoulli_mask(KEY, 0.3, (8, 6)).astype(jnp.float32)
    slopes = jax.grad(lambda new, old: dj.zoneout(KEY, new, old, 0.3).sum(), (0, 1))(NEW, OLD)
    np.testing.assert_array_equal(slopes[0], mask)
    np.testing.assert_array_equal(slopes[1], 1 - mask)


@pytest.mark.parametrize("shape", [None, (), (6,), (8, 1)])
@pytest.mark.parametrize("rate", [0, 1, 0.25])
def test_the_mean(rate, shape):
    rate = rate if shape is None else jnp.full(shape, rate, jnp.float32)
    for dtype in (jnp.float32, jnp.bfloat16):
        mean = dj.zoneout_mean(NEW.astype(dtype), OLD.astype(dtype), rate)
        assert mean.dtype == dtype
        np.testing.assert_array_equal(mean, jnp.broadcast_to(1 - 2 * rate, (8, 6)))


def test_errors():
    for function in (
        lambda new, old: dj.zoneout(KEY, new, old, 0.5),
        lambda new, old: dj.zoneout_mean(new, old, 0.5),
    ):
        with pytest.raises(ValueError, match="have one shape"):
            function(NEW, OLD[:1])
        with pytest.raises(ValueError, match=r"astype\(new.dtype\)"):
            function(NEW, OLD.astype(jnp.bfloat16))
        with pytest.raises(TypeError, match="old has dtype int32"):
            function(NEW, OLD.astype(jnp.int32))
    with pytest.raises(ValueError, match="rate is 2"):
        dj.zoneout_mean(NEW, OLD, 2)
    with pytest.raises(ValueError, match="broadcast"):
        dj.zoneout_mean(NEW, OLD, jnp.full((8,), 0.5))


def test_one_mask_over_time():
    """Gal and Ghahramani 2016, section 4: with identity weights, a dropped unit always forgets."""
    mask = dj.packed_mask(KEY, 0.5, (6,))

    def cell(state, x):
        state = x + dj.apply_mask(state, mask, 0.5)
        return state, state

    states = np.asarray(jax.lax.scan(cell, jnp.zeros(6), jnp.ones((5, 6)))[1])
    kept = np.asarray(mask.unpack())
    assert 0 < kept.sum() < 6
    np.testing.assert_array_equal(states[:, ~kept], np.ones((5, (~kept).sum())))
    doubling = 2.0 ** np.arange(1, 6) - 1  # s -> 1 + 2 s
    np.testing.assert_array_equal(states[:, kept], np.repeat(doubling[:, None], kept.sum(), 1))


def test_zoneout_in_a_scan_draws_at_every_step():
    def cell(state, key):
        state = dj.zoneout(key, state + 1, state, 0.5)
        return state, state

    states = jax.lax.scan(cell, jnp.zeros(64), jax.random.split(KEY, 9))[1]
    steps = np.diff(np.asarray(states), axis=0)
    assert set(np.unique(steps)) == {0.0, 1.0}
    assert len(np.unique(steps, axis=0)) == 8
