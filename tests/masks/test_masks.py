"""Masks as values: a pytree of words that can be kept, saved, mapped and applied."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dropout_jax as dj

KEY = jax.random.key(0)
X = jnp.ones((2, 3))
SHAPES = [(), (1,), (40,), (0, 5), (4, 64), (3, 5, 7), (2, 28, 28, 3)]


def equal(a, b):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rate", [0, 0.5, 0.2, 1.0, jnp.float32(0.3)], ids=str)
def test_packed_and_boolean_masks_agree(shape, rate):
    packed, mask = dj.packed_mask(KEY, rate, shape), dj.bernoulli_mask(KEY, rate, shape)
    assert packed.shape == mask.shape == shape and mask.dtype == jnp.bool_
    assert packed.words.dtype == jnp.uint32
    equal(packed.unpack(), mask)


def test_a_shape_may_be_a_list():
    equal(dj.bernoulli_mask(KEY, 0.5, [3, 4]), dj.bernoulli_mask(KEY, 0.5, (3, 4)))


@pytest.mark.parametrize(("rate", "kept"), [(0, True), (1, False), (0.0, True), (1.0, False)])
def test_certain_rates(rate, kept):
    for form in (rate, jnp.float32(rate), jnp.full((3, 40), rate, jnp.float32)):
        equal(dj.bernoulli_mask(KEY, form, (3, 40)), np.full((3, 40), kept))


@pytest.mark.parametrize(
    ("shape", "dims", "words"),
    [
        ((64, 1024), (), (64, 32)),
        ((64, 1024), (0,), (1, 32)),
        ((64, 1024), (1,), (64, 1)),
        ((8, 28, 28, 64), (1, 2), (8, 2)),
        ((8, 28, 28, 64), (-3, -2), (8, 2)),
        ((10, 8, 256), (0,), (1, 8, 8)),
        ((5, 6), (0, 1), (1, 1)),
    ],
)
def test_shared_axes_draw_only_the_words_they_need(shape, dims, words):
    packed = dj.packed_mask(KEY, 0.5, shape, broadcast_dims=dims)
    assert packed.words.size == np.prod(words)
    mask = np.asarray(packed.unpack())
    assert mask.shape == shape
    equal(mask, np.broadcast_to(mask.take([0], dims[0]) if dims else mask, shape))
    drawn = tuple(1 if i in {d % len(shape) for d in dims} else n for i, n in enumerate(shape))
    equal(mask, np.broadcast_to(dj.bernoulli_mask(KEY, 0.5, drawn), shape))


def test_a_packed_mask_passes_through_jit_and_flattens():
    packed = dj.packed_mask(KEY, 0.2, (3, 5, 7), broadcast_dims=(1,))
    leaves, structure = jax.tree.flatten(packed)
    assert [leaf.dtype for leaf in leaves] == [jnp.uint32]
    for same in (
        jax.tree.unflatten(structure, leaves),
        jax.jit(lambda mask: mask)(packed),
        jax.jit(lambda key: dj.packed_mask(key, 0.2, (3, 5, 7), broadcast_dims=(1,)))(KEY),
    ):
        assert isinstance(same, dj.PackedMask) and same.shape == (3, 5, 7)
        equal(same.unpack(), packed.unpack())


def test_vmap_inside_and_out():
    keys = jax.random.split(KEY, 6).reshape(2, 3)
    expected = np.stack([[dj.bernoulli_mask(k, 0.2, (5, 7)) for k in row] for row in keys])
    draw = jax.vmap(jax.vmap(lambda key: dj.packed_mask(key, 0.2, (5, 7))))
    packed = draw(keys)
    equal(packed.unpack(), expected)
    equal(jax.vmap(jax.vmap(lambda mask: mask.unpack()))(packed), expected)
    equal(jax.vmap(lambda mask: mask.unpack())(packed), expected)


def test_vmap_of_a_shared_draw_unpacks_outside():
    keys = jax.random.split(KEY, 3)
    packed = jax.vmap(lambda k: dj.packed_mask(k, 0.5, (4, 5), broadcast_dims=(0,)))(keys)
    expected = [dj.bernoulli_mask(k, 0.5, (4, 5), broadcast_dims=(0,)) for k in keys]
    equal(packed.unpack(), np.stack(expected))


def test_scan_over_masks_and_reuse_over_time():
    keys, x = jax.random.split(KEY, 4), jnp.arange(1.0, 41.0)
    masks = jax.vmap(lambda key: dj.packed_mask(key, 0.5, (40,)))(keys)

    def step(carry, mask):
        return carry, dj.apply_mask(carry, mask, 0.5)

    _, y = jax.lax.scan(step, x, masks)
    equal(y, np.stack([dj.dropout(key, x, 0.5) for key in keys]))

    mask = dj.packed_mask(KEY, 0.5, (40,))

    def recurrent(state, _):
        state = dj.apply_mask(state, mask, 0.5)
        return state, state

    _, states = jax.lax.scan(recurrent, x, None, length=3)
    kept = np.asarray(dj.bernoulli_mask(KEY, 0.5, (40,)))
    equal(states, np.stack([kept * x * 2.0**t for t in (1, 2, 3)]))


def test_saved_and_loaded_with_numpy(tmp_path):
    packed = dj.packed_mask(KEY, 0.2, (3, 100))
    np.savez(tmp_path / "mask.npz", words=packed.words)
    with np.load(tmp_path / "mask.npz") as saved:
        again = dj.PackedMask(jnp.asarray(saved["words"]), packed.shape, packed.drawn)
    equal(again.unpack(), packed.unpack())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("rate", [0.5, 0.2, 0, 1, jnp.float32(0.3)], ids=str)
def test_applying_the_mask_is_dropout(rate, dtype):
    x = jax.random.normal(jax.random.key(1), (6, 50), dtype)
    y = dj.dropout(KEY, x, rate)
    for mask in (dj.packed_mask(KEY, rate, x.shape), dj.bernoulli_mask(KEY, rate, x.shape)):
        applied = dj.apply_mask(x, mask, rate)
        assert applied.dtype == dtype
        equal(applied, y)
        traced = jax.jit(dj.apply_mask)(x, mask, jnp.float32(rate))
        equal(traced, dj.dropout(KEY, x, jnp.float32(rate)))


def test_applying_a_mask_that_broadcasts():
    x = jnp.arange(1.0, 7.0).reshape(2, 3)
    column, row = jnp.array([[True], [False]]), jnp.array([True, False, True])
    equal(dj.apply_mask(x, column, 0.5), [[2, 4, 6], [0, 0, 0]])
    equal(dj.apply_mask(x, row, 0.5), [[2, 0, 6], [8, 0, 12]])
    equal(dj.apply_mask(x, row, jnp.array([0.5, 0.5, 0.0])), [[2, 0, 3], [8, 0, 6]])
    equal(dj.apply_mask(x, np.array(True), 0.5), 2 * x)


def test_dropped_values_that_are_not_finite_become_zero():
    x = jnp.array([1.0, jnp.nan, jnp.inf, -jnp.inf])
    mask = jnp.array([True, False, False, False])
    equal(dj.apply_mask(x, mask, 0.5), [2, 0, 0, 0])
    equal(jax.grad(lambda x: dj.apply_mask(x, mask, 0.5).sum())(x), [2, 0, 0, 0])


def test_the_mask_at_an_array_rate_is_applied_with_it():
    x, rate = jnp.ones((8, 64)), jnp.linspace(0, 1, 64)
    y = dj.apply_mask(x, dj.packed_mask(KEY, rate, x.shape), rate)
    equal(y, dj.dropout(KEY, x, rate))


def test_applying_keeps_one_bit_an_element_for_the_backward_pass():
    x = jnp.ones((64, 1024))
    packed = dj.packed_mask(KEY, 0.2, x.shape)
    _, backward = jax.vjp(lambda x: dj.apply_mask(x, packed, 0.2), x)
    leaves = jax.tree.leaves(backward)
    assert [leaf.dtype for leaf in leaves if leaf.ndim] == [jnp.uint32]
    assert sum(leaf.nbytes for leaf in leaves) <= x.size // 8 + 4  # and the factor


@pytest.mark.parametrize("draw", [dj.packed_mask, dj.bernoulli_mask])
@pytest.mark.parametrize(
    ("arguments", "error", "fix"),
    [
        ((None, 0.5, (2,)), TypeError, r"jax\.random\.key\(0\)"),
        ((jax.random.split(KEY), 0.5, (2,)), ValueError, "one is needed"),
        ((KEY, 1.5, (2,)), ValueError, "rate is 1.5"),
        ((KEY, np.nan, (2,)), ValueError, "rate is nan"),
        ((KEY, True, (2,)), TypeError, "write a number"),
        ((KEY, jnp.full((3,), 0.5), (2,)), ValueError, r"rate of shape \(3,\).*\(2,\)"),
        ((KEY, jnp.full((2, 2), 0.5), (2,)), ValueError, r"rate of shape \(2, 2\)"),
        ((KEY, jnp.full((2,), 0.5), (2, 1)), ValueError, r"rate of shape \(2,\)"),
    ],
)
def test_bad_draws(draw, arguments, error, fix):
    with pytest.raises(error, match=fix):
        draw(*arguments)


@pytest.mark.parametrize("draw", [dj.packed_mask, dj.bernoulli_mask])
def test_a_legacy_key_draws_as_a_typed_one(draw):
    found, expected = (draw(key(0), 0.5, (64,)) for key in (jax.random.PRNGKey, jax.random.key))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_bad_axes_and_shapes():
    with pytest.raises(ValueError, match="broadcast_dims has axis 2"):
        dj.packed_mask(KEY, 0.5, (2, 3), broadcast_dims=(2,))
    with pytest.raises(ValueError, match="axis twice"):
        dj.bernoulli_mask(KEY, 0.5, (2, 3), broadcast_dims=(1, -1))
    for five in (5, np.int64(5)):
        with pytest.raises(TypeError, match=r"\(5,\)"):
            dj.bernoulli_mask(KEY, 0.5, five)
    for axes in (np.int64(1), None, (1.0,)):
        with pytest.raises(TypeError, match="broadcast_dims"):
            dj.packed_mask(KEY, 0.5, (2, 3), broadcast_dims=axes)
    with pytest.raises(ValueError, match="write sizes of 0 or more"):
        dj.packed_mask(KEY, 0.5, (-5,))
    with pytest.raises(ValueError, match=r"rate of shape \(3,\)"):
        dj.bernoulli_mask(KEY, jnp.full((3,), 0.5), (2, 3), broadcast_dims=(1,))


@pytest.mark.parametrize(
    ("x", "mask", "rate", "error", "fix"),
    [
        (jnp.arange(3), jnp.ones(3, bool), 0.5, TypeError, r"x\.astype\(jnp\.float32\)"),
        (jnp.ones(3), jnp.ones(3), 0.5, TypeError, r"mask\.astype\(bool\)"),
        (jnp.ones(3), None, 0.5, TypeError, "mask is NoneType"),
        (jnp.ones(3), jnp.ones(4, bool), 0.5, ValueError, r"mask of shape \(4,\)"),
        (jnp.ones(3), jnp.ones((2, 3), bool), 0.5, ValueError, r"mask of shape \(2, 3\)"),
        (X, dj.packed_mask(KEY, 0.5, (4, 3)), 0.5, ValueError, r"mask of shape \(4, 3\)"),
        (jnp.ones(3), jnp.ones(3, bool), jnp.ones(2), ValueError, r"rate of shape \(2,\)"),
        (jnp.ones(3), jnp.ones(3, bool), -0.5, ValueError, "rate is -0.5"),
    ],
)
def test_bad_applications(x, mask, rate, error, fix):
    with pytest.raises(error, match=fix):
        dj.apply_mask(x, mask, rate)


def test_many_masks_are_mapped_over():
    keys, x = jax.random.split(KEY, 3), jnp.ones((3, 4, 32))
    many = jax.vmap(lambda key: dj.packed_mask(key, 0.5, (4, 32)))(keys)
    for wrong in (x[0], x):
        with pytest.raises(ValueError, match=r"holds \(3,\) masks of shape \(4, 32\).*jax.vmap"):
            dj.apply_mask(wrong, many, 0.5)
    found = jax.vmap(dj.apply_mask, (0, 0, None))(x, many, 0.5)
    np.testing.assert_array_equal(found, jax.vmap(dj.dropout, (0, 0, None))(keys, x, 0.5))
