"""Two processes of four devices each, on the loopback address, beside one process of eight.

What would make this wrong: another run than that of one process; data of one process taken for the
data of all; two bars; a checkpoint that only two processes can read; a process that waits forever
for one that was killed.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.process_of_many import EPOCHS, fit, mesh_of_all, model_on, numbers, spread

import dropout_jax as dj
from dropout_jax.train import processes

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes printed, how they ended, and the folder in which they worked."""
    folder = tmp_path_factory.mktemp("two")
    begin_in_one(folder / "begun")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=4")
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "helpers.process_of_many", str(i), "2", str(port), str(folder)],
            env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    try:
        printed = [process.communicate(timeout=150) for process in started]
    finally:
        for process in started:
            process.kill()
    found = [
        [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        for out, _ in printed
    ]
    assert all(map(len, found)), printed
    return {
        "found": [lines[0] for lines in found],
        "errors": [error for _, error in printed],
        "codes": [process.returncode for process in started],
        "folder": folder,
    }


def begin_in_one(folder):
    """The first epoch of a run, here, that two processes go on with."""
    x, y = spread(mesh_of_all())
    fit(model_on(mesh_of_all()), x, y, epochs=1, checkpoint_dir=folder, progress=False)


@pytest.fixture(scope="module")
def one():
    """The same run in this process."""
    x, y = spread(mesh_of_all())
    model = model_on(mesh_of_all())
    history = fit(model, x, y, progress=False)
    return model, history, x, y


@pytest.mark.slow
def test_two_processes_train_evaluate_and_predict_as_one(two, one):
    model, history, x, y = one
    first, second = two["found"]
    assert first == second
    prediction = dj.mc_predict(jax.random.key(1), model, x, samples=4).mean
    # A few hundred sums in another order: some dozen roundings of 2^-24.
    close = {"rtol": 1e-5}
    np.testing.assert_allclose(first["loss"], history["loss"], **close)
    np.testing.assert_allclose(first["val_loss"], history["val_loss"], **close)
    np.testing.assert_allclose(first["prediction"], (prediction**2).sum(), **close)
    for name, value in dj.evaluate(model, x, y).items():
        np.testing.assert_allclose(first["evaluate"][name], value, **close)


@pytest.mark.slow
def test_data_of_one_process_are_refused(two):
    for found in two["found"]:
        assert "is of this process alone, and there are 2" in found["fit of NumPy"]
        assert "jax.make_array_from_process_local_data(" in found["fit of NumPy"]
        assert "is of this process alone" in found["evaluation of NumPy"]
        assert found["validation of NumPy"].startswith("the x of val is of this process alone")


@pytest.mark.slow
def test_the_first_process_shows_the_bar(two):
    assert f"{EPOCHS}/{EPOCHS}" in two["errors"][0]
    assert "epoch/s" not in two["errors"][1]


@pytest.mark.slow
def test_one_process_reads_what_two_have_saved(two, one):
    model, _, x, y = one
    loaded = model_on(mesh_of_all())
    dj.load(two["folder"] / "model", loaded)
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-4, atol=1e-5)
    for found in two["found"]:
        assert found["restored"] == found["evaluate"]


@pytest.mark.slow
def test_two_processes_go_on_with_what_one_has_begun(two, one):
    assert "going on from epoch 1" in two["errors"][0]
    for found in two["found"]:
        np.testing.assert_allclose(found["begun"], one[1]["loss"], rtol=1e-5)


@pytest.mark.slow
def test_a_run_of_which_a_process_was_killed_ends_and_goes_on_in_one(two, capsys):
    assert two["codes"][1] == 9 and two["codes"][0] != 0
    # The connection breaks at once, or is silent until JAX misses the heartbeat of the other.
    ours = "process 0 of 2 lost another one, which has ended or cannot be reached: "
    assert (ours in two["errors"][0]) or ("another task died" in two["errors"][0])
    x, y = spread(mesh_of_all())
    killed = two["folder"] / "killed"
    epochs = max(int(path.name.split("-")[1].split(".")[0]) for path in killed.glob("*.npz")) + 2
    model = model_on(mesh_of_all())
    history = fit(model, x, y, epochs=epochs, checkpoint_dir=killed, progress=False)
    assert "going on from epoch" in capsys.readouterr().err
    whole = fit(model_on(mesh_of_all()), x, y, epochs=epochs, progress=False)
    np.testing.assert_allclose(history["loss"], whole["loss"], rtol=1e-4)


def test_what_is_refused_of_several_processes(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for data in (numbers(), jax.numpy.ones(3)):
        with pytest.raises(ValueError, match=r"x is of this process alone, and there are 2"):
            processes.check_shared("x", data)


def test_an_error_that_is_no_loss_of_a_process_passes(monkeypatch):
    def failing(words):
        with processes.losses_explained(lambda: "nothing saved"):
            raise jax.errors.JaxRuntimeError(words)

    with pytest.raises(jax.errors.JaxRuntimeError):
        failing("Gloo AllGather failed")  # one process
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(RuntimeError, match=r"lost another one.*: nothing saved\. Start all"):
        failing("Gloo AllGather failed")
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        failing("RESOURCE_EXHAUSTED: out of memory")
