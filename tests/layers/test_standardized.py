"""Standardisation as a part of the model, undone in its predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from sklearn.preprocessing import StandardScaler

import dropout_jax as dj
from dropout_jax.layers import Standardized, standardized_loss

RNG = np.random.default_rng(0)
X = RNG.normal(1e4, [1, 20, 300], size=(64, 3))
Y = RNG.normal(-500, 40, size=64)


def mlp(outputs=1):
    return dj.layers.MLP((3, 8, outputs), rates=0.0, rngs=nnx.Rngs(0))


def mse(model, x, y):
    return jnp.mean((model(x) - y) ** 2)


def test_it_is_the_scaler_of_scikit_learn_around_the_model():
    model, inner = Standardized(mlp(), X, Y), mlp()
    x = StandardScaler().fit(X)
    np.testing.assert_allclose(model.scale_x(jnp.float32(X)), x.transform(X), atol=2e-3)
    expected = np.mean(Y) + np.std(Y) * inner(model.scale_x(jnp.float32(X)))
    np.testing.assert_allclose(model(jnp.float32(X)), expected, rtol=1e-5)


def test_a_learned_variance_is_in_the_units_of_the_targets():
    model, x = Standardized(mlp(2), X, Y), jnp.float32(X)
    mean, log_variance = jnp.split(mlp(2)(model.scale_x(x)), 2, -1)
    found = model(x)
    np.testing.assert_allclose(found[:, 0], np.mean(Y) + np.std(Y) * mean[:, 0], rtol=1e-5)
    variance = np.var(Y) * np.exp(log_variance[:, 0])
    np.testing.assert_allclose(np.exp(found[:, 1]), variance, rtol=1e-4)


def test_the_units_of_the_data_do_not_change_the_training():
    """In other units of x and y the predictions are the same, but for float32 at an offset."""

    raw_x, raw_y = RNG.normal(size=(64, 3)), RNG.normal(size=64)

    def trained(scale):
        x, y = jnp.float32(scale * raw_x), jnp.float32(scale * raw_y)
        model = Standardized(mlp(), x, y)
        dj.fit(model, optax.adam(1e-2), x, y, key=jax.random.key(0), epochs=3, batch_size=16,
               loss=standardized_loss(mse), metrics={}, progress=False)  # fmt: skip
        return model(x) / scale

    np.testing.assert_allclose(trained(1.0), trained(1024.0), rtol=1e-4, atol=1e-5)


def test_only_the_model_is_trained():
    model = Standardized(mlp(), X, Y)
    assert len(jax.tree.leaves(nnx.state(model, nnx.Param))) == 4


def test_inside_jit_and_vmap():
    def made(x, y):
        return Standardized(mlp(), x, y)(x)

    x, y = jnp.float32(X)[None], jnp.float32(Y)[None]
    found = jax.jit(jax.vmap(made))(x, y)[0]
    np.testing.assert_allclose(found, made(X, Y), rtol=1e-3)


BAD = {
    "NaN": (X, np.where(Y == Y[0], np.nan, Y), "y holds 1 values that are NaN"),
    "a constant column": (np.where([True, False, True], X, 7), Y, "x is the same.*column 1"),
    "constant targets": (X, np.ones(64), "y is the same in every example in column 0"),
    "no example": (X[:0], Y[:0], r"x has shape \(0, 3\)"),
    "one dimension": (Y, Y, r"x has shape \(64,\); write \(examples, columns\)"),
}


@pytest.mark.parametrize(("x", "y", "message"), BAD.values(), ids=BAD)
def test_bad_data(x, y, message):
    with pytest.raises(ValueError, match=message):
        Standardized(mlp(), x, y)


def test_bad_models():
    with pytest.raises(TypeError, match="model is int"):
        Standardized(3, X, Y)
    with pytest.raises(ValueError, match=r"\(64, 3\).*give it 1 outputs, the means, or 2"):
        Standardized(mlp(3), X, Y)(jnp.float32(X))
    with pytest.raises(TypeError, match=r"write dj\.layers\.Standardized"):
        standardized_loss(mse)(mlp(), X, Y)


def test_the_inner_loss_by_name_and_with_weights():
    x, y = jnp.float32(X), jnp.float32(Y)
    model, weights = Standardized(mlp(), X, Y), jnp.arange(64.0)
    by_name, by_function = standardized_loss("mse"), standardized_loss(dj.losses.mse)
    assert by_name(model, x, y) == by_function(model, x, y)
    inner = dj.losses.mse(model.model, model.scale_x(x), model.scale_y(y), weights)
    assert by_name(model, x, y, weights) == by_name(model, x, y, weights=weights) == inner
    with pytest.raises(ValueError, match="no loss 'msle'; write one of cross_entropy, mse"):
        standardized_loss("msle")
