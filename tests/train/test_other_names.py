"""Calls in the way of other libraries: one error that says what to write here.

What would make this wrong: an argument that is ignored without a word, Python's words for one that
is missing, an entry for a name that a function has, an example that doctest no longer finds.
"""

import doctest
import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import dropout_jax as dj
from dropout_jax._advice import advised
from dropout_jax.predict import other_names as of_predictions
from dropout_jax.train import other_names

KEY = jax.random.key(0)
X, Y = jnp.eye(8), jnp.arange(8) % 2


def model(outputs=2):
    return dj.layers.MLP((8, 4, outputs), rates=0.5, rngs=nnx.Rngs(0))


def fit(**options):
    data = {"x": X, "y": Y} | {name: options.pop(name) for name in ("x", "y") if name in options}
    given = {"key": KEY, "epochs": 1, "progress": False} | data | options
    return dj.fit(model(), optax.adam(1e-3), **given)


def test_inputs_by_name_as_in_keras():
    assert fit(batch_size=4)["loss"].shape == (1,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"verbose": 0}, r"fit: got an unexpected keyword argument 'verbose'; .*progress=False"),
        ({"callbacks": []}, "callbacks: write on_epoch=f"),
        ({"shuffle": False}, "shuffle: arrays are shuffled in each epoch, by the key"),
        ({"initial_epoch": 3}, "initial_epoch: write checkpoint_dir="),
        ({"validation_freq": 2}, r"validation_freq: .*dj\.train\.run\(..., evaluate_every=5\)"),
        ({"lr": 0.1, "seed": 0}, r"lr: .*optax\.adam\(1e-3\); seed: write key=jax.random.key\(0\)"),
        ({"sample_weights": None}, r"'sample_weights'; write dj.fit\(model, optimizer, x, y, key="),
    ],
)
def test_arguments_of_keras_say_what_to_write(options, words):
    with pytest.raises(TypeError, match=words):
        fit(**options)


def call_without(name):
    given = {"key": KEY, "epochs": 1}
    return dj.fit(model(), optax.adam(1e-3), X, Y, **{k: v for k, v in given.items() if k != name})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: call_without("key"), r"'key'; write dj.fit\(.*, key=jax.random.key\(0\), ep"),
        (lambda: call_without("epochs"), r"'epochs'; write dj.fit\("),
        (lambda: dj.fit(model(), X, Y, optimizer=optax.adam(1e-3), key=KEY, epochs=1),
         r"multiple values for argument 'optimizer'; write dj.fit\(model, optimizer, x, y"),
        (lambda: dj.evaluate(model(), X, Y, batch_size=4), "batch_size: it takes a few thousand"),
        (lambda: dj.load("somewhere"), r"'model'; write dj.load\(folder, model\)"),
        (lambda: dj.mc_predict(KEY, model(), X), r"'samples'; write dj.mc_predict\(.*s=100\)"),
        (lambda: dj.mc_predict(model(), X, samples=9), r"'x'; write dj.mc_predict\(key, model, x"),
        (lambda: dj.mc_predict(key=KEY, model=model(), x=X), r"'samples'; write dj.mc_predict"),
        (lambda: dj.mc_predict(KEY, model(), X, n_samples=9), "n_samples: write samples=100"),
        (lambda: dj.predict.mc_samples(KEY, model(), X), "'samples'; write dj.predict.mc_samples"),
        (lambda: dj.geometric_mean_predict(KEY, model(), X), "'samples'; write dj.geometric_mean"),
        (lambda: dj.mc_regress(KEY, model(1), X), "'samples'; write dj.mc_regress"),
        (lambda: dj.mc_classify(KEY, model(), X), "'samples'; write dj.mc_classify"),
        (lambda: dj.mc_quantiles(KEY, model(1), X), "'samples'; write dj.mc_quantiles"),
        (lambda: dj.mc_log_likelihood(KEY, model(1), X, samples=3), "'y'; write dj.mc_log_likeli"),
        (lambda: dj.predict_scaled(model(), X, samples=3), "samples: .* dj.mc_predict draws"),
    ],
)  # fmt: skip
def test_a_missing_argument_says_the_whole_call(call, words):
    with pytest.raises(TypeError, match=words):
        call()


@pytest.mark.parametrize(
    ("function", "names"),
    [(dj.fit, other_names.FIT), (dj.evaluate, other_names.EVALUATE),
     (dj.predict_scaled, of_predictions.SCALED), (dj.mc_predict, of_predictions.MC)],
)  # fmt: skip
def test_no_entry_is_of_an_argument_that_there_is(function, names):
    assert not names.keys() & inspect.signature(function).parameters.keys()


def test_examples_and_signatures_are_found_as_before():
    for function in (dj.fit, dj.mc_predict):
        found = doctest.DocTestFinder().find(importlib.import_module(function.__module__))
        assert function.__name__ in [test.name.split(".")[-1] for test in found]
    assert list(inspect.signature(dj.load).parameters) == ["folder", "model"]


def test_an_error_of_the_function_itself_passes():
    @advised("f(x)")
    def f(x):
        raise TypeError("of its own")

    with pytest.raises(TypeError, match="^of its own$"):
        f(1)


# --- arguments that would be ignored


def batches():
    return [(np.asarray(X), np.asarray(Y))]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 4}, "batch_size is for x and y that are arrays, .* a size of their own"),
        ({"sample_weight": np.ones(8)}, "sample_weight is for x and y that are arrays"),
        ({"class_weight": {0: 1.0, 1: 2.0}}, "class_weight is for x and y that are arrays"),
    ],
)
def test_what_batches_have_of_their_own_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        fit(x=batches(), y=None, **options)


def test_steps_of_arrays_are_refused():
    with pytest.raises(ValueError, match="steps_per_epoch is for batches.*write batch_size="):
        fit(steps_per_epoch=2)


@pytest.mark.parametrize("metrics", [["accuracy"], {"mine": lambda model, x, y: model(x).mean()}])
def test_metrics_of_no_validation_data_are_refused_and_what_the_error_says_works(metrics):
    with pytest.raises(ValueError, match=r"there are none: .* validation_data={'train': \(x, y\)}"):
        fit(metrics=metrics, batch_size=4)
    history = fit(metrics=metrics, batch_size=4, validation_data={"train": (X, Y)})
    assert len(history) == 2


# --- folders


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    dj.save(tmp_path / "model", model())
    file = next((tmp_path / "model").glob("*.npz"))
    for call in (lambda: dj.load(file, model()), lambda: dj.save(file, model())):
        with pytest.raises(dj.CheckpointError, match=f"is a file; write a folder, .*{file.parent}"):
            call()
    (tmp_path / "other.npz").write_bytes(b"not ours")
    with pytest.raises(dj.CheckpointError, match="no model is saved in"):
        dj.load(tmp_path, model())


def test_the_folder_comes_first():
    for call in (dj.save, dj.load):
        with pytest.raises(TypeError, match=r"write the folder first: dj.save\(folder, model\)"):
            call(model(), "somewhere")


def test_errors_are_called_what_users_import():
    for error in (dj.CheckpointError, dj.NonFiniteLossError, dj.data.DataError,
                  dj.train.SilentNoiseWarning):  # fmt: skip
        place = importlib.import_module(error.__module__)
        assert place in (dj, dj.data, dj.train) and getattr(place, error.__name__) is error


# --- a softmax over one class


@pytest.mark.parametrize(
    "call",
    [
        lambda net, y: dj.fit(net, optax.sgd(0.1), X, y, key=KEY, epochs=1, batch_size=4),
        lambda net, y: dj.evaluate(net, X, y),
        lambda net, y: dj.evaluate(net, X, y, metrics=["error"]),
        lambda net, y: dj.losses.cross_entropy(net, X, y),
        lambda net, y: dj.train.error_rate(net, X, y),
        lambda net, y: dj.losses.r_drop()(net, X, y),
        lambda net, y: dj.losses.multi_sample(
            2, features=lambda net, x: x, head=lambda net, h: net(h)
        )(net, X, y),
    ],
)
@pytest.mark.parametrize("labels", [jnp.zeros(8, int), Y], ids=["all 0", "two classes"])
def test_one_output_and_a_softmax_say_what_to_write(call, labels):
    with pytest.raises(ValueError, match=r"one output, .* loss='bce', metrics=\['accuracy'\]"):
        call(model(1), labels)


def test_what_the_error_says_to_write_works():
    options = {"key": KEY, "epochs": 1, "batch_size": 4, "progress": False}
    history = dj.fit(model(1), optax.sgd(0.1), X, Y, loss="bce", metrics=["accuracy"],
                     validation_data=(X, Y), **options)  # fmt: skip
    assert history["loss"][0] > 0.1
