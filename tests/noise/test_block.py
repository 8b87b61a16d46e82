"""DropBlock: blocks, the expected share, the normalisation, against a plain NumPy reading."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thresholds import assert_normal

import dropout_jax as dj
from dropout_jax.noise.block import seed_rate

KEY = jax.random.key(0)


def expected_share(gamma, sides, block):
    """1 - the mean probability of being in no dropped block, by counting blocks one by one."""
    cover = np.zeros(sides)
    places = (range(side - size + 1) for side, size in zip(sides, block, strict=True))
    for start in itertools.product(*places):
        cover[tuple(slice(s, s + size) for s, size in zip(start, block, strict=True))] += 1
    return np.mean(1 - (1 - np.float64(gamma)) ** cover)


SIDES = [(12,), (7,), (7, 7), (9, 14)]
BLOCKS = [(sides, (block,) * len(sides)) for sides in SIDES for block in (1, 2, 7)]
BLOCKS += [((9, 14), (7, 10)), ((5, 6, 7), (2, 3, 4)), ((4, 4, 4), (4, 1, 2))]


@pytest.mark.parametrize(("sides", "block"), BLOCKS)
@pytest.mark.parametrize("rate", [1e-4, 0.1, 0.5, 0.95])
def test_the_expected_share_is_the_rate(sides, block, rate):
    gamma = seed_rate(rate, sides, block)
    np.testing.assert_allclose(expected_share(gamma, sides, block), rate, rtol=1e-9)
    starts = [side - size + 1 for side, size in zip(sides, block, strict=True)]
    first_order = rate / np.prod(block) * np.prod(np.divide(sides, starts))
    assert gamma >= first_order * (1 - 1e-12)  # the paper's first-order gamma


def test_a_traced_rate_is_met_to_float32():
    solve = jax.jit(lambda rate: seed_rate(rate, (9, 14), (3, 3)))
    for rate in np.float32([1e-4, 0.1, 0.5, 0.95]):
        share = expected_share(solve(rate), (9, 14), (3, 3))
        # log1p, expm1, their product and a sum of 9 terms: under 16 roundings
        np.testing.assert_allclose(share, rate, rtol=16 * 2.0**-24)
    assert solve(jnp.float32(0)) == 0 and solve(jnp.float32(1)) == 1


# With 32 channels, or 64, blocks are joined in words.
@pytest.mark.parametrize(
    ("shape", "block"),
    [
        ((2, 9, 8, 3), 3),
        ((2, 9, 8, 3), 2),
        ((3, 17, 2), 4),
        ((2, 9, 8, 32), 3),
        ((3, 17, 64), 4),
        ((2, 9, 8, 3), (2, 4)),
        ((2, 9, 8, 32), (4, 1)),
        ((2, 5, 4, 6, 3), 2),
        ((2, 5, 4, 6, 32), (1, 2, 3)),
    ],
)
def test_dropped_elements_are_the_union_of_blocks(shape, block):
    """Every dropped element is in a whole dropped block inside the map."""
    y = np.asarray(dj.drop_block(KEY, jnp.ones(shape), 0.3, block_size=block))
    dropped, sides = y == 0, np.broadcast_to(block, len(shape) - 2)
    assert 0 < dropped.mean() < 1
    windows = np.lib.stride_tricks.sliding_window_view(
        dropped, sides, tuple(range(1, len(shape) - 1))
    )
    whole = windows.all(tuple(range(len(shape), windows.ndim)))
    union = np.zeros_like(dropped)
    for n, *start, c in np.argwhere(whole):
        union[(n, *(slice(s, s + b) for s, b in zip(start, sides, strict=True)), c)] = True
    np.testing.assert_array_equal(union, dropped)


@pytest.mark.parametrize("channels", [2, 32])
def test_the_scale_is_that_of_the_whole_batch(channels):
    x = jnp.ones((4, 8, 8, channels))
    y = np.asarray(dj.drop_block(KEY, x, 0.3, block_size=3))
    kept = y != 0
    np.testing.assert_allclose(y[kept], kept.size / kept.sum(), rtol=2e-7)
    assert len({kept[i].sum() for i in range(4)}) > 1
    alone = jax.vmap(lambda key, x: dj.drop_block(key, x[None], 0.3, block_size=3)[0])
    each = np.asarray(alone(jax.random.split(KEY, 4), x), np.float64)  # a sum that does not round
    np.testing.assert_allclose(each.mean((1, 2, 3)), np.ones(4), rtol=2e-7)


def test_the_mean_share_over_draws():
    """z of the dropped share over 2^12 independent maps; false-alarm rate 1e-7."""
    x, keys = jnp.ones((1, 9, 8, 1)), jax.random.split(KEY, 2**12)
    draw = jax.vmap(lambda key: dj.drop_block(key, x, 0.2, block_size=3))
    share = (np.asarray(jax.jit(draw)(keys)) == 0).mean((1, 2, 3, 4))
    assert_normal((share.mean() - 0.2) / (share.std() / 2**6), 1e-7, "share dropped")


@pytest.mark.parametrize("channels", [3, 32])
@pytest.mark.parametrize("dims", [(-1,), (3,), (0,), (0, 3)])
def test_broadcast_dims_share_blocks(dims, channels):
    x = jnp.ones((4, 8, 8, channels))
    y = dj.drop_block(KEY, x, 0.3, block_size=3, broadcast_dims=dims)
    dropped = np.asarray(y) == 0
    for axis in dims:
        first = dropped.take([0], axis)
        np.testing.assert_array_equal(dropped, np.broadcast_to(first, dropped.shape))
    assert dropped.any()


@pytest.mark.parametrize("rate", [1.0, jnp.float32(1)])
def test_nothing_left_is_zero_even_of_infinities(rate):
    y = dj.drop_block(KEY, jnp.full((1, 6, 1), jnp.inf), rate, block_size=6)
    np.testing.assert_array_equal(y, jnp.zeros((1, 6, 1)))


@pytest.mark.parametrize(
    ("shape", "rate", "arguments", "match"),
    [
        ((4, 4), 0.1, {"block_size": 2}, "height, width"),
        ((1, 4, 4, 1), 0.1, {"block_size": 5}, "1 to the smaller side"),
        ((1, 4, 4, 1), 0.1, {"block_size": 0}, "whole number"),
        ((1, 4, 4, 1), 0.1, {"block_size": 2.0}, "whole number"),
        ((1, 4, 4, 1), 0.1, {"block_size": (2, 5)}, "one for each side"),
        ((1, 4, 4, 1), 0.1, {"block_size": (2,)}, "one for each side"),
        ((1, 4, 4, 1), 0.1, {"block_size": (2, 0)}, "whole number"),
        ((1, 4, 4, 4, 4, 1), 0.1, {"block_size": 2}, "depth, height, width"),
        ((1, 4, 4, 1), jnp.ones(1), {"block_size": 2}, "write a scalar"),
        ((1, 4, 4, 1), 0.1, {"block_size": 2, "broadcast_dims": (1,)}, "inside the map"),
    ],
)
def test_errors(shape, rate, arguments, match):
    with pytest.raises(ValueError, match=match):
        dj.drop_block(KEY, jnp.ones(shape), rate, **arguments)


@pytest.mark.parametrize("channels", [3, 32])
def test_the_gradient_is_the_noise(channels):
    x = jnp.full((2, 9, 8, channels), 3.0)
    y, pullback = jax.vjp(lambda x: dj.drop_block(KEY, x, 0.3, block_size=3), x)
    np.testing.assert_allclose(pullback(x)[0], y, rtol=2.0**-23)
