"""A run goes on where it is the same run: on other devices and versions, and never in silence.

What would make this wrong: another seed's weights, or a pretrained model, that an older run's are
loaded over; a run that is refused though nothing of it has changed; two that train in one folder.
"""

import datetime
import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers import killed_run
from helpers.small_runs import assert_same, fit, mlp, params_of, run, straight_run, task, weights
from helpers.versions import skip_fit_on_explicit_axes
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from dropout_jax.train import checkpoint, fingerprint, saver
from dropout_jax.train.folder import NAME


def steps_in(folder):
    found = map(NAME.fullmatch, sorted(path.name for path in folder.iterdir()))
    return sorted(int(match[1]) for match in found if match)


# --- the weights that a run begins with


def test_another_seed_or_a_trained_model_is_another_run_and_keeps_its_weights(tmp_path):
    fit(mlp(0), epochs=1, checkpoint_dir=tmp_path)
    trained = mlp(0)
    fit(trained, epochs=1)
    fit(trained, epochs=2)
    for model in (mlp(1), trained):
        before = params_of(model)
        with pytest.raises(checkpoint.CheckpointError, match="a run with other initial weights"):
            fit(model, epochs=2, checkpoint_dir=tmp_path)
        assert_same(params_of(model), before)
    fit(mlp(0), epochs=2, checkpoint_dir=tmp_path)


def test_going_on_is_announced(tmp_path, capsys):
    fit(mlp(), epochs=1, checkpoint_dir=tmp_path)
    assert capsys.readouterr().err == ""
    model = mlp()
    for epochs in (2, 3):  # a new model, and one that this run has trained
        fit(model, epochs=epochs, checkpoint_dir=tmp_path)
        assert capsys.readouterr().err == f"going on from epoch {epochs - 1} in {tmp_path}.\n"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_the_same_call_with_a_model_that_was_interrupted_goes_on(failure, tmp_path, monkeypatch):
    """As in a notebook: the model holds what was trained, saved or not."""
    model, straight, write = mlp(), mlp(), checkpoint.archive.write

    def failing(path, *content):
        if path.name == "checkpoint-2.npz":
            raise failure
        write(path, *content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.archive, "write", failing)
        with pytest.raises((KeyboardInterrupt, checkpoint.CheckpointError)):
            fit(model, checkpoint_dir=tmp_path, checkpoint_every=1)
    history = fit(model, checkpoint_dir=tmp_path)
    assert_same(history.metrics, fit(straight).metrics)
    assert_same(params_of(model), params_of(straight))


def test_a_model_with_its_best_weights_goes_on(tmp_path):
    options = {"keep_best": "val_loss", "validation_data": task(40, 98), "batch_size": 64}
    options |= {"optimizer": optax.sgd(30.0), "checkpoint_dir": tmp_path}
    model = mlp()
    history = fit(model, **options)
    assert history["val_loss"].argmin() < 2  # the model has not the last weights
    assert_same(fit(model, epochs=4, **options)["loss"][:3], history["loss"])


# --- what is no difference


def weak(value=1e-1):
    class Scaled(nnx.Module):
        def __init__(self):
            self.inner = mlp()
            self.scale = nnx.Param(jnp.full((1, 2), value))

        def __call__(self, x):
            return self.inner(x) * self.scale[...]

    return Scaled()


def test_weak_types_are_no_difference(tmp_path):
    assert weak().scale[...].weak_type
    model = weak()
    for epochs in (1, 2):
        fit(model, epochs=epochs, checkpoint_dir=tmp_path)  # the second time it is not weak
    fresh, straight = weak(), weak()
    fit(fresh, epochs=3, checkpoint_dir=tmp_path)
    fit(straight, epochs=3)
    assert_same(params_of(fresh), params_of(straight))


def spread(devices, axes):
    mesh = jax.make_mesh((devices,), ("data",), (axes,), devices=jax.devices()[:devices])
    x, y = task()
    return {"x": jax.device_put(x, NamedSharding(mesh, P("data", None))),
            "y": jax.device_put(y, NamedSharding(mesh, P("data")))}  # fmt: skip


@pytest.mark.parametrize("axes", [AxisType.Explicit, AxisType.Auto], ids=["explicit", "auto"])
@pytest.mark.parametrize("there, here", [(8, 1), (1, 8), (8, 2), (2, 8)])
def test_a_run_goes_on_on_another_number_of_devices(there, here, axes, tmp_path, capsys):
    if axes is AxisType.Explicit:
        skip_fit_on_explicit_axes()

    def data(devices):
        return spread(devices, axes) if devices > 1 else {}

    fit(mlp(), epochs=1, checkpoint_dir=tmp_path, **data(there))
    model, straight = mlp(), mlp()
    history = fit(model, epochs=2, checkpoint_dir=tmp_path, **data(here))
    expected = fit(straight, epochs=2)
    assert f"(devices {there} then and {here} now): from here" in capsys.readouterr().err
    # The order of sums is another: two epochs of four updates, each off by some roundings.
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    with pytest.raises(checkpoint.CheckpointError, match="another program"):
        fit(mlp(), optimizer=optax.adam(2e-2), checkpoint_dir=tmp_path, **data(here))


def elsewhere(monkeypatch, **changes):
    platform = fingerprint.platform
    monkeypatch.setattr(saver, "platform", lambda *run: platform(*run) | changes)


@pytest.mark.parametrize(
    "change", [{"jax": "9.9"}, {"devices": 3}, {"optax": "8.8", "backend": "tpu"}], ids=str
)
def test_a_run_of_another_platform_goes_on_and_says_so(change, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        elsewhere(patch, **change)
        fit(mlp(), epochs=1, checkpoint_dir=tmp_path)
    fit(mlp(), epochs=2, checkpoint_dir=tmp_path)
    line = capsys.readouterr().err
    for name, then in change.items():
        now = fingerprint.platform(*task())[name]
        assert f"{name} {then} then and {now} now" in line
    assert line.count("\n") == 1 and "no longer bitwise the same" in line
    fit(mlp(), epochs=2, checkpoint_dir=tmp_path)
    assert "bitwise" not in capsys.readouterr().err  # once is enough


def test_the_text_of_another_version_s_program_is_no_difference_but_the_data_are(
    tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        elsewhere(patch, jax="9.9")
        patch.setattr(fingerprint, "_program", lambda *_: ([1], True))
        fit(mlp(), epochs=1, checkpoint_dir=tmp_path)
    with pytest.raises(checkpoint.CheckpointError, match="training data"):
        fit(mlp(), x=task()[0] + 1, epochs=2, checkpoint_dir=tmp_path)
    fit(mlp(), epochs=2, checkpoint_dir=tmp_path)


# --- how often


@pytest.mark.parametrize(
    "every, expected",
    [(1, [1, 2, 3, 4]), (3, [3, 4]), (9, [4]), (datetime.timedelta(hours=1), [4]),
     (datetime.timedelta(microseconds=1), [1, 2, 3, 4])],
)  # fmt: skip
def test_checkpoints_every_so_many_epochs_or_so_long(every, expected, tmp_path, monkeypatch):
    saved, save = [], checkpoint.save

    def spy(folder, step, *content):
        saved.append(step)
        save(folder, step, *content)

    monkeypatch.setattr(checkpoint, "save", spy)
    run(checkpoint_dir=tmp_path, checkpoint_every=every)
    assert saved == expected and steps_in(tmp_path) == expected[-2:]


def test_saving_takes_a_share_of_the_time(tmp_path, monkeypatch):
    """The clock of a run of ten seconds an epoch, of which each save takes a hundred."""
    now, saves, save = [0.0], [], checkpoint.save

    def slow(folder, step, *content):
        saves.append(step)
        save(folder, step, *content)
        now[0] += 100

    monkeypatch.setattr(checkpoint, "save", slow)
    monkeypatch.setattr(saver.time, "monotonic", lambda: now[0])
    run(epochs=400, checkpoint_dir=tmp_path, on_epoch=lambda state: now.append(now.pop() + 10))
    assert saves == [1, 91, 181, 271, 361, 400]


def test_an_epoch_between_two_evaluations_is_a_start_too(tmp_path, monkeypatch):
    with pytest.raises(ZeroDivisionError):
        run(evaluate_every=2, checkpoint_dir=tmp_path, on_epoch=lambda s: s.step == 12 and 1 / 0)
    assert steps_in(tmp_path)[-1] == 3
    state, history = run(evaluate_every=2, checkpoint_dir=tmp_path)
    straight, expected = straight_run(every=2)
    assert_same(weights(state), weights(straight))
    assert_same(history.metrics, expected.metrics)


@pytest.mark.parametrize("every", [0, -1, datetime.timedelta(0)])
def test_an_impossible_interval_says_what_to_write(every):
    with pytest.raises(ValueError, match="checkpoint_every is .*; write a number of epochs"):
        fit(mlp(), checkpoint_every=every)


@pytest.mark.parametrize("every", [1.5, "1h", True])
def test_an_interval_of_another_type_says_what_to_write(every):
    with pytest.raises(TypeError, match="checkpoint_every is .*; write a number of epochs"):
        fit(mlp(), checkpoint_every=every)


# --- two in one folder


def test_a_second_run_in_the_folder_is_refused_and_the_first_goes_on(tmp_path):
    def second(state):
        if int(state.step) == 4:
            with pytest.raises(
                checkpoint.CheckpointError, match="another process or run is writing"
            ):
                run(checkpoint_dir=tmp_path)

    state, _ = run(checkpoint_dir=tmp_path, on_epoch=second)
    assert_same(weights(state), weights(straight_run()[0]))
    run(checkpoint_dir=tmp_path)  # the folder is free again


def test_what_is_being_written_is_not_cleared(tmp_path):
    folder = tmp_path / "run"
    checkpoint.clear(folder)  # nothing is there yet
    with checkpoint.open_folder(folder) as first:
        checkpoint.save(first, 1, jnp.ones(2), {})
        with pytest.raises(checkpoint.CheckpointError, match="another process or run is writing"):
            checkpoint.clear(folder)
        assert checkpoint.restore(first, jnp.zeros(2)) is not None
    checkpoint.clear(folder)
    assert not folder.exists()


def test_a_run_that_is_refused_frees_the_folder(tmp_path):
    run(epochs=1, checkpoint_dir=tmp_path)
    with pytest.raises(checkpoint.CheckpointError) as error:
        run(learning_rate=0.25, checkpoint_dir=tmp_path)
    run(epochs=2, checkpoint_dir=tmp_path)
    assert "another key, hyperparameters" in str(error.value)  # kept, as a notebook keeps it


@pytest.mark.slow
def test_a_process_that_trains_keeps_the_folder_until_it_is_killed(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, killed_run.__file__, str(tmp_path), "stopped", "2"]
    with subprocess.Popen(command, env=environment) as child:
        deadline = time.monotonic() + 100
        while 1 not in steps_in(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(checkpoint.CheckpointError, match="another process or run is writing"):
            killed_run.complete(tmp_path)
        child.send_signal(signal.SIGKILL)
    found, expected = killed_run.complete(tmp_path), killed_run.complete(None)
    for leaf, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(leaf, wanted)
