"""Outputs of every kind that a model has: one number, pytrees, complex, narrow, in every mode."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dropout_jax as dj
from dropout_jax import predict

KEY = jax.random.key(0)
RULES = {
    "predict_scaled": predict.predict_scaled,
    "mc_samples": functools.partial(predict.mc_samples, KEY, samples=3),
    "mc_predict": functools.partial(predict.mc_predict, KEY, samples=3),
    "geometric_mean_predict": functools.partial(predict.geometric_mean_predict, KEY, samples=3),
}
WITH_OUTPUT = [name for name in RULES if name != "geometric_mean_predict"]


def identity(y):
    return y


class Net(nnx.Module):
    """Dropout and a linear layer, whose outputs go through `after`."""

    def __init__(self, classes=3, after=identity):
        rngs = nnx.Rngs(0)
        self.drop = dj.layers.Dropout(0.5, rngs=rngs)
        self.linear = nnx.Linear(4, classes, rngs=rngs)
        self.after = after

    def __call__(self, x):
        return self.after(self.linear(self.drop(x)))


X = jnp.linspace(-1, 1, 8).reshape(2, 4)


# A softmax of one number is 1, and one over the examples is nonsense


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("after", [identity, lambda y: y[:, 0], lambda y: {"a": y}])
def test_a_single_output_asks_for_output(name, after):
    with pytest.raises(ValueError, match=r"one number an example.*output=lambda y: y"):
        RULES[name](Net(1, after), X)


@pytest.mark.parametrize("name", WITH_OUTPUT)
def test_a_single_output_is_predicted_where_output_says_how(name):
    found = jax.tree.leaves(RULES[name](Net(1), X, output=identity))
    assert all(leaf.shape[-2:] == (2, 1) for leaf in found)


def test_one_example_without_a_batch_axis_has_classes():
    assert predict.predict_scaled(Net(), X[0]).shape == (3,)


def test_moment_predict_of_a_single_output_says_what_to_write():
    model = dj.layers.MLP((4, 5, 1), rates=0.5, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"one output.*moments\.moments"):
        dj.moment_predict(model, X)


# Pytrees


def heads(y):
    return {"a": y, "b": (2 * y, y[..., :2])}


@pytest.mark.parametrize("name", RULES)
def test_each_array_of_a_pytree_is_predicted_as_it_would_be_alone(name):
    together = RULES[name](Net(after=heads), X)
    alone = [
        RULES[name](Net(after=lambda y, i=i: jax.tree.leaves(heads(y))[i]), X) for i in range(3)
    ]
    if name == "mc_predict":
        assert jax.tree.structure(together.mean) == jax.tree.structure(heads(X))
        together = zip(*map(jax.tree.leaves, together), strict=True)
    else:
        assert jax.tree.structure(together) == jax.tree.structure(heads(X))
        together = jax.tree.leaves(together)
    for ours, theirs in zip(together, alone, strict=True):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-6), tuple(ours), tuple(theirs)
        )


def test_output_may_return_a_pytree():
    found = dj.mc_predict(KEY, Net(), X, samples=3, output=heads)
    assert jax.tree.structure(found.stddev) == jax.tree.structure(heads(X))


# Complex numbers, integers


def test_the_deviation_of_complex_outputs_is_that_of_their_distance():
    after = lambda y: y * jnp.complex64(3 + 4j)  # noqa: E731
    samples = np.asarray(RULES["mc_samples"](Net(after=after), X, output=identity))
    mean, stddev = RULES["mc_predict"](Net(after=after), X, output=identity)
    assert stddev.dtype == jnp.float32 and mean.dtype == jnp.complex64
    np.testing.assert_allclose(stddev, samples.std(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean, samples.mean(0), rtol=1e-5, atol=1e-6)


def test_integers_are_averaged_as_numbers():
    classes = dj.mc_predict(KEY, Net(), X, samples=5, output=lambda y: y.argmax(-1))
    assert classes.mean.shape == (2,) and classes.mean.dtype == jnp.float32


# 64-bit mode and strict promotion: the same numbers


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_modes_change_nothing(dtype):
    def run():
        model = nnx.merge(graph, jax.tree.map(lambda w: w.astype(dtype), params), rest)
        outputs = {name: rule(model, x) for name, rule in RULES.items()}
        return jax.tree.map(lambda y: (y.dtype, np.float32(y)), outputs)

    graph, params, rest = nnx.split(Net(), nnx.Param, ...)
    x = X.astype(dtype)
    expected = run()
    with jax.numpy_dtype_promotion("strict"):
        strict = run()
    with jax.enable_x64(True):
        wide = run()
    jax.tree.map(np.testing.assert_array_equal, expected, strict)
    jax.tree.map(np.testing.assert_array_equal, expected, wide)


# Export


def test_a_prediction_can_be_exported():
    model = Net()
    call = jax.jit(lambda x: dj.mc_predict(KEY, model, x, samples=3))
    blob = jax.export.export(call)(jax.ShapeDtypeStruct(X.shape, X.dtype)).serialize()
    found = jax.export.deserialize(blob).call(X)
    assert isinstance(found, predict.Prediction)
    jax.tree.map(np.testing.assert_array_equal, found, call(X))


def test_masks_moments_and_uncertainties_can_be_exported():
    model = dj.layers.MLP((4, 5, 2), rates=0.5, rngs=nnx.Rngs(0))
    calls = [
        lambda x: dj.packed_mask(KEY, 0.5, x.shape),
        lambda x: predict.moments.moments(model, x),
        lambda x: dj.mc_regress(KEY, model, x, samples=2),
        lambda x: dj.mc_classify(KEY, model, x, samples=2),
    ]
    for call in map(jax.jit, calls):
        blob = jax.export.export(call)(jax.ShapeDtypeStruct(X.shape, X.dtype)).serialize()
        found = jax.export.deserialize(blob).call(X)
        assert type(found) is type(call(X))
        jax.tree.map(np.testing.assert_array_equal, found, call(X))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_predict_scaled_in_batches_is_predict_scaled(batch_size):
    model = dj.layers.MLP((4, 8, 3), rates=0.5, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (7, 4))
    found = dj.predict_scaled(model, x, batch_size=batch_size)
    np.testing.assert_allclose(found, dj.predict_scaled(model, x), rtol=1e-5)


def test_predict_scaled_of_a_loader_says_what_to_write():
    model = dj.layers.MLP((4, 8, 3), rates=0.5, rngs=nnx.Rngs(0))
    loader = ((np.ones((2, 4)), np.zeros(2)) for _ in range(2))
    with pytest.raises(TypeError, match="x is generator, a loader of batches; write np.concat"):
        dj.predict_scaled(model, loader)
    with pytest.raises(ValueError, match="batch_size is 0"):
        dj.predict_scaled(model, np.ones((2, 4)), batch_size=0)
