"""fit on meshes with explicit axes: the losses of one device, however data and model are divided.

What would make this wrong: an error in JAX's words; another run than without a mesh; parameters
that come back divided in another way.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import dropout_jax as dj

X, Y = jax.random.normal(jax.random.key(7), (72, 8)), jnp.arange(72) % 2
COLUMNS = (P(None, "model"), P("model")), (P("model", None), P(None))
"""Tensor parallel: the first layer by its columns, the second by its rows."""

CASES = {
    "one device": ((1, 1), P("data", None), None),
    "features": ((1, 8), P(None, "model"), None),
    "both": ((4, 2), P("data", "model"), None),
    "tensor parallel": ((4, 2), P("data", None), COLUMNS),
}


def mlp():
    return dj.layers.MLP((8, 16, 2), rates=0.5, rngs=nnx.Rngs(0))


def losses(model, x, y):
    history = dj.fit(
        model, optax.sgd(0.1, momentum=0.9), x, y, key=jax.random.key(0), epochs=2, batch_size=16,
        progress=False, validation_data=(x, y),
    )  # fmt: skip
    return [*history["loss"], *history["val_loss"], *dj.evaluate(model, x, y).values()]


@functools.cache
def on_one_device():
    return losses(mlp(), X, Y)


def explicit_mesh(shape):
    devices = jax.devices()[: shape[0] * shape[1]]
    return jax.make_mesh(
        shape, ("data", "model"), axis_types=(AxisType.Explicit,) * 2, devices=devices
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_fit_on_explicit_axes_is_fit(name):
    shape, spec, by_layer = CASES[name]
    mesh, model = explicit_mesh(shape), mlp()
    for linear, specs in zip(model.linears, by_layer or (), strict=False):
        for variable, part in zip((linear.kernel, linear.bias), specs, strict=True):
            variable.set_value(jax.device_put(variable[...], NamedSharding(mesh, part)))
    x = jax.device_put(X, NamedSharding(mesh, spec))
    y = jax.device_put(Y, NamedSharding(mesh, P(spec[0])))
    # 2 epochs of 4 updates: sums in another order, a few dozen roundings of 2^-24 each.
    np.testing.assert_allclose(losses(model, x, y), on_one_device(), rtol=1e-5)
    if by_layer:
        kernels = [linear.kernel[...].sharding.spec for linear in model.linears]
        assert kernels == [specs[0] for specs in by_layer]


class Ambiguous(nnx.Module):
    """Its second layer sums over what is divided, and does not say where the sum goes."""

    def __init__(self, mesh):
        self.first, self.last = (
            nnx.Linear(8, 8, use_bias=False, rngs=nnx.Rngs(i)) for i in range(2)
        )
        for linear, spec in ((self.first, P(None, "model")), (self.last, P("model", None))):
            kernel = jax.device_put(linear.kernel[...], NamedSharding(mesh, spec))
            linear.kernel.set_value(kernel)

    def __call__(self, x):
        return self.last(self.first(x))


def test_a_layer_that_cannot_tell_how_its_outputs_are_divided():
    mesh = explicit_mesh((4, 2))
    x = jax.device_put(X, NamedSharding(mesh, P("data", None)))
    y = jax.device_put(Y, NamedSharding(mesh, P("data")))
    model = Ambiguous(mesh)
    for call in (lambda: losses(model, x, y), lambda: dj.evaluate(model, x, y)):
        with pytest.raises(ValueError, match=r"Write out_sharding= where the layer is called"):
            call()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["automatic", "explicit"])
def test_the_runs_of_a_sweep_are_divided_among_the_devices(kind):
    """Eight runs, a seed and a rate each, on eight devices: nothing is sent."""
    run = dj.train.make_train(
        lambda rngs, hyper: dj.layers.MLP((8, 16, 2), rates=hyper["rate"], rngs=rngs),
        lambda hyper: optax.adam(hyper["learning_rate"]), epochs=2, batch_size=16,
    )  # fmt: skip
    keys = jax.random.split(jax.random.key(0), 8)
    hyper = {"rate": jnp.linspace(0, 0.7, 8), "learning_rate": jnp.full(8, 0.01)}
    data = {"train": (X, Y), "test": (X[:32], Y[:32])}
    sweep = jax.jit(jax.vmap(run, (0, 0, None)))
    expected = sweep(keys, hyper, data).metrics

    mesh = jax.make_mesh((8,), ("runs",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        keys, hyper = jax.device_put((keys, hyper), P("runs"))
        data = jax.device_put(data, P())
        compiled = sweep.lower(keys, hyper, data).compile()
        found = compiled(keys, hyper, data).metrics
    assert not re.findall(r" (?:all-|collective-|reduce-scatter)", compiled.as_text())
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)
        assert len(found[name].sharding.device_set) == 8
        assert found[name].addressable_shards[0].data.shape == (1, 2)
