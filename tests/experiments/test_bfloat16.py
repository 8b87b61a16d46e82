"""Products in bfloat16. What would make this wrong: sums that are bfloat16 too, a gradient of
another product, a layer that quietly keeps multiplying in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.nets import bfloat16, mlp
from experiments.nets.config import Config

DIMENSIONS = (((1,), (0,)), ((), ()))


def arrays(batch, n, m):
    keys = jax.random.split(jax.random.key(batch), 3)
    return tuple(map(jax.random.normal, keys, ((batch, n), (n, m), (batch, m))))


def rounded(a):
    return np.asarray(jnp.asarray(a).astype(jnp.bfloat16), np.float64)


@pytest.mark.parametrize("batch", [1, 32, 100])
def test_products_and_their_gradients_are_float32_s_but_for_the_rounding_of_factors(batch):
    x, w, g = map(np.asarray, arrays(batch, 48, 20))

    def product(x, w):
        return bfloat16.dot_general(x, w, DIMENSIONS)

    y, pullback = jax.vjp(product, x, w)
    dx, dw = pullback(g)
    for found, a, b in ((y, x, w), (dx, g, w.T), (dw, x.T, g)):
        assert found.dtype == jnp.float32
        a, b = rounded(a), rounded(b)  # products of these are exact in float32, and sums are not
        bound = len(b) * 2**-23 * (np.abs(a) @ np.abs(b))
        assert np.all(np.abs(found - a @ b) <= bound)
    assert np.abs(y - x @ w).max() > 1e-4  # and it is not float32's


def test_a_run_of_seeds_and_leading_axes_multiply_alike():
    x, w, _ = arrays(12, 8, 5)
    y = bfloat16.dot_general(x, w, DIMENSIONS)
    order = 2 * len(w) * 2**-24 * np.max(np.abs(x) @ np.abs(w))  # of the sums: may differ
    deep = bfloat16.dot_general(x.reshape(3, 4, 8), w, (((2,), (0,)), ((), ())))
    np.testing.assert_allclose(deep.reshape(12, 5), y, rtol=0, atol=order)

    def gradient(x, w):
        return jax.grad(lambda w: jnp.sum(bfloat16.dot_general(x, w, DIMENSIONS) ** 2))(w)

    two = jax.vmap(gradient)(jnp.stack([x, 2 * x]), jnp.stack([w, w]))
    assert np.abs(two[0]).min() > 1e-3  # of what rounding 2 x y to 8 bits leaves
    np.testing.assert_allclose(two[0], gradient(x, w), rtol=1e-5)
    np.testing.assert_allclose(two[1], 4 * two[0], rtol=1e-5)  # a power of two: nothing is lost


def test_another_product_is_refused():
    x, w, _ = arrays(4, 8, 5)
    with pytest.raises(ValueError, match=r"\(\.\.\., n\)"):
        bfloat16.dot_general(x, w.T, (((1,), (1,)), ((), ())))


def test_every_layer_of_a_network_has_them():
    def network(products):
        config = Config(hidden=(16,), products=products)
        return mlp.network(config, 8, nnx.Rngs(0))

    x = jnp.ones((4, 8))
    plain, rounded = network("float32"), network("bfloat16")
    text = str(jax.make_jaxpr(lambda x: rounded(x, deterministic=True))(x))
    assert text.count("bf16[8,16]") and text.count("bf16[16,10]")
    assert "bf16" not in str(jax.make_jaxpr(lambda x: plain(x, deterministic=True))(x))
