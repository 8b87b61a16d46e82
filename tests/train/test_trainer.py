"""`evaluate`, `save` and `load`, and what `fit` says about labels; its training is in test_runs.

What would make this wrong: a metric with dropout on, a mean of unequal parts, a model that is
changed by being looked at, a save that loses the last one, labels that train to NaN.
"""

import functools
import itertools
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from optax.contrib import reduce_on_plateau

import dropout_jax as dj
from dropout_jax.train import checkpoint, metrics

KEY = jax.random.key(0)


def mlp(seed=0, hidden=16, outputs=3):
    return dj.layers.MLP((8, hidden, outputs), rates=0.5, rngs=nnx.Rngs(seed))


def task(n=48):
    x = jax.random.normal(jax.random.key(1), (n, 8))
    return x, jnp.argmax(x[:, :3], axis=-1)


def everything(model):
    state = jax.tree.leaves(nnx.state(model))
    return [jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a
            for a in state]  # fmt: skip


def assert_same_model(a, b):
    for left, right in zip(everything(a), everything(b), strict=True):
        np.testing.assert_array_equal(left, right)


# --- evaluate


@pytest.mark.parametrize("n", [48, pytest.param(metrics.CHUNK + 7, marks=pytest.mark.slow)])
def test_evaluate_is_the_mean_over_all_examples_without_dropout(n):
    model, (x, y) = mlp(), task(n)
    found = dj.evaluate(model, x, y)
    model.eval()
    logits = model(x)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    assert found["error"] == pytest.approx(float((logits.argmax(-1) != y).mean()), abs=1e-6)
    assert found["loss"] == pytest.approx(float(loss), rel=1e-5)


def test_evaluate_leaves_the_model_as_it_is():
    model, untouched = mlp(), mlp()
    model.train()
    first = dj.evaluate(model, *task())
    assert first == dj.evaluate(model, *task())
    assert_same_model(model, untouched)
    assert not model.dropouts[1].deterministic  # as it was


def test_evaluate_compiles_once_for_a_model_and_its_metrics():
    traced = itertools.count()

    def count(model, x, y):
        next(traced)
        return jnp.mean(model(x))

    model, (x, y) = mlp(), task()
    first, second = (dj.evaluate(model, x + i, y, metrics={"count": count}) for i in range(2))
    assert next(traced) == 1 and first != second


def test_evaluate_takes_other_metrics_and_numpy_arrays():
    def square(model, x, y):
        return jnp.mean((model(x)[:, 0] - y) ** 2)

    x, y = map(np.asarray, task())
    found = dj.evaluate(mlp(outputs=1), x, y.astype(np.float32), metrics={"square": square})
    assert found.keys() == {"square"} and found["square"] > 0


def test_evaluate_wants_a_target_an_input():
    x, y = task()
    with pytest.raises(ValueError, match="48 inputs and 47 targets"):
        dj.evaluate(mlp(), x, y[:47])


# --- save and load


def test_a_loaded_model_is_the_saved_one_its_streams_included(tmp_path):
    model = mlp()
    dj.fit(model, optax.adam(1e-2), *task(), key=KEY, epochs=1, progress=False)
    other = mlp(seed=1)
    dj.save(tmp_path / "model", model)
    dj.load(tmp_path / "model", other)
    assert_same_model(model, other)
    x = task()[0]
    model.train(), other.train()
    np.testing.assert_array_equal(model(x), other(x))  # the same masks too


def test_what_is_saved_last_is_what_is_loaded(tmp_path):
    first, last, found = mlp(0), mlp(1), mlp(2)
    for model in (first, last):
        dj.save(str(tmp_path), model)
    dj.load(str(tmp_path), found)
    assert_same_model(found, last)


def test_a_run_s_checkpoints_are_not_saved_over(tmp_path):
    run = dict(key=KEY, progress=False, checkpoint_dir=tmp_path)
    model = mlp()
    dj.fit(model, optax.sgd(0.1), *task(), epochs=1, **run)
    with pytest.raises(checkpoint.CheckpointError, match="checkpoints of a run"):
        dj.save(tmp_path, model)
    history = dj.fit(mlp(), optax.sgd(0.1), *task(), epochs=2, **run)
    assert len(history.epochs) == 2


def test_loading_needs_no_leave_to_write(tmp_path, monkeypatch):
    dj.save(tmp_path, mlp())
    (tmp_path / ".lock").unlink()
    files = sorted(tmp_path.rglob("*"))

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    other = mlp(seed=1)
    dj.load(tmp_path, other)
    assert_same_model(other, mlp())
    assert sorted(tmp_path.rglob("*")) == files


def test_a_linen_free_model_of_mixed_types_is_saved(tmp_path):
    model, other = (
        nnx.Sequential(nnx.Linear(8, 4, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(i)),
                       nnx.BatchNorm(4, rngs=nnx.Rngs(i))) for i in (0, 1)
    )  # fmt: skip
    model(task()[0].astype(jnp.bfloat16))  # moves the batch statistics
    dj.save(tmp_path, model)
    dj.load(tmp_path, other)
    assert_same_model(model, other)


@pytest.mark.parametrize(
    "other", [lambda: mlp(hidden=8), lambda: nnx.Linear(8, 3, rngs=nnx.Rngs(0))]
)
def test_another_model_is_refused_and_stays_as_it_is(tmp_path, other):
    dj.save(tmp_path, mlp())
    model, untouched = other(), other()
    with pytest.raises(checkpoint.CheckpointError, match="another model"):
        dj.load(tmp_path, model)
    assert_same_model(model, untouched)


def test_the_same_arrays_in_other_places_are_another_model(tmp_path):
    class Named(nnx.Module):
        def __init__(self, name):
            setattr(self, name, nnx.Linear(8, 3, rngs=nnx.Rngs(0)))

    dj.save(tmp_path, Named("first"))
    with pytest.raises(checkpoint.CheckpointError, match="another model"):
        dj.load(tmp_path, Named("second"))


def test_a_folder_without_a_model_says_so_and_none_is_made(tmp_path):
    with pytest.raises(checkpoint.CheckpointError, match="no model is saved"):
        dj.load(tmp_path, mlp())
    with pytest.raises(checkpoint.CheckpointError, match="there is no folder"):
        dj.load(tmp_path / "absent", mlp())
    assert not (tmp_path / "absent").exists()


# --- labels


def fit(x, y, **options):
    return dj.fit(mlp(), optax.sgd(0.1), x, y, key=KEY, epochs=1, progress=False, **options)


@pytest.mark.parametrize("shift", [-1, 1])
def test_labels_that_are_no_classes_name_their_range(shift):
    x, y = task()
    with pytest.raises(
        ValueError, match=f"run from {shift} to {2 + shift}, .* label the classes 0 to 2"
    ):
        fit(x, y + shift)


@pytest.mark.parametrize(
    "wrong", [lambda y: jax.nn.one_hot(y, 3), lambda y: y * 1.0, lambda y: y[:, None]]
)
def test_labels_that_are_no_integers_a_case_say_what_to_write(wrong):
    x, y = task()
    with pytest.raises(TypeError, match="labels of train .* shape .48,.: write y.argmax"):
        fit(x, wrong(y))
    with pytest.raises(TypeError, match="labels of val"):
        fit(x, y, validation_data=(x, wrong(y)))


def test_evaluation_and_other_losses_check_labels_too():
    x, y = task()
    for shift in (-1, 1):
        with pytest.raises(ValueError, match="label the classes 0 to 2"):
            dj.evaluate(mlp(), x, y + shift)
        with pytest.raises(ValueError, match="label the classes 0 to 2"):
            fit(x, y + shift, loss=dj.losses.r_drop(), validation_data=(x, y))
        with pytest.raises(ValueError, match="label the classes 0 to 2"):
            fit(x, y + shift, loss=dj.losses.r_drop())
    with pytest.raises(TypeError, match=r"y\[..., 0\] for a column"):
        dj.evaluate(mlp(), x, y[:, None])


def test_metrics_and_validation_data_of_other_types_say_what_to_write():
    x, y = task()
    for wrong in (dj.train.cross_entropy, "accuracy", 3):
        with pytest.raises(TypeError, match="metrics is .* write names, .* functions"):
            dj.evaluate(mlp(), x, y, metrics=wrong)
        with pytest.raises(TypeError, match="metrics is .* write names, .* functions"):
            fit(x, y, metrics=wrong, validation_data=(x, y))
    with pytest.raises(ValueError, match=r"validation_data is float; write \(x, y\)"):
        fit(x, y, validation_data=0.2)


def test_what_is_no_module_is_neither_saved_nor_loaded(tmp_path):
    for wrong in (lambda: dj.save(tmp_path, {}), lambda: dj.load(tmp_path, mlp)):
        with pytest.raises(TypeError, match="no nnx.Module"):
            wrong()


@pytest.mark.parametrize(
    "optimizer",
    [optax.lbfgs(), optax.polyak_sgd(), optax.chain(optax.adam(0.01), reduce_on_plateau())],
    ids=["lbfgs", "polyak_sgd", "reduce_on_plateau"],
)
def test_optimizers_that_want_more_than_the_gradient_get_it(optimizer):
    x, y = task()
    history = dj.fit(mlp(), optimizer, x, y, key=KEY, epochs=8, batch_size=16, progress=False)
    assert history["loss"][-1] < history["loss"][0]


def test_layers_that_wait_to_be_told_their_mode_are_trained():
    class Attention(nnx.Module):
        def __init__(self, rngs):
            self.attention = nnx.MultiHeadAttention(2, 8, dropout_rate=0.1, decode=False, rngs=rngs)
            self.drop = dj.layers.Dropout(0.5, deterministic=None, rngs=rngs)
            self.linear = nnx.Linear(8, 2, rngs=rngs)

        def __call__(self, x):
            return self.linear(self.drop(self.attention(x).mean(1)))

    x, y = jnp.ones((20, 5, 8)), jnp.arange(20) % 2
    model = Attention(nnx.Rngs(0))
    dj.fit(model, optax.sgd(0.1), x, y, key=KEY, epochs=1, batch_size=5, progress=False)
    assert dj.evaluate(model, x, y)["error"] == pytest.approx(0.5)


@pytest.mark.filterwarnings("ignore:Using 'Module.sow")  # outside of nnx.capture, as in old code
@pytest.mark.parametrize("called_before", [False, True])
def test_a_model_that_sows_is_trained(called_before):
    class Sower(dj.layers.MLP):
        def __call__(self, x):
            self.sow(nnx.Intermediate, "inputs", x)
            return super().__call__(x)

    x, y = task()
    model = Sower((8, 16, 3), rates=0.5, rngs=nnx.Rngs(0))
    if called_before:
        model(x)
    history = dj.fit(model, optax.sgd(0.1), x, y, key=KEY, epochs=2, progress=False)
    plain = mlp()
    expected = dj.fit(plain, optax.sgd(0.1), x, y, key=KEY, epochs=2, progress=False)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-6)


def test_a_mistake_leaves_the_model_in_its_mode():
    model, (x, y) = mlp(), task()
    model.eval()
    with pytest.raises(ValueError, match="label the classes"):
        dj.fit(model, optax.sgd(0.1), x, y + 1, key=KEY, epochs=1, progress=False)
    assert model.dropouts[1].deterministic


def test_another_loss_takes_other_targets():
    def square(model, x, y):
        return jnp.mean((model(x) - y) ** 2)

    x, y = task()
    data = x, jax.nn.one_hot(y, 3)
    fit(*data, loss=square, metrics={"square": square}, validation_data=data)


def test_labels_of_each_position_are_labels():
    x = jnp.ones((32, 5, 8))
    history = fit(x, jnp.zeros((32, 5), int))
    assert np.isfinite(history["loss"]).all()


def test_an_mlp_says_how_to_flatten_and_that_pixels_are_numbers():
    images = jnp.ones((32, 2, 4))
    with pytest.raises(ValueError, match=r"takes \(..., 8\); to flatten .*x.reshape"):
        fit(images, jnp.zeros(32, int))
    with pytest.raises(TypeError, match="x has dtype uint8"):
        fit(jnp.ones((32, 8), jnp.uint8), jnp.zeros(32, int))


def test_the_model_keeps_streams_of_its_own_kind(tmp_path):
    """With a key of another implementation, too: what is saved can be loaded."""
    (x, y), model = task(), mlp()
    streams = [jax.random.key_data(k) for k in jax.tree.leaves(nnx.state(model, nnx.RngKey))]
    key = jax.random.key(0, impl="rbg")
    dj.fit(model, optax.sgd(0.1), x, y, key=key, epochs=1, progress=False)
    for kept, before in zip(jax.tree.leaves(nnx.state(model, nnx.RngKey)), streams, strict=True):
        np.testing.assert_array_equal(jax.random.key_data(kept), before)
    dj.save(tmp_path, model)
    dj.load(tmp_path, other := mlp(1))
    assert_same_model(model, other)


class Answer(nnx.Module):
    """An MLP whose outputs are changed by `how`."""

    def __init__(self, how):
        self.mlp, self.how = mlp(), how

    def __call__(self, x):
        return self.how(self.mlp(x))


@pytest.mark.parametrize("how", [lambda y: (y, 1), lambda y: y[:, 0], lambda y: y.sum()])
def test_outputs_that_are_no_logits_say_what_to_write(how):
    for call in (fit_model, dj.evaluate):
        with pytest.raises(TypeError, match=r"one array of logits.*give loss= and metrics="):
            call(Answer(how), *task())


def fit_model(model, x, y, **options):
    return dj.fit(model, optax.sgd(0.1), x, y, key=KEY, epochs=1, progress=False, **options)


def test_a_metric_of_each_example_says_what_to_write():
    wrong = {"wrong": lambda model, x, y: model(x).argmax(-1) != y}
    with pytest.raises(TypeError, match=r"'wrong' has shape \(48,\); write its mean"):
        dj.evaluate(mlp(), *task(), metrics=wrong)
    with pytest.raises(TypeError, match=r"'wrong' has shape \(48,\); write its mean"):
        fit_model(mlp(), *task(), validation_data=task(), metrics=wrong)


@pytest.mark.parametrize(
    "loss",
    [optax.softmax_cross_entropy_with_integer_labels, optax.l2_loss, lambda logits, labels: 0.0],
)
def test_a_loss_of_outputs_says_what_to_write(loss):
    words = r"which does not take \(model, x, y\); write a function .*lambda model, x, y: "
    with pytest.raises(TypeError, match=f"the loss is .*{words}"):
        fit_model(mlp(), *task(), loss=loss)
    with pytest.raises(TypeError, match=f"the metric 'mine' is .*{words}"):
        dj.evaluate(mlp(), *task(), metrics={"mine": loss})


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda model, x, y: jnp.square(model(x)).sum(-1), r"has shape \(32,\); write its mean"),
        (lambda model, x, y: (jnp.mean(model(x)), {}), "is a tuple; write one number"),
    ],
)
def test_a_loss_that_is_no_number_says_what_to_write(loss, words):
    with pytest.raises(TypeError, match=f"the loss {words}"):
        fit_model(mlp(), *task(), loss=loss)


@pytest.mark.parametrize(
    "loss",
    [
        functools.partial(lambda scale, model, x, y: scale * jnp.mean(model(x)), 2.0),
        lambda *args: jnp.mean(args[0](args[1])),
        dj.losses.r_drop(alpha=1.0),
    ],
    ids=["partial", "any number of arguments", "r_drop"],
)
def test_other_kinds_of_functions_are_losses_too(loss):
    assert np.isfinite(fit_model(mlp(), *task(), loss=loss)["loss"]).all()


def test_another_kind_of_model_or_thinning_says_what_to_write():
    for call in (fit_model, dj.evaluate):
        with pytest.raises(TypeError, match="model is Dense and no nnx.Module"):
            call(linen.Dense(3), *task())
    with pytest.raises(TypeError, match=r"thin is True; write Thin\(\)"):
        fit_model(mlp(), *task(), thin=True)


@pytest.mark.parametrize("folder", ["gs://bucket/run", "s3://bucket"])
def test_a_folder_of_another_machine_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(checkpoint.CheckpointError, match="no folder of this machine"):
        dj.save(folder, mlp())
    assert not list(tmp_path.iterdir())


def test_a_model_that_holds_nothing_or_empty_arrays_is_saved(tmp_path):
    for i, make in enumerate(
        (lambda: dj.layers.Dropout(0.5), lambda: nnx.BatchNorm(0, rngs=nnx.Rngs(0)))
    ):
        model, other = make(), make()
        model.eval()
        dj.save(tmp_path / str(i), model)
        dj.load(tmp_path / str(i), other)
        assert_same_model(model, other)


def test_files_that_are_not_ours_are_left_alone(tmp_path):
    names = ["3/notes.txt", "checkpoint-2.npz", "checkpoint-7.npz.bak", "checkpoint-x.npz"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint in .* checkpoint-2.npz"):
        dj.load(tmp_path, mlp())
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint in .* checkpoint-2.npz"):
        fit_model(mlp(), *task(), checkpoint_dir=tmp_path)
    for seed in range(4):
        dj.save(tmp_path, mlp(seed=seed))
    other = mlp(seed=9)
    dj.load(tmp_path, other)
    assert_same_model(other, mlp(seed=3))
    assert all((tmp_path / name).read_text() == "mine" for name in names)


def test_what_an_earlier_version_wrote_is_named(tmp_path):
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "_CHECKPOINT_METADATA").write_text("{}")
    for call in (
        lambda: dj.save(tmp_path, mlp()),
        lambda: dj.load(tmp_path, mlp()),
        lambda: fit_model(mlp(), *task(), checkpoint_dir=tmp_path),
    ):
        with pytest.raises(checkpoint.CheckpointError, match="earlier version of dropout_jax"):
            call()
