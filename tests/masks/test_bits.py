"""The planner and the fold: exact probabilities by enumeration, and the words they cost."""

import functools
from fractions import Fraction

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thresholds import assert_binomial

import dropout_jax as dj
from dropout_jax.masks import bits, threefry

NEXT_TO_ONE = 1 - 2.0**-24
DYADIC = [0.5, 0.25, 0.75, 0.625, 2**-9, 1 - 2**-9, 2**-15, 1 - 2**-15, 2**-20]
OTHERS = [0.1, 0.2, 1 / 3, 0.7, 0.9, 0.03, 0.97, 1e-3, 0.999, 1e-4, 0.9999, 1e-6, 1 - 1e-6]
EXACT = [*DYADIC, *OTHERS, 2**-24, 2**-23 * (1 - 2**-24), NEXT_TO_ONE]
EXTREME = [0.0, 1.0, 1e-20, 1e-40, 2**-47, 2**-48, 1 - 1e-12, NEXT_TO_ONE]
SHAPES = [(), (1,), (31,), (32,), (33,), (4, 64), (2, 1, 40)]
SHAPES += [(3, 5, 7), (28, 28, 3), (2, 28, 28, 3)]
EMPTY = [(0,), (0, 5), (3, 0), (3, 0, 5), (0, 0)]


# Threefry


def test_threefry_matches_the_published_vectors():
    """Known answers of Random123 1.x for Threefry-2x32 with 20 rounds."""
    ones, pi = 0xFFFFFFFF, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    for key, counter, expected in [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((ones, ones), (ones, ones), (0x1CB996FC, 0xBB002BE7)),
        (pi[2:], pi[:2], (0xC4923A9C, 0x483DF7A0)),
    ]:
        high, low = np.asarray(counter, np.uint32)
        words = threefry.threefry(jnp.asarray(key, jnp.uint32), jnp.uint32(high), jnp.uint32(low))
        assert tuple(map(int, words)) == expected


def test_threefry_matches_jax():
    key, high, low = (
        jax.random.bits(jax.random.key(i), (n,), jnp.uint32) for i, n in enumerate([2, 999, 999])
    )
    expected = jax.extend.random.threefry_2x32(key, jnp.concatenate([high, low]))
    np.testing.assert_array_equal(jnp.concatenate(threefry.threefry(key, high, low)), expected)


@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 5), (4, 0), (1,)])
def test_counters_are_the_linear_index(shape):
    np.testing.assert_array_equal(
        threefry._counter(shape), np.arange(np.prod(shape)).reshape(shape)
    )


def test_a_draw_over_the_counter_is_refused():
    with pytest.raises(ValueError, match="draw it in parts"):
        jax.eval_shape(lambda: threefry._counter((2**17, 2**16)))


def test_words_differ_from_those_of_jax_random_with_the_same_key():
    key, n = jax.random.key(3), 4096
    word = threefry.word_source(key, (n,))
    ours = np.concatenate([word(i) for i in range(bits.MAX_DEPTH + 1)])
    children = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(n))
    theirs = np.concatenate(
        [jax.random.bits(key, (n,), jnp.uint32), jax.random.key_data(children).ravel()]
    )
    # 2^28 pairs of words, 2^-32 each: Poisson of mean 1/8, over 12 with probability 1e-21.
    assert np.isin(theirs, ours).sum() <= 12
    assert len(np.unique(ours)) > 0.99 * ours.size


# One lane's probability, by enumeration of the words that it can see.


VALUES = np.arange(2**bits.MAX_DEPTH, dtype=np.uint32).reshape(-1, bits.LANES)
FOLDED = jnp.stack(
    [bits.pack(jnp.asarray(VALUES >> i & 1 == 1)) for i in reversed(range(bits.MAX_DEPTH))]
)


def fold_static(words, rate):
    return bits.fold_static(lambda position: words[position], np.float32(rate))


@jax.jit
def fold_traced(words, rate):
    return bits.fold_traced(lambda position: words[position], jnp.float32(rate).reshape(1, 1))


@jax.jit
def compare_array(words, rate):
    rate = jnp.full((1, bits.LANES), rate, jnp.float32)
    return bits._compare_lanes(lambda position: words[position], rate)


@jax.jit
def fold_array(words, rate):
    rate = jnp.full((1, bits.LANES), rate, jnp.float32)
    return bits.fold_traced(lambda position: words[position], rate)


def law(rate, fold):
    """Probabilities of a drop: when the shared draw fails, when it succeeds; and that it succeeds.

    The lanes run over all values of the folded words' bits. The shared word is scanned by
    bisection, so that nothing of the fold's arithmetic is assumed.
    """
    k = int(bits.depth(np.float32(rate))[0])

    def drops(shared):
        unfolded = jnp.full((bits.MAX_DEPTH + 1 - k, FOLDED.shape[1]), shared, jnp.uint32)
        drop = fold(jnp.concatenate([FOLDED[:k], unfolded]), rate)
        return Fraction(int(np.bitwise_count(drop).sum()), VALUES.size)

    taken, left = drops(0), drops(2**32 - 1)
    low, high = 0, 2**32 - 1  # it succeeds for the words below `high`
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if drops(middle) == left else (middle + 1, high)
    return left, taken, Fraction(high, 2**32)


@pytest.mark.parametrize("fold", [fold_static, fold_traced, fold_array, compare_array])
@pytest.mark.parametrize("rate", EXACT)
def test_the_probability_is_exactly_the_rate(rate, fold):
    left, taken, succeeds = law(rate, fold)
    drop = succeeds * taken + (1 - succeeds) * left
    assert drop == Fraction(float(np.float32(rate)))
    covariance = succeeds * (1 - succeeds) * (taken - left) ** 2
    assert covariance / (drop * (1 - drop)) < Fraction(1, 2**14)


@pytest.mark.parametrize("rows", [1, 14, 15, 40])  # a rate is compared, or folded once for all
def test_a_row_of_rates_draws_as_the_array_of_them_and_as_each_alone(rows):
    key = jax.random.key(0)
    row = jnp.array([0, 1e-4, 0.1, 1 / 3, 0.5, 0.97, 0.9999, 1] * 12)
    shape = rows, row.size
    folded = bits._is_shared(bits._rate_of_lanes(row, shape), bits.layout(shape).words)
    assert folded == (rows >= bits.MAX_DEPTH)
    mask = np.asarray(dj.bernoulli_mask(key, row, shape))
    each = dj.bernoulli_mask(key, jnp.broadcast_to(row, shape), shape)
    np.testing.assert_array_equal(mask, each)
    alone = np.asarray(jax.vmap(lambda rate: dj.bernoulli_mask(key, rate, shape))(row[:8]))
    for column in range(8):
        np.testing.assert_array_equal(mask[:, column::8], alone[column, :, column::8])


@pytest.mark.parametrize("rate", [1e-8, 1e-11, 2**-47, 1e-20])
def test_below_2_to_the_minus_24_the_tail_of_the_rate_is_lost(rate):
    left, taken, succeeds = law(rate, fold_static)
    drop = succeeds * taken + (1 - succeeds) * left
    assert drop == Fraction(int(Fraction(float(np.float32(rate))) * 2**47), 2**47)


def test_the_correlation_bound_holds_at_every_rate():
    """The covariance of the enumeration above, 4^-k r (1 - r), over a dense grid of rates."""
    tails = np.geomspace(2**-47, 0.5, 20_000)
    edges = 2.0 ** -np.arange(1, 24)
    beside = np.concatenate([np.nextafter(np.float32(edges), np.float32(to)) for to in (0, 1)])
    middle = np.linspace(0, 1, 20_001)[1:-1]
    grid = np.concatenate([middle, tails, 1 - tails, edges, beside, 1 - beside])
    for rate in np.unique(np.float32(grid)):
        if rate in (0, 1):
            continue
        k, scale = bits.depth(rate)
        assert scale == 2 ** int(k) and k <= bits.MAX_DEPTH
        drop = Fraction(float(rate))
        r = drop * 2 ** int(k) % 1
        assert r * (1 - r) / 4 ** int(k) < drop * (1 - drop) / 2**14, rate


def test_depth_of_a_traced_rate_is_that_of_a_static_one():
    near_one = 1 - np.geomspace(6e-8, 0.5, 999)
    rates = np.float32(np.concatenate([np.geomspace(1e-8, 0.5, 999), near_one]))
    k, scale = jax.jit(bits.depth)(rates)
    expected = [bits.depth(rate) for rate in rates]
    np.testing.assert_array_equal(k, [e[0] for e in expected])
    np.testing.assert_array_equal(scale, [e[1] for e in expected])


# One law whatever form the rate has


def mask(rate, shape=(8, 96)):
    return np.asarray(dj.bernoulli_mask(jax.random.key(0), rate, shape))


traced_mask = jax.jit(lambda rate: dj.bernoulli_mask(jax.random.key(0), rate, (8, 96)))


@pytest.mark.slow
@pytest.mark.parametrize("rate", EXACT + EXTREME)
def test_static_traced_and_array_rates_draw_one_mask(rate):
    static = mask(rate)
    for shape in [(), (1,), (8, 1), (96,), (1, 96), (8, 96)]:
        np.testing.assert_array_equal(traced_mask(jnp.full(shape, rate, jnp.float32)), static)
    np.testing.assert_array_equal(mask(jnp.float32(rate)), static)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(16, 96), (16, 5, 7), (4, 40), (50,), (2, 28, 28, 3)])
def test_each_element_of_an_array_rate_is_as_if_alone(shape):
    """Rates of every depth side by side in one word, certain ones among them."""
    rates = np.float32([*EXACT, 0, 1, 1e-20])
    which = np.random.default_rng(0).integers(0, len(rates), shape)
    mixed = mask(jnp.asarray(rates[which]), shape)
    alone = np.stack([mask(jnp.float32(rate), shape) for rate in rates])
    np.testing.assert_array_equal(mixed, np.take_along_axis(alone, which[None], 0)[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "rate_shape", [(4, 1, 1), (5, 1), (7,), (4, 5, 1), (4, 1, 7), (1, 5, 7), (1,)]
)
def test_an_array_rate_broadcasts_against_the_draw(rate_shape):
    rate = jax.random.uniform(jax.random.key(1), rate_shape)
    full = jnp.broadcast_to(rate.reshape((1,) * (3 - rate.ndim) + rate.shape), (4, 5, 7))
    np.testing.assert_array_equal(mask(rate, (4, 5, 7)), mask(full, (4, 5, 7)))


@pytest.mark.slow
def test_rates_are_rounded_to_float32_in_64_bit_mode(x64):
    for rate in (0.1, 0.2, 1 / 3, 1e-3):
        np.testing.assert_array_equal(mask(rate), mask(jnp.float64(rate)))
        np.testing.assert_array_equal(mask(rate), mask(jnp.float32(rate)))


@pytest.mark.slow
def test_64_bit_mode_draws_the_same_words():
    rates = [0.5, 0.2, jnp.full((96,), 0.3, jnp.float32)]
    narrow = [mask(rate) for rate in rates]
    with jax.enable_x64(True):
        wide = [mask(rate) for rate in rates]
    np.testing.assert_array_equal(narrow, wide)


# Cost


LOOPED = [0.2, 0.01, 0.001, 1e-5, 0.9, 0.6, 2**-9, 3 * 2**-7, 1 - 2**-9]


@pytest.mark.parametrize("rate", LOOPED)
@pytest.mark.parametrize("of", [float, jnp.float32, lambda r: jnp.full((3, 1), r)])
def test_a_loop_over_hashes_draws_the_same_words(monkeypatch, rate, of):
    key, shape = jax.random.key(0), (3, 70)
    looped = bits.keep_words(key, of(rate), shape)
    monkeypatch.setattr(bits, "materialised", lambda draw, *_, loop: draw())
    np.testing.assert_array_equal(looped, bits.keep_words(key, of(rate), shape))


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_a_loop_over_hashes_keeps_the_ends_of_a_traced_rate(rate):
    draw = jax.jit(lambda rate: bits.keep_words(jax.random.key(0), rate, (2, 64)))
    expected = bits.keep_words(jax.random.key(0), rate, (2, 64))
    np.testing.assert_array_equal(draw(jnp.float32(rate)), expected)


@pytest.mark.parametrize("rate", [0.1, 0.001, jnp.float32(0.1)])
def test_a_program_has_one_hash_a_draw(rate):
    """Compiling is most of what many sites cost, and it grows with the rounds that are written."""
    rounds = 20

    static = (1,) if isinstance(rate, float) else ()

    @functools.partial(jax.jit, static_argnums=static)
    def draws(keys, rate):
        return [bits.keep_words(key, rate, (4, 64)) for key in keys]

    keys = jax.random.split(jax.random.key(0), 2)
    text = draws.lower(keys, rate).compile().as_text()
    assert 0 < text.count(" shift-left(") <= 2 * (rounds + 4)


def words_drawn(monkeypatch, rate, shape):
    """(positions asked for, words in each) of one draw."""
    asked, source = [], bits.word_source

    def counting(key, shape):
        word = source(key, shape)

        def count(position):
            drawn = word(position)
            asked.append((position, drawn.size))
            return drawn

        return count

    monkeypatch.setattr(bits, "word_source", counting)
    monkeypatch.setattr(bits, "materialised", lambda draw, *_, loop: draw())
    bits.keep_words(jax.random.key(0), rate, shape)
    return dict(asked)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(0.5, 1), (0.25, 2), (0.75, 2), (0.625, 3), (2**-9, 9), (0.2, 10), (0.9, 10), (0.01, 12)]
    + [(0.001, 14), (1e-5, 16), (0.0, 0), (1.0, 0), (jnp.float32(0.5), 16)],
)
def test_words_drawn_for_32_elements(monkeypatch, rate, expected):
    asked = words_drawn(monkeypatch, rate, (64, 1024))
    assert len(asked) == expected
    assert set(asked.values()) <= {64 * 1024 // 32}


def test_one_hash_gives_two_words(monkeypatch):
    hashes, original = [], threefry.threefry
    monkeypatch.setattr(threefry, "threefry", lambda *args: hashes.append(args) or original(*args))
    words_drawn(monkeypatch, 0.2, (4, 64))
    assert len(hashes) == 5


# Layout


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES + EMPTY)
def test_shapes(shape):
    key, rate = jax.random.key(0), 0.2
    words = bits.keep_words(key, rate, shape)
    assert words.shape == bits.layout(shape).words and words.dtype == jnp.uint32
    drawn = bits.unpack(words, shape)
    assert drawn.shape == shape and drawn.dtype == jnp.bool_
    traced = bits.keep_words(key, jnp.float32(rate), shape)
    np.testing.assert_array_equal(bits.unpack(traced, shape), drawn)


@pytest.mark.parametrize("shape", SHAPES)
def test_unpack_reads_the_lanes_in_order(shape):
    """Element i of those that share lanes is bit i % 32 of word i // 32."""
    lead, size = bits.layout(shape)
    words = np.asarray(jax.random.bits(jax.random.key(1), bits.layout(shape).words, jnp.uint32))
    i = np.arange(size)
    expected = (words[..., i // 32] >> (i % 32).astype(np.uint32) & 1).astype(bool).reshape(shape)
    np.testing.assert_array_equal(bits.unpack(jnp.asarray(words), shape), expected)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((), (1,)),
        ((100,), (4,)),
        ((256, 1024), (256, 32)),
        ((64, 10), (64, 1)),  # lanes never cross the batch
        ((8, 7, 9), (8, 2)),
        ((8, 28, 28, 3), (8, 74)),
        ((8, 28, 28, 64), (8, 28, 28, 2)),
    ],
)
def test_lanes_fill_the_minor_axes_and_leave_the_batch(shape, words):
    assert bits.layout(shape).words == words


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_pack_inverts_unpack(ndim):
    words = jax.random.bits(jax.random.key(2), (3,) * (ndim - 1) + (4,), jnp.uint32)
    lanes = (words[..., None] >> bits.lanes(ndim + 1)) & 1 == 1
    np.testing.assert_array_equal(bits.pack(lanes), words)
    same = jnp.asarray([[True], [False]])
    np.testing.assert_array_equal(bits.pack(same), np.uint32([0xFFFFFFFF, 0]))


# Other generators


@pytest.mark.slow
@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
@pytest.mark.parametrize("rate", [0.5, 0.2, 0.001])
def test_other_generators_draw_at_the_rate(impl, rate):
    key = jax.random.key(0, impl=impl)
    shape = (256, 4096)
    drawn = dj.bernoulli_mask(key, rate, shape)
    # 6 tests, and 1e-8 for all of them.
    assert_binomial((~drawn).sum(), drawn.size, float(np.float32(rate)), 1e-8 / 6, "drops")
    np.testing.assert_array_equal(dj.bernoulli_mask(key, jnp.float32(rate), shape), drawn)
    other = dj.bernoulli_mask(jax.random.key(1, impl=impl), rate, shape)
    both = (~drawn & ~other).sum()
    assert_binomial(both, drawn.size, float(np.float32(rate)) ** 2, 1e-8 / 6, "drops in common")
    keys = jax.random.split(key, 3)
    assert jax.vmap(lambda k: dj.bernoulli_mask(k, rate, (5, 7)))(keys).shape == (3, 5, 7)
