"""The GPU's kernel, in interpret mode. What would make this wrong: another mask than XLA's, a word
read at the wrong element, a rounding twice, a gradient with another mask, a case it cannot do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

import dropout_jax as dj
from dropout_jax import kernel

pytestmark = pytest.mark.skipif(
    kernel.triton is None, reason="with this version of JAX dj.kernel is XLA's dropout"
)
KEY = jax.random.key(7)


def numbers(shape, dtype=jnp.float32, seed=0):
    return jax.random.normal(jax.random.key(seed), shape).astype(dtype)


def interpreted(key, x, rate):
    return kernel.values(key, x, rate, True)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("rate", [0.5, 0.1, 0.2, 1 / 3, 1e-4, 0.9, 0.9999])
def test_values_and_words_are_those_of_xla(rate, dtype):
    x = numbers((3, 4, 1024), dtype).at[0, 0, :9].set(jnp.nan)
    y, words = kernel.values_and_words(KEY, x, rate, True)
    expected = dj.dropout(KEY, x, rate)
    assert y.dtype == dtype and y.shape == x.shape
    np.testing.assert_array_equal(y.astype(jnp.float32), expected.astype(jnp.float32))
    np.testing.assert_array_equal(words, dj.packed_mask(KEY, rate, x.shape).words)


@pytest.mark.parametrize("shape", [(4096,), (128, 32), (2, 96, 64), (8192, 1, 32), (64, 128)])
def test_the_shape_is_only_how_the_words_are_counted(shape):
    x = numbers(shape)
    np.testing.assert_array_equal(interpreted(KEY, x, 0.2), dj.dropout(KEY, x, 0.2))


def test_gradients_of_every_order_have_the_same_mask():
    x, v, w = (numbers((4, 1024), seed=seed) for seed in range(3))

    def of(drop):
        def f(x):
            return jnp.sum(w * drop(KEY, x**3, 0.25) ** 2)

        def along(x):
            return jax.jvp(f, (x,), (v,))[1]

        return [jax.grad(f)(x), along(x), jax.grad(along)(x), jax.grad(jax.checkpoint(f))(x)]

    for found, expected in zip(of(interpreted), of(dj.dropout), strict=True):
        assert jnp.any(expected != 0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_vmap_over_keys_and_arrays_is_the_loop():
    keys, x = jax.random.split(KEY, 3), numbers((3, 4, 1024))
    for axes in ((0, 0), (0, None), (None, 0)):
        args = tuple(a if axis == 0 else a[0] for a, axis in zip((keys, x), axes, strict=True))
        found = jax.vmap(lambda k, x: interpreted(k, x, 0.1), axes)(*args)
        for i in range(3):
            one = (a[i] if axis == 0 else a for a, axis in zip(args, axes, strict=True))
            np.testing.assert_array_equal(found[i], dj.dropout(*one, 0.1))
    slopes = jax.vmap(jax.grad(lambda x, k: jnp.sum(interpreted(k, x, 0.1))))(x, keys)
    expected = jax.vmap(jax.grad(lambda x, k: jnp.sum(dj.dropout(k, x, 0.1))))(x, keys)
    np.testing.assert_array_equal(slopes, expected)


def test_one_bit_an_element_is_kept_for_the_backward_pass():
    x = numbers((8, 1024))
    _, pullback = jax.vjp(lambda x: interpreted(KEY, x, 0.1), x)
    kept = [leaf.nbytes for leaf in jax.tree.leaves(pullback) if leaf.size > 1]
    assert kept == [x.size // 8]


@pytest.mark.parametrize(
    ("key", "shape", "dtype", "rate"),
    [
        (KEY, (4, 1024), jnp.float32, jnp.float32(0.1)),
        (KEY, (4, 1024), jnp.float32, 0),
        (KEY, (4, 1024), jnp.float32, 1.0),
        (KEY, (4, 1024), jnp.float32, 1e-50),
        (KEY, (4, 1024), jnp.float32, 1 - 1e-12),
        (jax.random.key(7, impl="rbg"), (4, 1024), jnp.float32, 0.1),
        (jax.random.PRNGKey(0), (4, 1024), jnp.float32, 0.1),
        (KEY, (4, 1023), jnp.float32, 0.1),
        (KEY, (128, 4, 8), jnp.float32, 0.1),
        (KEY, (0, 1024), jnp.float32, 0.1),
        (KEY, (), jnp.float32, 0.1),
        (KEY, (4, 1024), jnp.float8_e5m2, 0.1),
    ],
)
def test_what_it_cannot_do_is_done_by_xla(key, shape, dtype, rate):
    x = numbers(shape, dtype)
    assert kernel.fits(KEY, numbers((4, 1024)), 0.1) and not kernel.fits(key, x, rate)
    found, expected = (f(key, x, rate) for f in (kernel.dropout, dj.dropout))
    np.testing.assert_array_equal(found.astype(jnp.float32), expected.astype(jnp.float32))


@pytest.mark.parametrize(
    ("key", "x", "rate", "message"),
    [
        (None, jnp.ones((4, 1024)), 0.1, "no key was given"),
        (KEY, jnp.ones((4, 1024), jnp.int32), 0.1, "floating-point"),
        (KEY, jnp.ones((4, 1024)), 1.5, "between 0 and 1"),
    ],
)
def test_bad_inputs_are_refused_in_the_words_of_dropout(key, x, rate, message):
    with pytest.raises((TypeError, ValueError), match=message):
        kernel.dropout(key, x, rate)


def test_a_cpu_gets_xla_s_program_and_an_nvidia_gpu_the_kernel(monkeypatch):
    x, other = numbers((4, 3072)), numbers((8, 3072))  # shapes of no other test: new programs
    np.testing.assert_array_equal(kernel.dropout(KEY, other, 0.1), dj.dropout(KEY, other, 0.1))
    expected = dj.dropout(KEY, x, 0.1)

    def on_a_gpu(*args, cuda, default):
        return cuda(*args)

    drawn = []
    draw = functools.partial(kernel.values, interpret=True)
    monkeypatch.setattr(kernel.lax, "platform_dependent", on_a_gpu)
    monkeypatch.setattr(kernel, "values", lambda *args: drawn.append(args) or draw(*args))
    np.testing.assert_array_equal(kernel.dropout(KEY, x, 0.1), expected)
    assert len(drawn) == 1


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")  # JAX 0.11
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_for_an_nvidia_gpu_all_of_the_forward_pass_is_one_kernel_of_triton(dtype):
    x, keys = numbers((3, 4, 1024), dtype), jax.random.split(KEY, 3)
    gpu = AbstractDevice(device_kind="NVIDIA H200", num_cores=132, platform="gpu")
    mesh = AbstractMesh((1,), ("d",), abstract_device=gpu)

    def counts(f, *args):
        with jax.sharding.use_abstract_mesh(mesh):
            program = jax.jit(f).trace(*args).lower(lowering_platforms=("cuda",)).as_text()
        return program.count("gpu.triton"), program.count("stablehlo.xor") > 0

    def drop(x, key):
        return kernel.dropout(key, x, 0.1)

    slope = jax.grad(lambda x, key: jnp.sum(drop(x, key)))
    for f, args in ((drop, (x, KEY)), (slope, (x, KEY)), (jax.vmap(drop), (x, keys))):
        assert counts(f, *args) == (1, False)
    assert counts(lambda x, key: dj.dropout(key, x, 0.1), x, KEY) == (0, True)


def test_a_program_of_unknown_batch_size_is_exported_with_xla_s():
    (rows,) = jax.export.symbolic_shape("rows")
    unknown = jax.ShapeDtypeStruct((rows, 4096), jnp.float32)
    exported = jax.export.export(jax.jit(lambda x: kernel.dropout(KEY, x, 0.1)))(unknown)
    x = numbers((4, 4096))
    np.testing.assert_array_equal(exported.call(x), dj.dropout(KEY, x, 0.1))


def test_without_the_triton_backend_xla_takes_over(monkeypatch):
    monkeypatch.setattr(kernel, "triton", None)
    x = numbers((4, 1024))
    assert not kernel.fits(KEY, x, 0.1)
    np.testing.assert_array_equal(kernel.dropout(KEY, x, 0.1), dj.dropout(KEY, x, 0.1))


@pytest.mark.parametrize("split", ["x", "key", "both"])
def test_inside_shard_map_each_device_draws_for_its_own_part(split):
    devices = jax.devices("cpu")[:2]
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,), devices=devices)
    keys, x = jax.random.split(KEY, 2), numbers((8, 1024))
    specs = (P("d") if split != "x" else P(), P("d") if split != "key" else P())

    def on(drop):
        def local(keys, x):
            return jax.value_and_grad(lambda x: jnp.sum(drop(keys[0], x, 0.1) ** 2))(x)[1]

        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P("d"))(keys, x)

    np.testing.assert_array_equal(on(kernel.dropout), on(dj.dropout))
