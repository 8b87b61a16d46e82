"""The shared checks: what they accept, what they refuse, and that they say what to write."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropout_jax import _checks

GOOD = [0, 1, 0.0, 0.5, 1.0, -0.0, np.float32(0.1), np.int64(1), np.float64(0.3), np.zeros((2, 3))]
GOOD += [[0.1, 0.2], np.float16(0.5), np.zeros(0)]


@pytest.mark.parametrize("check", [_checks.check_rate, _checks.check_keep])
@pytest.mark.parametrize("value", GOOD, ids=repr)
def test_probabilities_pass(check, value):
    assert check(value) is value


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.int32])
def test_arrays_of_probabilities_pass(dtype):
    _checks.check_rate(jnp.ones((2, 3), dtype))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.5, "1.5"), (-0.1, "-0.1"), (50, "50"), (np.nan, "nan"), (np.inf, "inf"), (-1e-30, "-1e-30")]
    + [(np.float32(1.5), "1.5"), (np.array([0.5, 2.5]), "2.5"), ([0.1, -3.0], "-3.0")],
)
def test_a_value_outside_is_named(value, shown):
    with pytest.raises(ValueError, match=f"rate is {shown}, .* between 0 and 1.* write 0.5"):
        _checks.check_rate(value)
    with pytest.raises(ValueError, match=f"keep is {shown}, .* between 0 and 1.* write 0.8"):
        _checks.check_keep(value)


def test_concrete_jax_arrays_are_checked_too():
    with pytest.raises(ValueError, match="rate is 1.5"):
        _checks.check_rate(jnp.array([0.5, 1.5]))
    with pytest.raises(ValueError, match="rate is 1.5"):
        jax.jit(lambda x: x * _checks.check_rate(1.5))(1.0)


@pytest.mark.parametrize("value", [True, np.True_, "0.5", None, 0.5j, [True]], ids=repr)
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match="write a number between 0 and 1"):
        _checks.check_rate(value)


@pytest.mark.parametrize("value", [0.5, -3.0, np.nan])
def test_tracers_pass(value):
    assert np.array_equal(jax.jit(_checks.check_rate)(value), np.float32(value), equal_nan=True)


@pytest.mark.parametrize(
    ("value", "static"),
    [(0, True), (0.5, True), (np.float32(0.5), True), (np.int8(1), True)]
    + [(np.zeros(()), False), (jnp.float32(0.5), False), ([0.5], False)],
)
def test_is_static(value, static):
    assert _checks.is_static(value) is static


def test_keys_pass():
    for key in (jax.random.key(0), jax.random.key(0, impl="rbg")):
        assert _checks.check_key(key) is key
    keys = jax.random.split(jax.random.key(0))
    assert jax.vmap(_checks.check_key)(keys).shape == (2,)


@pytest.mark.parametrize("convert", [jnp.asarray, np.asarray])
def test_legacy_keys_are_wrapped(convert):
    key = _checks.check_key(convert(jax.random.PRNGKey(7)))
    assert key == jax.random.key(7)
    with pytest.raises(ValueError, match=r"\(2,\) keys and one is needed"):
        _checks.check_key(convert(jax.random.split(jax.random.PRNGKey(7))))


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.zeros(2), jnp.zeros(2), None, "x"])
def test_only_tracers_are_traced(value):
    assert not _checks.is_traced(value)
    seen = []
    jax.make_jaxpr(lambda x: seen.append(_checks.is_traced(x)))(1.0)
    jax.vmap(lambda x: seen.append(_checks.is_traced(x)))(jnp.zeros(2))
    assert seen == [True, True]


@pytest.mark.parametrize(
    ("key", "error", "fix"),
    [
        (None, TypeError, r"write jax\.random\.key\(0\)"),
        (0, TypeError, r"write jax\.random\.key\(0\)"),
        (jax.random.split(jax.random.key(0)), ValueError, r"write key\[0\], or .*vmap"),
        (jax.random.split(jax.random.key(0), 1), ValueError, r"\(1,\) keys and one is needed"),
    ],
    ids=["none", "seed", "two", "one in an array"],
)
def test_what_is_no_key_is_refused(key, error, fix):
    with pytest.raises(error, match=fix):
        _checks.check_key(key)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "complex64", "float8_e4m3fn"])
def test_floating_passes(dtype):
    assert _checks.check_floating(jnp.ones(2, dtype)).dtype == dtype


@pytest.mark.parametrize("x", [3, np.arange(3), np.ones(2, bool), np.ones(2, np.uint8)], ids=repr)
def test_integers_are_refused(x):
    with pytest.raises(TypeError, match=r"h has dtype .* write h\.astype\(jnp\.float32\)"):
        _checks.check_floating(x, "h")


@pytest.mark.parametrize(
    ("shape", "dims", "expected"),
    [
        ((2, 3, 4), (), (2, 3, 4)),
        ((2, 3, 4), (1,), (2, 1, 4)),
        ((2, 3, 4), (-1, 0), (1, 3, 1)),
        ((2, 3, 4), [0, 1, 2], (1, 1, 1)),
        ((), (), ()),
        ((0, 3), (0,), (1, 3)),
    ],
)
def test_shared_shape(shape, dims, expected):
    assert _checks.shared_shape(shape, dims) == expected


@pytest.mark.parametrize("dims", [(3,), (-4,), (0, 7)])
def test_axes_out_of_range_are_refused(dims):
    with pytest.raises(ValueError, match=rf"broadcast_dims has axis {dims[-1]}.*axes -3 to 2"):
        _checks.shared_shape((2, 3, 4), dims)


@pytest.mark.parametrize("dims", [(1, 1), (0, -3), (2, 0, -1)])
def test_repeated_axes_are_refused(dims):
    with pytest.raises(ValueError, match="names an axis twice; write each axis once"):
        _checks.shared_shape((2, 3, 4), dims)
