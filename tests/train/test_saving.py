"""Models saved and loaded: their mode, models without weights yet, pickling, spread arrays.

What would make this wrong: a model that computes something else after `load` than before `save`, in
this process, in another, on other devices; an error in another's words.
"""

import logging
import pickle
import pwd

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import dropout_jax as dj
from dropout_jax import layers, rates
from dropout_jax.train.checkpoint import CheckpointError

X = jnp.linspace(-1, 1, 24).reshape(4, 6)


class Net(nnx.Module):
    """With both of Flax's switches, one of a user's own, and one that is no mode."""

    def __init__(self, seed, decode=False):
        rngs = nnx.Rngs(seed)
        self.linear = nnx.Linear(6, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, rngs=rngs)
        self.layers = nnx.List([dj.layers.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)])
        self.training = True
        self.decode = decode

    def __call__(self, x):
        x = self.norm(self.linear(x))
        for layer in self.layers:
            x = layer(x)
        return x * (2 if self.training else 1)


def switches(model):
    return [model.training, model.norm.use_running_average,
            *(layer.deterministic for layer in model.layers)]  # fmt: skip


@pytest.mark.parametrize("mode", ["train", "eval", "mixed"])
def test_the_mode_is_saved_with_the_model(mode, tmp_path):
    model, other = Net(0), Net(1, decode=True)
    if mode != "train":
        model.eval()
        model.training = False
        other.train()
    else:
        other.eval()
    if mode == "mixed":
        model.layers[0].deterministic = False
    dj.save(tmp_path, model)
    dj.load(tmp_path, other)
    assert switches(other) == switches(model)
    assert other.decode  # what is no mode stays as the model was made
    np.testing.assert_array_equal(other(X), model(X))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Net(0),
        lambda: dj.layers.MLP((6, 4, 2), rates=rates.early(0.5, 9), rngs=nnx.Rngs(0)),
        lambda: nnx.Sequential(dj.layers.Dropout(0.5), jnp.tanh),  # neither stream nor state
        lambda: dj.layers.Dropout(jnp.float32(0.5), rngs=nnx.Rngs(0, dropout=1)),
    ],
    ids=["net", "scheduled", "no stream", "array rate"],
)
def test_a_model_without_weights_yet_is_filled(make, tmp_path):
    model, abstract = make(), nnx.eval_shape(make)
    dj.save(tmp_path, model)
    dj.load(tmp_path, abstract)
    kept = jax.tree.map(lambda leaf: leaf, nnx.state(abstract))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(kept))
    if jax.tree.leaves(nnx.state(model, nnx.RngState)):
        np.testing.assert_array_equal(abstract(X), model(X))


def test_a_weak_type_comes_back(tmp_path):
    """It decides the type of a sum with bfloat16."""

    class Scale(nnx.Module):
        def __init__(self):
            self.scale = nnx.Param(jnp.full(3, 1e-1))

    model, others = Scale(), [Scale(), nnx.eval_shape(Scale)]
    dj.save(tmp_path, model)
    for other in others:
        dj.load(tmp_path, other)
        assert other.scale[...].weak_type and model.scale[...].weak_type
        np.testing.assert_array_equal(other.scale[...], model.scale[...])


def test_another_model_is_named_by_its_arrays_and_nothing_is_to_be_deleted(tmp_path):
    dj.save(tmp_path, nnx.Linear(6, 5, rngs=nnx.Rngs(0)))
    with pytest.raises(CheckpointError) as error:
        dj.load(tmp_path, nnx.Linear(6, 4, rngs=nnx.Rngs(0)))
    assert "kernel is float32 (6, 5) there and float32 (6, 4) here" in str(error.value)
    assert "delete" not in str(error.value)


def test_numpy_reads_what_is_saved(tmp_path):
    model = dj.layers.MLP((6, 4, 2), rates=0.5, rngs=nnx.Rngs(0))
    dj.save(tmp_path, model)
    with np.load(tmp_path / "checkpoint-0.npz") as arrays:
        np.testing.assert_array_equal(arrays["linears/1/kernel"], model.linears[1].kernel[...])


# --- arrays that are spread over devices


def spread(model, devices, spec):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]).reshape(-1, 1), ("a", "b"))
    kernel = model.kernel[...]
    model.kernel[...] = jax.device_put(kernel, NamedSharding(mesh, spec))
    return model


@pytest.mark.parametrize("there, here", [(8, 1), (1, 8), (8, 2), (4, 8), (2, 4)])
@pytest.mark.parametrize("spec", [P("a"), P(None, "a"), P("b", "a"), P()], ids=str)
def test_any_number_of_devices_reads_what_another_wrote(there, here, spec, tmp_path):
    model, other = (
        spread(nnx.Linear(16, 8, rngs=nnx.Rngs(seed)), devices, spec)
        for seed, devices in ((0, there), (1, here))
    )
    sharding = other.kernel[...].sharding
    dj.save(tmp_path, model)
    dj.load(tmp_path, other)
    assert other.kernel[...].sharding == sharding
    np.testing.assert_array_equal(np.asarray(other.kernel[...]), np.asarray(model.kernel[...]))


def test_of_a_spread_array_each_piece_is_written_once(tmp_path):
    model = spread(nnx.Linear(64, 64, rngs=nnx.Rngs(0)), 4, P("b", "a"))
    dj.save(tmp_path, model)
    with np.load(tmp_path / "checkpoint-0.npz") as arrays:
        pieces = [arrays[name] for name in arrays.files if name.startswith("kernel[")]
    assert [piece.shape for piece in pieces] == [(64, 16)] * 4


# --- the process around it


def test_saving_leaves_the_loggers_as_they_are(tmp_path):
    def levels():
        names = [None, *logging.root.manager.loggerDict]
        return {name: logging.getLogger(name).level for name in names}

    before, model = levels(), Net(0)
    dj.save(tmp_path, model)
    dj.load(tmp_path, model)
    assert {name: level for name, level in levels().items() if name in before} == before


def test_an_unknown_user_without_a_home_saves_and_loads(tmp_path, monkeypatch):
    def unknown(user):
        raise KeyError(f"getpwuid(): uid not found: {user}")

    model = Net(0)
    for name in ("HOME", "USER", "LOGNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    dj.save(tmp_path, model)
    dj.load(tmp_path, model)
    with pytest.raises(CheckpointError, match="~/model begins with ~, and this user has no home"):
        dj.save("~/model", model)


MODELS = {
    "net": lambda: Net(0),
    "MLP": lambda: layers.MLP((6, 4, 2), rates=0.5, rngs=nnx.Rngs(0)),
    "scheduled": lambda: layers.MLP((6, 4, 2), rates=rates.early(0.5, 9), rngs=nnx.Rngs(0)),
    "tanh": lambda: layers.MLP((6, 4, 2), rates=0.5, activation=jnp.tanh, rngs=nnx.Rngs(0)),
    "concrete": lambda: layers.ConcreteDropout(
        nnx.Linear(6, 2, rngs=nnx.Rngs(0)), length_scale=1.0, rngs=nnx.Rngs(0)
    ),
    "variational": lambda: layers.VariationalDropout(6, rngs=nnx.Rngs(0)),
    "sparse": lambda: layers.SparseLinear(6, 2, rngs=nnx.Rngs(0)),
    "connect": lambda: layers.DropConnectLinear(6, 2, rate=0.5, rngs=nnx.Rngs(0)),
    "path": lambda: layers.DropPath(0.5, rngs=nnx.Rngs(0)),
    "gaussian": lambda: layers.GaussianNoise(0.5, rngs=nnx.Rngs(0)),
    "alpha": lambda: layers.AlphaDropout(0.5, rngs=nnx.Rngs(0)),
    "array rate": lambda: layers.Dropout(jnp.float32(0.5), rngs=nnx.Rngs(0)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_models_pickle(kind):
    model = MODELS[kind]()
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(other(X), model(X))
    assert nnx.graphdef(other) == nnx.graphdef(model)


def test_a_history_pickles():
    history = dj.History(np.array([1, 2]), {"loss": np.array([0.7, 0.4])}, np.array([1.0, 1.0]))
    other = pickle.loads(pickle.dumps(history))
    np.testing.assert_array_equal(other["loss"], history["loss"])
