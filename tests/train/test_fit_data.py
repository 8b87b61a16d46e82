"""What `fit` and `evaluate` take as data: pytrees, integers, tables, batches, weights, splits.

What would make this wrong: rows of x and y that part, weights of other examples, batches that are
lost or come twice, a table whose columns are mixed up, an error in the words of JAX.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.sparse
from flax import nnx
from helpers.tables_of_pandas import Column, Frame
from helpers.versions import skip_fit_on_explicit_axes

import dropout_jax as dj

KEY = jax.random.key(0)


def task(n=48):
    x = jax.random.normal(jax.random.key(1), (n, 8))
    return x, jnp.argmax(x[:, :3], axis=-1)


def linear(outputs=3, seed=0):
    return nnx.Linear(8, outputs, rngs=nnx.Rngs(seed))


def fit(model, x, y=None, optimizer=None, **options):
    size = {} if y is None else {"batch_size": 16}
    options = {"key": KEY, "epochs": 2, "progress": False} | size | options
    return dj.fit(model, optimizer or optax.sgd(0.1), x, y, **options)


def weights(model):
    return jax.tree.leaves(nnx.state(model, nnx.Param))


def assert_same_weights(a, b):
    for left, right in zip(weights(a), weights(b), strict=True):
        np.testing.assert_array_equal(left, right)


# --- pytrees, integers, tables


class Two(nnx.Module):
    """Of a dict with the columns in two parts, or of a tuple."""

    def __init__(self):
        self.linear = linear()

    def __call__(self, x):
        parts = (x["a"], x["b"]) if isinstance(x, dict) else x
        return self.linear(jnp.concatenate(parts, axis=-1))


@pytest.mark.parametrize("form", [lambda a, b: {"a": a, "b": b}, lambda a, b: (a, b)])
def test_x_in_parts_trains_as_x_in_one(form):
    x, y = task()
    whole, parts = linear(), Two()
    expected = fit(whole, x, y, validation_data=(x, y))
    given = form(np.asarray(x[:, :3]), x[:, 3:])
    found = fit(parts, given, y, validation_data=(given, y))
    np.testing.assert_allclose(found["val_loss"], expected["val_loss"], rtol=1e-6)
    assert dj.evaluate(parts, given, y)["error"] == dj.evaluate(whole, x, y)["error"]


def test_y_in_parts_goes_to_the_loss():
    x, y = task()

    def both(model, x, y):
        outputs = model(x)
        return jnp.mean((outputs[:, 0] - y["a"]) ** 2) + jnp.mean((outputs[:, 1] - y["b"]) ** 2)

    history = fit(linear(), x, {"a": y * 1.0, "b": -y}, loss=both, epochs=5)
    assert history["loss"][-1] < history["loss"][0]


class Tokens(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.table, self.head = nnx.Embed(10, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, ids):
        return self.head(self.table(ids).mean(1))


class Pixels(nnx.Module):
    def __init__(self):
        self.linear = linear()

    def __call__(self, x):
        return self.linear(x.astype(jnp.float32) / 255)


def test_token_ids_and_bytes_are_trained_on():
    ids = np.random.default_rng(0).integers(0, 10, (64, 5))
    y = (ids[:, 0] > 4).astype(int)
    assert fit(Tokens(), ids, y, epochs=3)["loss"].shape == (3,)
    x, y = task()
    assert fit(Pixels(), np.asarray(x * 50 + 100).astype(np.uint8), y)["loss"].shape == (2,)


def test_true_and_false_are_labels():
    x, y = task()
    first, second = linear(2), linear(2)
    fit(first, x, y > 0), fit(second, x, (y > 0).astype(int))
    assert_same_weights(first, second)


def test_a_table_is_its_columns():
    x, y = task()
    frame = Frame(**{f"c{i}": np.asarray(x[:, i]) for i in range(7)}, flag=np.asarray(x[:, 7]) > 0)
    table, array = (dj.layers.MLP((8, 16, 3), rates=0.5, rngs=nnx.Rngs(0)) for _ in range(2))
    fit(table, frame, y), fit(array, x.at[:, 7].set(x[:, 7] > 0), y)
    assert_same_weights(table, array)
    x = x.at[:, 7].set(x[:, 7] > 0)
    assert dj.evaluate(table, frame, y) == dj.evaluate(array, x, y)
    for predict in (
        dj.predict_scaled,
        lambda model, x: dj.mc_predict(KEY, model, x, samples=2).mean,
        lambda model, x: dj.predict.mc_samples(KEY, model, x, samples=2),
        lambda model, x: dj.geometric_mean_predict(KEY, model, x, samples=2),
    ):
        np.testing.assert_array_equal(predict(table, frame), predict(array, x))


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (None, TypeError, "x is None"),
        (np.array([["a"] * 8] * 48), TypeError, "x holds text"),
        (np.array([["a", 1] * 4] * 48, dtype=object), TypeError, "x holds text"),
        (np.array([[None] * 8] * 48), TypeError, "x holds NoneType"),
        (Frame(a=np.ones(48), city=np.array(["A"] * 48)), TypeError, "column 'city' of x holds"),
        (Frame(a=Column(np.ones(48), "category")), TypeError, r"categories; write .* y.cat.codes"),
        (Frame(a=Column(np.ones(48), "Int64", 3)), ValueError, "'a' of x has 3 missing values"),
        (np.zeros(48, "datetime64[s]"), TypeError, "x holds dates"),
        (scipy.sparse.csr_matrix(np.ones((48, 8))), TypeError, r"write x.toarray\(\)"),
        ([[1.0] * 8] * 47 + [[1.0]], ValueError, "lists of different lengths"),
        ({"a": np.ones((48, 2)), "b": np.ones((47, 2))}, ValueError, "different numbers of"),
        (np.float32(3.0), TypeError, "or a number; write arrays"),
    ],
)  # fmt: skip
def test_what_are_no_numbers_says_what_to_write(wrong, error, words):
    _, y = task()
    for call in (lambda: fit(linear(), wrong, y), lambda: dj.evaluate(linear(), wrong, y)):
        with pytest.raises(error, match=words):
            call()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Column(["a"] * 48), "y holds text"),
        (Column(np.ones(48), "category"), "y holds categories"),
        (None, "y is None"),
    ],
)
def test_targets_that_are_no_numbers_say_what_to_write(wrong, words):
    x, _ = task()
    with pytest.raises(TypeError, match=words):
        fit(linear(), x, wrong)


def test_other_shapes_of_x_are_said():
    x, y = task()
    with pytest.raises(TypeError) as found:
        fit(linear(), x[:, :7], y)
    assert "x of shape (48, 7)" in "".join(found.value.__notes__)

    class Sum(nnx.Module):
        def __call__(self, x):
            return x * 1.0

    with pytest.raises(TypeError, match=r"x has one dimension: write x\[:, None\]"):
        fit(Sum(), x[:, 0], y)
    with pytest.raises(ValueError, match="x has no examples"):
        dj.evaluate(linear(), x[:0], y[:0])


# --- batches


def loader(x, y, size=16):
    """A source that can be gone through again."""
    return [(np.asarray(x[i : i + size]), np.asarray(y[i : i + size]))
            for i in range(0, len(x), size)]  # fmt: skip


def by_hand(model, batches, optimizer):
    state = nnx.Optimizer(model, optimizer, wrt=nnx.Param)
    for x, y in batches:
        state.update(
            model, nnx.grad(dj.losses.cross_entropy)(model, jnp.asarray(x), jnp.asarray(y))
        )


def test_batches_are_trained_on_once_each_in_order():
    x, y = task(40)  # the last batch is smaller
    expected, found = linear(), linear()
    by_hand(expected, loader(x, y) * 2, optax.sgd(0.1, momentum=0.9))
    fit(found, loader(x, y), optimizer=optax.sgd(0.1, momentum=0.9))
    for a, b in zip(weights(found), weights(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def sources():
    x, y = task()
    batches = loader(x, y)

    class Loader:
        def __iter__(self):
            return iter([list(batch) for batch in batches])  # lists, as PyTorch's

    def forever():
        while True:
            yield from batches

    return {
        "list": (batches, {}),
        "loader": (Loader(), {}),
        "function of the epoch": (lambda epoch: iter(batches), {}),
        "generator": (forever(), {"steps_per_epoch": 3}),
    }


@pytest.mark.parametrize("name", sources())
def test_every_kind_of_source_gives_the_same(name):
    expected, found = linear(), linear()
    fit(expected, sources()["list"][0])
    source, options = sources()[name]
    history = fit(found, source, **options)
    assert_same_weights(expected, found)
    assert history["loss"].shape == (2,)


def test_batches_of_validation_and_evaluation():
    x, y = task(40)
    model = linear()
    history = fit(model, loader(x, y), validation_data=loader(x, y))
    expected = dj.evaluate(model, x, y, metrics=["accuracy", "auc", "cross_entropy"])
    found = dj.evaluate(model, iter(loader(x, y)), metrics=["accuracy", "auc", "cross_entropy"])
    assert found == pytest.approx(expected, rel=1e-5)
    assert float(history["val_loss"][-1]) == pytest.approx(found["cross_entropy"], rel=1e-5)


def test_a_function_of_the_epoch_is_asked_for_each_epoch_and_resumes(tmp_path):
    x, y = task()
    asked = []

    def batches(epoch):
        asked.append(epoch)
        order = np.random.default_rng(epoch).permutation(48)
        return loader(x[order], y[order])

    straight, resumed = (dj.layers.MLP((8, 16, 3), rates=0.5, rngs=nnx.Rngs(0)) for _ in range(2))
    fit(straight, batches, epochs=4)
    assert asked == [0, 0, 1, 2, 3]  # once more to look
    asked.clear()
    fit(resumed, batches, epochs=2, checkpoint_dir=tmp_path)
    history = fit(resumed, batches, epochs=4, checkpoint_dir=tmp_path)
    assert asked[3:] == [0, 2, 3] and len(history["loss"]) == 4
    assert_same_weights(straight, resumed)


def test_weights_in_a_batch_count():
    x, y = task()
    w = np.arange(48) % 2 * 2.0
    found, expected = linear(), linear()
    fit(found, [(x, y, w)], epochs=1)
    fit(expected, [(x[w > 0], y[w > 0])], epochs=1)  # the same mean
    for a, b in zip(weights(found), weights(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (lambda: iter([]), {"steps_per_epoch": 3}, "x has no batch"),
        (lambda: [], {}, "x"),
        (lambda: iter(loader(*task())), {}, "write steps_per_epoch="),
        (lambda: loader(*task()), {"validation_split": 0.1}, "validation_split is for x and y"),
        (lambda: loader(*task()), {"thin": dj.Thin()}, "thin is for x and y"),
        (lambda: ({"image": 1} for _ in range(3)), {"steps_per_epoch": 1},
         r"a batch of x is dict with \['image'\]; write an iterable of \(x, y\)"),
        (lambda: iter(loader(*task())), {"steps_per_epoch": 1, "checkpoint_dir": "folder"},
         "write a function of the epoch"),
    ],
)  # fmt: skip
def test_sources_that_cannot_serve_say_what_to_write(source, options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        fit(linear(), source(), **options)


# --- weights and splits


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "mae", "bce", "gaussian_nll"])
def test_a_weight_of_two_is_an_example_that_comes_twice(loss):
    x, y = task(16)
    outputs = {"cross_entropy": 3, "gaussian_nll": 2}.get(loss, 1)
    y = y if loss == "cross_entropy" else (y > 0) * 1.0
    found, expected = linear(outputs), linear(outputs)
    w = jnp.arange(16) % 2 * 1.0
    fit(found, x, y, loss=loss, sample_weight=2 * w, epochs=1)
    fit(expected, x[w > 0], y[w > 0], loss=loss, epochs=1, batch_size=8)
    for a, b in zip(weights(found), weights(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_class_weights_are_sample_weights():
    x, y = task()
    table = {0: 1.0, 1: 0.0, 2: 3.0}
    by_class, by_sample = linear(), linear()
    fit(by_class, x, y, class_weight=table)
    fit(by_sample, x, y, sample_weight=[table[int(label)] for label in y])
    assert_same_weights(by_class, by_sample)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"class_weight": {0: 1.0, 1: 1.0}}, r"no weight for the classes \[2\]"),
        ({"class_weight": [1.0, 2.0]}, "write the weight of each class"),
        ({"sample_weight": np.ones(47)}, "47 weights for 48 examples"),
        ({"sample_weight": -np.ones(48)}, "weight is negative"),
        ({"sample_weight": np.ones(48), "loss": lambda model, x, y: jnp.mean(model(x))},
         r"takes no weights; write a function \(model, x, y, weights\)"),
    ],
)  # fmt: skip
def test_weights_that_cannot_be_say_what_to_write(options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        fit(linear(), *task(), **options)


def test_a_validation_split_holds_out_a_share_that_is_not_trained_on():
    x = jnp.eye(40)
    y = jnp.zeros(40, int)
    model = nnx.Linear(40, 2, kernel_init=nnx.initializers.zeros, rngs=nnx.Rngs(0))
    history = fit(model, x, y, validation_split=0.25, batch_size=5)
    touched = np.any(np.asarray(model.kernel[...]) != 0, axis=1)
    assert touched.sum() == 30 and history["val_loss"].shape == (2,)
    again = nnx.Linear(40, 2, kernel_init=nnx.initializers.zeros, rngs=nnx.Rngs(0))
    fit(again, x, y, validation_split=0.25, batch_size=5, key=jax.random.key(1))
    assert np.any(touched != np.any(np.asarray(again.kernel[...]) != 0, axis=1))
    with pytest.raises(ValueError, match="validation_split is 1.5"):
        fit(linear(), *task(), validation_split=1.5)


def test_several_sets_are_evaluated_by_name():
    x, y = task()
    history = fit(linear(), x, y, validation_data={"train": (x, y), "half": (x[:24], y[:24])})
    assert set(history) == {"loss", "train_loss", "train_error", "half_loss", "half_error"}


def test_numbers_that_are_not_finite_in_validation_are_said_once():
    x, y = task()
    bad = x.at[3, 2].set(jnp.nan)
    with pytest.warns(UserWarning, match="1 of 48 examples of val have a NaN") as said:
        history = fit(linear(), x, y, validation_data=(bad, y), epochs=3)
    assert len(said) == 1 and np.isnan(history["val_loss"]).all()


# --- all of it resumed, thinned, and spread over devices


@pytest.mark.parametrize(
    "options",
    [
        {"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}, "validation_split": 0.2},
        {"sample_weight": np.linspace(0, 2, 48), "thin": dj.Thin(steps=2, block=4)},
        {"loss": "mse", "keep_best": "loss", "patience": 9},
    ],
    ids=["classes", "thinned", "best"],
)
def test_a_run_that_goes_on_is_bitwise_the_same(tmp_path, options):
    x, y = task()
    y = jax.nn.one_hot(y, 3) if options.get("loss") == "mse" else y
    straight, resumed = (dj.layers.MLP((8, 16, 3), rates=0.5, rngs=nnx.Rngs(0)) for _ in range(2))
    expected = fit(straight, x, y, epochs=4, **options)
    fit(resumed, x, y, epochs=2, checkpoint_dir=tmp_path, **options)
    found = fit(resumed, x, y, epochs=4, checkpoint_dir=tmp_path, **options)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    assert_same_weights(straight, resumed)


def test_parts_and_weights_may_be_spread_over_devices():
    skip_fit_on_explicit_axes()
    x, y = task()
    rows = jax.NamedSharding(jax.make_mesh((8,), ("data",)), jax.P("data"))
    given = {
        "x": {"a": x[:, :3], "b": x[:, 3:]},
        "y": y,
        "sample_weight": jnp.linspace(0.0, 2.0, 48),
    }
    alone, spread = Two(), Two()
    tables = {"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}}
    expected = fit(alone, **given, **tables)
    found = fit(spread, **jax.device_put(given, rows), **tables)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
    for a, b in zip(weights(spread), weights(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# --- what newcomers write


def test_batches_in_another_form_are_told_what_to_write():
    x, y = task()
    with pytest.raises(TypeError, match=r"a batch of x is dict with \['x', 'y'\]; write .*b\['im"):
        fit(linear(), [{"x": x, "y": y}])
    for nothing in (x, []):
        with pytest.raises(TypeError, match=r"y is None: write dj\.fit\(model, optimizer, x, y"):
            fit(linear(), nothing)

    def endless():
        while True:
            yield x[:16], y[:16]

    with pytest.raises(TypeError, match=r"does not take the epoch.*lambda epoch: endless\(\)"):
        fit(linear(), endless, steps_per_epoch=2)


@pytest.mark.parametrize("where", ["x", "y"])
def test_a_loss_that_is_nan_names_the_data_with_nan(where):
    x, y = task()
    data = {"x": x, "y": x[:, 0]}
    data[where] = data[where].at[3].set(jnp.nan)
    with pytest.raises(
        dj.NonFiniteLossError, match=f"^1 of 48 examples .* number in {where}: fill"
    ):
        fit(linear(1), data["x"], data["y"], loss="mse")


def test_a_loss_that_is_nan_of_finite_data_names_none():
    x, y = task()
    with pytest.raises(dj.NonFiniteLossError, match="^the loss or the weights"):
        fit(linear(1), x, x[:, 0], optimizer=optax.sgd(1e30), loss="mse")


@pytest.mark.parametrize("metric", ["mse", "rmse"])
@pytest.mark.parametrize("where", ["x", "y"])
def test_evaluation_names_the_data_with_nan(metric, where):
    x, _ = task()
    data = {"x": x, "y": x[:, 0]}
    data[where] = data[where].at[3].set(jnp.nan)
    with pytest.raises(ValueError, match=r"a NaN or an infinite number in|hold 1 values that are"):
        dj.evaluate(linear(1), data["x"], data["y"], metrics=[metric])


def test_a_metric_that_leaves_out_nan_may_do_so():
    def known(model, x, y):
        return jnp.nanmean((model(x)[:, 0] - y) ** 2)

    x, _ = task()
    y = x[:, 0].at[3].set(jnp.nan)
    assert np.isfinite(dj.evaluate(linear(1), x, y, metrics={"known": known})["known"])


def test_images_without_channels_are_told_of_the_axis():
    class Net(nnx.Module):
        def __init__(self):
            self.conv = nnx.Conv(1, 4, (3, 3), rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.conv(x).mean((1, 2))

    def notes(x):
        with pytest.raises((TypeError, ValueError)) as caught:
            fit(Net(), x, jnp.zeros(16, int))
        return "".join(caught.value.__notes__)

    assert "Its nnx.Conv takes 4 axes" in notes(jnp.ones((16, 8, 8)))
    assert "write x[..., None]" in notes(jnp.ones((16, 64)))
    assert "nnx.Conv" not in notes(jnp.ones((16, 8, 8, 3)))
