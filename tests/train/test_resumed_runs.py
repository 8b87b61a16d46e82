"""Runs that were interrupted go on bitwise, and never a silent loss of work."""

import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers.small_runs import (
    BATCH,
    DATA,
    KEY,
    LOOP,
    assert_same,
    fit,
    mlp,
    params_of,
    run,
    straight_run,
    task,
    weights,
)

import dropout_jax as dj
from dropout_jax import train
from dropout_jax.train import checkpoint, runner


def stop_after(epoch, how):
    """An `on_epoch` that interrupts once that epoch is trained."""
    seen = []

    def on_epoch(state):
        seen.append(1)  # the first call is with the state that the run starts from
        if len(seen) == epoch + 1:
            how()

    return on_epoch


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize("epoch, every, kept", [(1, 1, 1), (3, 1, 3), (3, 2, 3), (4, 2, 4)])
def test_ctrl_c_keeps_what_was_evaluated_and_the_same_call_completes(
    epoch, every, kept, tmp_path, capsys
):
    straight, expected = straight_run(every=every)
    with pytest.raises(KeyboardInterrupt):
        run(evaluate_every=every, checkpoint_dir=tmp_path, on_epoch=stop_after(epoch, ctrl_c))
    line = capsys.readouterr().err
    assert line == (
        f"interrupted; {kept} of 4 epochs complete, saved in {tmp_path}; "
        "the same call goes on from there.\n"
    )
    starts = []
    state, history = run(evaluate_every=every, checkpoint_dir=tmp_path, on_epoch=starts.append)
    assert int(starts[0].step) == 4 * kept
    assert_same(weights(state), weights(straight))
    assert_same(history.metrics, expected.metrics)
    np.testing.assert_array_equal(history.epochs, expected.epochs)


def test_ctrl_c_without_checkpoints_says_so(capsys):
    with pytest.raises(KeyboardInterrupt):
        run(on_epoch=stop_after(2, ctrl_c))
    assert "nothing saved: no checkpoint_dir was given" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_during_a_save_is_not_called_saved(tmp_path, capsys, monkeypatch):
    save = checkpoint.save

    def interrupted(folder, step, *rest):
        if step == 2:
            raise KeyboardInterrupt
        save(folder, step, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", interrupted)
        run(checkpoint_dir=tmp_path, checkpoint_every=1)
    assert "interrupted; 1 of 4 epochs complete" in capsys.readouterr().err
    assert_same(weights(run(checkpoint_dir=tmp_path)[0]), weights(straight_run()[0]))


@pytest.mark.slow
def test_a_complete_run_comes_back_without_training_and_can_be_prolonged(tmp_path):
    state, history = run(checkpoint_dir=tmp_path)
    calls = []
    again, same = run(checkpoint_dir=tmp_path, on_epoch=calls.append)
    assert len(calls) == 1
    assert_same(weights(again), weights(state))
    assert_same(same.metrics, history.metrics)
    np.testing.assert_array_equal(same.seconds, history.seconds)
    longer, history = run(checkpoint_dir=tmp_path, epochs=6)
    straight, expected = straight_run(epochs=6)
    assert_same(weights(longer), weights(straight))
    assert_same(history.metrics, expected.metrics)
    with pytest.raises(checkpoint.CheckpointError, match="has made 6 epochs, and 3 were asked for"):
        run(checkpoint_dir=tmp_path, epochs=3)
    assert_same(weights(run(checkpoint_dir=tmp_path, epochs=6)[0]), weights(straight))


@pytest.mark.slow
def test_fit_goes_on_from_its_checkpoint(tmp_path):
    straight, part, whole = mlp(), mlp(), mlp()
    fit(part, epochs=2, checkpoint_dir=tmp_path)
    history = fit(whole, checkpoint_dir=str(tmp_path))
    assert_same(history.metrics, fit(straight).metrics)
    assert_same(params_of(whole), params_of(straight))


@pytest.mark.slow
def test_runs_side_by_side_go_on_from_their_checkpoint(tmp_path):
    def train_for(epochs, folder=None):
        hyper = {"learning_rate": jnp.array([0.125, 1e38])}  # NaN goes through a checkpoint as well
        state = jax.vmap(LOOP.init, (None, 0, None))(KEY, hyper, DATA)
        return runner.run(LOOP, state, DATA, epochs=epochs, progress=False, checkpoint_dir=folder)

    train_for(1, tmp_path)
    (resumed, history), (straight, expected) = train_for(3, tmp_path), train_for(3)
    assert_same(weights(resumed), weights(straight))
    assert_same(history.metrics, expected.metrics)


@pytest.mark.slow
def test_low_precision_and_numbers_as_hyperparameters_go_on_bitwise(tmp_path):
    """A weak type that a checkpoint made strong would promote bfloat16 to float32."""
    loop = train.make_loop(
        lambda rngs, hyper: nnx.Linear(8, 2, param_dtype=jnp.bfloat16, rngs=rngs),
        lambda hyper: optax.sgd(hyper["learning_rate"], momentum=hyper["momentum"]),
        batch_size=BATCH,
    )

    def train_for(epochs, folder=None):
        state = loop.init(KEY, {"learning_rate": 0.1, "momentum": 0.9}, DATA)
        state, _ = runner.run(
            loop, state, DATA, epochs=epochs, progress=False, checkpoint_dir=folder
        )
        return weights(state)

    train_for(1, tmp_path)
    assert_same(train_for(3, tmp_path), train_for(3))


OTHERS = {
    "key": {"key": jax.random.key(1)},
    "batch size": {"batch_size": 8},
    "inputs": {"x": task()[0].at[0, 0].add(1.0)},
    "targets": {"y": 1 - task()[1]},
    "number of examples": {"x": task()[0][:48], "y": task()[1][:48]},
    "model": {"model": lambda: mlp(hidden=16)},
    "deeper model": {
        "model": lambda: dj.layers.MLP((8, 32, 32, 2), rates=0.5, rngs=nnx.Rngs(0)),
    },
    "optimizer": {"optimizer": optax.sgd(0.1)},
    "learning rate": {"optimizer": optax.adam(2e-2)},
    "rate": {"model": lambda: dj.layers.MLP((8, 32, 2), rates=0.25, rngs=nnx.Rngs(0))},
    "schedule of the rate": {
        "model": lambda: dj.layers.MLP((8, 32, 2), rates=dj.rates.early(0.5, 9), rngs=nnx.Rngs(0))
    },
    "loss": {"loss": dj.losses.r_drop(alpha=1.0)},
    "thinning": {"thin": dj.Thin(steps=2, block=8)},
    "key implementation": {"key": jax.random.key(0, impl="rbg")},
}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory):
    """A checkpoint after one epoch."""
    folder = tmp_path_factory.mktemp("one_epoch")
    fit(mlp(), epochs=1, checkpoint_dir=folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("change", OTHERS)
def test_a_checkpoint_of_another_run_is_refused_and_survives(change, one_epoch):
    options = dict(OTHERS[change])
    intruder = options.pop("model", mlp)()
    before, files = params_of(intruder), contents(one_epoch)
    with pytest.raises(
        checkpoint.CheckpointError, match="another model or optimizer|a run with (an)?other"
    ):
        fit(intruder, checkpoint_dir=one_epoch, **options)
    assert_same(params_of(intruder), before)
    assert contents(one_epoch) == files


def test_other_hyperparameters_are_another_run(tmp_path):
    run(epochs=1, checkpoint_dir=tmp_path)
    with pytest.raises(
        checkpoint.CheckpointError, match="another key, hyperparameters or training data"
    ):
        run(learning_rate=0.25, checkpoint_dir=tmp_path)


def test_what_is_evaluated_is_no_part_of_the_run(one_epoch, tmp_path):
    shutil.copytree(one_epoch, tmp_path / "copy")
    options = {"epochs": 2, "validation_data": task(40, 98)}
    resumed = fit(mlp(), checkpoint_dir=tmp_path / "copy", **options)
    straight = fit(mlp(), **options)
    assert_same(resumed["loss"], straight["loss"])
    assert np.isnan(resumed["val_error"][0]) and resumed["val_error"][1] == straight["val_error"][1]
    longer = fit(mlp(), checkpoint_dir=tmp_path / "copy", epochs=3)  # without validation again
    np.testing.assert_array_equal(np.isnan(longer["val_error"]), [True, False, True])


def weighted(weights):
    return lambda model, x, y: jnp.mean(weights[y] * jnp.sum(model(x) ** 2, axis=-1))


SETTINGS = {
    "array rate": lambda v: {
        "model": dj.layers.MLP((8, 4, 2), rates=jnp.float32(v), rngs=nnx.Rngs(0))
    },
    "schedule": lambda v: {
        "model": dj.layers.MLP((8, 4, 2), rates=dj.rates.early(v, 100), rngs=nnx.Rngs(0))
    },
    "injected": lambda v: {"optimizer": optax.inject_hyperparams(optax.sgd)(learning_rate=v)},
    "captured by the optimizer": lambda v: {
        "optimizer": optax.chain(optax.sgd(0.1), dj.max_norm(jnp.float32(v)))
    },
    "captured by the loss": lambda v: {"loss": weighted(jnp.array([1.0, v]))},
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_numbers_that_only_arrays_hold_tell_runs_apart(kind, tmp_path):
    def go(value, epochs):
        options = SETTINGS[kind](value)
        fit(options.pop("model", None) or mlp(), epochs=epochs, checkpoint_dir=tmp_path, **options)

    go(0.5, 1)
    with pytest.raises(checkpoint.CheckpointError, match="of a run with another"):
        go(0.25, 2)
    go(0.5, 2)


def test_a_trained_model_goes_on_from_its_own_checkpoint(tmp_path):
    model = dj.layers.MLP((8, 4, 2), rates=dj.rates.early(0.5, 100), rngs=nnx.Rngs(0))
    optimizer = optax.inject_hyperparams(optax.adam)(
        learning_rate=optax.linear_schedule(1e-2, 0, 9)
    )
    for epochs in (1, 2):
        history = fit(model, epochs=epochs, optimizer=optimizer, checkpoint_dir=tmp_path)
    assert len(history.epochs) == 2


def test_a_checkpoint_of_another_program_says_what_it_may_be(one_epoch):
    with pytest.raises(checkpoint.CheckpointError, match="another program .batch size, rates"):
        fit(mlp(), checkpoint_dir=one_epoch, optimizer=optax.adam(2e-2))


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    model = mlp()
    inside = tmp_path / "file" / "inside"
    with pytest.raises(checkpoint.CheckpointError, match="file is a file; write a folder"):
        fit(model, checkpoint_dir=inside.parent)
    with pytest.raises(checkpoint.CheckpointError, match=f"cannot write checkpoints to {inside}"):
        fit(model, checkpoint_dir=inside)
