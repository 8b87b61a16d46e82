"""The masks are random: each property is asserted at a stated false-alarm rate.

A check takes masks (True = kept) and fails for a perfect sampler with probability `ALPHA` at most;
over the file that is 1e-6. Counts have exact binomial tails, over disjoint pairs where pairs are
counted. (The allowed correlation of two lanes of a word, under 2^-14, widens the counts by less
than 0.1 % and shifts the pairs by less than 0.1 standard deviations at these sizes.) The second
half shows every check to catch a planted fault.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thresholds import assert_binomial, assert_chi_square, assert_normal

import dropout_jax as dj

RATES = [1e-4, 0.001, 0.02, 0.1, 0.2, 0.25, 1 / 3, 0.5, 0.7, 0.9, 0.99, 0.9999]
PAIR_RATES = [0.01, 0.2, 0.5, 0.8]
SHAPE = (512, 2048)


def check_marginal(mask, rate, alpha):
    assert_binomial((~mask).sum(), mask.size, rate, alpha, "drops")


def check_lanes(mask, rate, alpha):
    lanes = (~mask).reshape(-1, 32)
    assert_binomial(lanes.sum(0), len(lanes), rate, alpha, "drops in a lane")


def check_lane_pairs(mask, rate, alpha):
    lanes = (~mask).reshape(-1, 32).astype(np.float32)  # exact under 2^24
    both = (lanes.T @ lanes)[np.triu_indices(32, 1)]
    assert_binomial(both, len(lanes), rate**2, alpha, "drops of two lanes of a word")


def check_words(mask, rate, alpha):
    words = (~mask).reshape(len(mask), -1, 2, 32)
    both = words[:, :, 0] & words[:, :, 1]
    assert_binomial(both.sum(), both.size, rate**2, alpha, "drops of neighbouring words")


def check_rows(mask, rate, alpha):
    check_masks(mask, rate, alpha, "drops of neighbouring rows")


def check_masks(masks, rate, alpha, what="drops of successive masks"):
    both = ~masks[::2] & ~masks[1::2]
    assert_binomial(both.sum(), both.size, rate**2, alpha, what)


def check_lags(mask, rate, alpha):
    drops, lags = ~mask, range(1, 65)
    for lag in lags:
        used = drops.shape[1] // (2 * lag) * 2 * lag
        pairs = drops[:, :used].reshape(len(drops), -1, 2, lag)
        both = pairs[:, :, 0] & pairs[:, :, 1]
        assert_binomial(both.sum(), both.size, rate**2, alpha / len(lags), f"drops {lag} apart")


def check_runs(mask, rate, alpha):
    """Wald and Wolfowitz 1940: the number of runs, given the number of drops."""
    sequence = mask.ravel()
    n, kept = sequence.size, int(sequence.sum())
    pairs = 2 * kept * (n - kept)
    mean, variance = pairs / n + 1, pairs * (pairs - n) / n**2 / (n - 1)
    runs = 1 + np.count_nonzero(sequence[1:] != sequence[:-1])
    assert_normal((runs - mean) / np.sqrt(variance), alpha, "runs")


def check_count_variance(masks, rate, alpha):
    counts = (~masks).reshape(len(masks), -1).sum(1)
    n = masks[0].size
    statistic = ((counts - n * rate) ** 2).sum() / (n * rate * (1 - rate))
    assert_chi_square(statistic, len(masks), alpha, "variance of the number of drops")


@functools.cache
def one_mask(rate):
    return np.asarray(dj.bernoulli_mask(jax.random.key(2014), rate, SHAPE))


def one_mask_of_rare_drops(rate):
    return np.asarray(dj.bernoulli_mask(jax.random.key(1580), rate, (2**12, 2**14)))


def one_mask_at_an_array_rate(rate):
    # Every lane of a word has a rate of its own; the lanes of this rate are looked at.
    others = np.asarray(RATES, np.float32)[np.arange(64) % len(RATES)]
    others[1::2] = rate
    mask = dj.bernoulli_mask(jax.random.key(1929), jnp.tile(others, 64)[None], (512, 4096))
    return np.asarray(mask)[:, 1::2]


def many(rate, keys, shape):
    draw = jax.jit(jax.vmap(lambda key: dj.bernoulli_mask(key, rate, shape)))
    return np.asarray(draw(keys))


def masks_of_steps(rate):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(7), jnp.arange(64))
    return many(rate, keys, (64, 128))


def masks_of_siblings(rate):
    return many(rate, jax.random.split(jax.random.key(8), 64), (64, 128))


def masks_of_sites(rate):
    keys = [dj.site_key(jax.random.key(9), f"hidden{i}") for i in range(64)]
    return many(rate, jnp.stack(keys), (64, 128))


def masks_of_examples(rate):
    return many(rate, dj.per_example_keys(jax.random.key(10), jnp.arange(4096)), (128,))


def small_masks(rate):
    return many(rate, jax.random.split(jax.random.key(11), 2048), (4, 128))


CASES = (
    [(check_marginal, one_mask, rate) for rate in RATES]
    + [(check_marginal, one_mask_at_an_array_rate, rate) for rate in RATES]
    + [(check_lanes, one_mask, rate) for rate in RATES]
    + [(check_lanes, one_mask_of_rare_drops, 2**-16)]
    + [
        (check, one_mask, rate)
        for check in (check_lane_pairs, check_words, check_rows, check_lags, check_runs)
        for rate in PAIR_RATES
    ]
    + [
        (check_masks, masks, rate)
        for masks in (masks_of_steps, masks_of_siblings, masks_of_sites, masks_of_examples)
        for rate in PAIR_RATES
    ]
    + [(check_count_variance, small_masks, rate) for rate in PAIR_RATES]
)
ALPHA = 1e-6 / len(CASES)


def name(case):
    check, masks, rate = case
    return f"{check.__name__}-{masks.__name__}-{rate:.4g}"


@pytest.mark.parametrize("case", CASES, ids=name)
def test_masks_are_random(case):
    check, masks, rate = case
    check(masks(rate), float(np.float32(rate)), ALPHA)


# Faulty samplers, in NumPy. Each packs its words as the library does.

RATE = 0.2


def fold(words, shared, depth, threshold):
    acc = np.where(shared, np.uint32(0xFFFFFFFF), np.uint32(0))
    for position in reversed(range(depth)):
        bit = threshold >> (depth - 1 - position) & 1
        acc = words[position] | acc if bit else words[position] & acc
    return acc


def sampled(rate=RATE, shape=SHAPE, depth=9, reuse=None, seed=0):
    """Masks of the fold; `reuse` names the folded word whose bits also make the shared decision."""
    size = (*shape[:-1], shape[-1] // 32)
    rng = np.random.Generator(np.random.SFC64(seed))
    words = [rng.integers(0, 2**32, size, np.uint32) for _ in range(depth + 1)]
    threshold, rest = divmod(rate * 2**depth, 1)
    shared = words[depth if reuse is None else reuse] < rest * 2**32
    return kept(fold(words, shared, depth, int(threshold)))


def kept(words):
    bits = np.unpackbits(np.ascontiguousarray(words, "<u4").view(np.uint8), bitorder="little")
    return ~bits.astype(bool).reshape(*words.shape[:-1], words.shape[-1] * 32)


def sampled_masks(seed=0):
    return sampled(shape=(2048, 4, 128), seed=seed)


def repeated(mask, axis, times):
    """Every one of `times` neighbours along an axis is a copy of the first."""
    start = np.arange(mask.shape[axis]) // times * times
    return np.take(mask, start, axis)


def one_lane_off(mask):
    off = mask.copy()
    off[:, 7::32] &= np.arange(len(mask))[:, None] % 16 > 0
    return off


def words_copied(mask):
    lanes = mask.reshape(*mask.shape[:-1], -1, 32)
    return repeated(lanes, -2, 2).reshape(mask.shape)


@pytest.mark.parametrize(
    "check",
    [
        check_marginal,
        check_lanes,
        check_lane_pairs,
        check_words,
        check_rows,
        check_lags,
        check_runs,
    ],
)
def test_a_fair_sampler_passes(check):
    check(sampled(), RATE, ALPHA)


@pytest.mark.parametrize("check", [check_masks, check_count_variance])
def test_fair_masks_pass(check):
    check(sampled_masks(), RATE, ALPHA)


FAULTS = {
    "threshold_off": (lambda: sampled(RATE + 1 / 256), [check_marginal]),
    "lane_off": (lambda: one_lane_off(sampled()), [check_lanes]),
    "lanes_in_fours": (
        lambda: repeated(sampled(), 1, 4),
        [check_lane_pairs, check_lags, check_runs],
    ),
    "word_copied": (lambda: words_copied(sampled()), [check_words, check_lags]),
    "row_copied": (lambda: repeated(sampled(), 0, 2), [check_rows]),
    "shared_draw_too_coarse": (lambda: sampled(depth=2), [check_lane_pairs, check_runs]),
    "mask_copied": (lambda: repeated(sampled_masks(), 0, 2), [check_masks]),
    "words_copied_in_masks": (lambda: words_copied(sampled_masks()), [check_count_variance]),
    "too_even": (
        lambda: np.broadcast_to(np.arange(512) % 5 > 0, (2048, 512)),
        [check_count_variance],
    ),
}


@pytest.mark.parametrize(
    ("fault", "check"),
    [(fault, check) for fault, (_, checks) in FAULTS.items() for check in checks],
)
def test_a_fault_is_caught(fault, check):
    masks = FAULTS[fault][0]()
    with pytest.raises(AssertionError):
        check(masks, RATE, ALPHA)


def test_bits_reused_by_the_shared_draw_are_caught():
    """Visible where the shared draw decides most drops: then one lane can never drop."""
    rare, shape = 2**-16, (2**12, 2**14)
    check_lanes(sampled(rare, shape, depth=15), rare, ALPHA)
    with pytest.raises(AssertionError):
        check_lanes(sampled(rare, shape, depth=15, reuse=0), rare, ALPHA)
