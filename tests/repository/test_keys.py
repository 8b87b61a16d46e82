"""Named sites and per-example keys."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import dropout_jax as dj

KEY = jax.random.key(0)


def data(key):
    return np.asarray(jax.random.key_data(key))


def test_a_site_is_its_name_and_not_its_place():
    a = data(dj.site_key(KEY, "hidden1"))
    dj.site_key(KEY, "another")
    np.testing.assert_array_equal(data(dj.site_key(KEY, "hidden1")), a)
    np.testing.assert_array_equal(data(jax.jit(lambda key: dj.site_key(key, "hidden1"))(KEY)), a)


def test_the_hash_is_pinned():
    """The first four bytes of BLAKE2s, little-endian: changing it would change every run."""
    first = int.from_bytes(hashlib.blake2s(b"abc", digest_size=4).digest(), "little")
    expected = data(jax.random.fold_in(KEY, first))
    np.testing.assert_array_equal(data(dj.site_key(KEY, "abc")), expected)


def test_sites_steps_and_keys_differ():
    sites = [f"hidden{i}" for i in range(300)] + ["", "é", "a" * 1000]
    steps = [KEY, *(jax.random.fold_in(KEY, t) for t in range(3)), *jax.random.split(KEY, 3)]
    drawn = {data(dj.site_key(key, site)).tobytes() for key in steps[:4] for site in sites}
    assert len(drawn) == 4 * len(sites)
    assert not drawn & {data(key).tobytes() for key in steps}


def test_sites_map_over_keys():
    keys = jax.random.split(KEY, 5)
    mapped = jax.vmap(lambda key: dj.site_key(key, "x"))(keys)
    np.testing.assert_array_equal(data(mapped), np.stack([data(dj.site_key(k, "x")) for k in keys]))


def test_an_example_has_one_key_wherever_it_stands():
    ids = jnp.array([7, 3, 3, 100_000])
    keys = dj.per_example_keys(KEY, ids)
    assert keys.shape == (4,)
    for i, key in zip(ids, keys, strict=True):
        np.testing.assert_array_equal(data(key), data(jax.random.fold_in(KEY, i)))


@pytest.mark.parametrize("shape", [(0,), (1,), (2, 3), ()])
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.uint32])
def test_shapes_of_ids(shape, dtype):
    ids = np.arange(np.prod(shape, dtype=int), dtype=dtype).reshape(shape)
    assert dj.per_example_keys(KEY, ids).shape == shape
    assert jax.jit(dj.per_example_keys)(KEY, ids).shape == shape


def test_keys_of_many_examples_differ():
    drawn = data(dj.per_example_keys(KEY, jnp.arange(2**16)))
    assert len(np.unique(drawn, axis=0)) == 2**16


def test_other_generators():
    key = jax.random.key(0, impl="rbg")
    assert dj.site_key(key, "x").dtype == dj.per_example_keys(key, jnp.arange(3)).dtype == key.dtype


def test_deriving_keys_is_no_reuse(key_reuse_checked):
    keys = dj.per_example_keys(dj.site_key(jax.random.key(0), "x"), jnp.arange(3))
    dj.site_key(jax.random.key(0), "y")
    jax.random.normal(keys[0], (2,))


@pytest.mark.parametrize("derive", [dj.site_key, dj.per_example_keys])
def test_bad_keys(derive):
    argument = "x" if derive is dj.site_key else jnp.arange(2)
    with pytest.raises(TypeError, match=r"jax\.random\.key\(0\)"):
        derive(None, argument)
    np.testing.assert_array_equal(
        data(derive(jax.random.PRNGKey(0), argument)), data(derive(KEY, argument))
    )
    with pytest.raises(ValueError, match="one is needed"):
        derive(jax.random.split(KEY), argument)


@pytest.mark.parametrize("site", [0.5, None, True, b"x", ("a", 1), jnp.arange(2)])
def test_bad_sites(site):
    with pytest.raises(TypeError, match="write a name"):
        dj.site_key(KEY, site)


@pytest.mark.parametrize("site", [-1, 2**32])
def test_a_number_that_a_key_cannot_hold(site):
    with pytest.raises(ValueError, match="write an integer from 0"):
        dj.site_key(KEY, site)


def test_a_site_may_be_a_number_traced_or_not():
    plain = [data(dj.site_key(KEY, layer)) for layer in range(5)]
    for kind in (np.int64, np.uint8, jnp.int32):
        np.testing.assert_array_equal(data(dj.site_key(KEY, kind(3))), plain[3])
    scanned = jax.lax.scan(
        lambda _, layer: (None, jax.random.key_data(dj.site_key(KEY, layer))), None, jnp.arange(5)
    )[1]
    np.testing.assert_array_equal(scanned, plain)
    names = [data(dj.site_key(KEY, name)) for name in ("", "0", "1", "site", "hidden1")]
    folded = [data(jax.random.fold_in(KEY, layer)) for layer in range(5)]
    assert len(np.unique(np.stack([*plain, *names, *folded]), axis=0)) == 15


@pytest.mark.parametrize("ids", [jnp.arange(3.0), [0.5], jnp.ones(2, bool)])
def test_bad_ids(ids):
    with pytest.raises(TypeError, match="integer indices"):
        dj.per_example_keys(KEY, ids)


@pytest.mark.parametrize("ids", [np.array([5, 5 + 2**32]), [2**32], np.array([-1, 3])])
def test_ids_that_a_key_cannot_hold(ids):
    with pytest.raises(ValueError, match="a key takes 32 bits.*write indices from 0"):
        dj.per_example_keys(KEY, ids)


def test_ids_of_64_bits_are_those_of_32():
    ids = np.array([0, 7, 2**32 - 1])
    keys = data(dj.per_example_keys(KEY, ids))
    np.testing.assert_array_equal(keys, data(dj.per_example_keys(KEY, ids.astype(np.uint32))))
    assert len(np.unique(keys, axis=0)) == 3


@pytest.mark.slow
def test_training_and_prediction_take_legacy_keys():
    x, y = np.eye(8, dtype=np.float32), np.arange(8) % 2

    def run(key):
        model = dj.layers.MLP((8, 6, 2), rates=0.5, rngs=nnx.Rngs(0))
        history = dj.fit(
            model, optax.sgd(0.1), x, y, key=key, epochs=2, batch_size=4, progress=False
        )
        return (
            history["loss"],
            dj.mc_predict(key, model, x, samples=3),
            dj.predict.mc_samples(key, model, x, samples=3),
            dj.geometric_mean_predict(key, model, x, samples=3),
            dj.mc_classify(key, model, x, samples=3).probabilities,
            model(x, rngs=key),
        )

    jax.tree.map(np.testing.assert_array_equal, run(jax.random.PRNGKey(3)), run(jax.random.key(3)))
