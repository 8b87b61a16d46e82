"""The first experiments, at --quick. What would make this wrong: a record of other settings than
were run, arms mixed up, a resumed run that is another run, a page of text for a typing error."""

import contextlib
import dataclasses
import io
import re
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from helpers.small_data import images
from PIL import Image

import dropout_jax as dj
from dropout_jax import data
from dropout_jax.train import checkpoint, runner
from experiments import keras_example, mnist, quickstart, rerun
from experiments.harness import once
from experiments.records import record
from experiments.report.drawing import SOURCE, digest

pytestmark = pytest.mark.slow

EXPERIMENTS = [quickstart, mnist, keras_example]
SMALL = ["--quick", "--seeds", "2", "--hidden", "8", "8"]


class Saved(list):
    """The epochs that were saved; Ctrl-C is pressed when epoch `interrupt` has been."""

    interrupt = None


@pytest.fixture
def saved(monkeypatch):
    epochs, save = Saved(), checkpoint.save

    def spy(manager, epoch, *content):
        save(manager, epoch, *content)
        epochs.append(epoch)
        if epoch == epochs.interrupt:
            epochs.interrupt = None
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", spy)
    return epochs


@pytest.fixture
def not_trained(monkeypatch, small_images):
    """In place of training: the configs asked for, and whether there were checkpoints."""
    calls = []

    def run(config, checkpoint_dir):
        calls.append((config, checkpoint_dir.exists()))
        checkpoint_dir.mkdir(parents=True, exist_ok=True)
        return {"final": {name: [1.0] * config.seeds for name in ("test_error", "train_error")}}

    monkeypatch.setattr(mnist, "run", run)
    return calls


def exits(capsys, module, *argv):
    with pytest.raises(SystemExit) as stop:
        module.main([str(a) for a in argv])
    return stop.value.code, capsys.readouterr()


def numbers(r):
    return r.final, r.by_epoch


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """The quickstart once: its folder, what it printed, and how many runs each program trained."""
    out, programs, text, run = tmp_path_factory.mktemp("out"), [], io.StringIO(), runner.run

    def spy(loop, state, *arguments, **options):
        programs.append(state.key.shape)
        return run(loop, state, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(text):
        patch.setattr(runner, "run", spy)
        quickstart.main([*SMALL, "--examples", "60", "--out", str(out)])
    return out, text.getvalue(), programs


def test_quickstart_trains_both_arms_in_one_program_and_records_both(started):
    out, _, programs = started
    assert programs == [(4,)]
    plain, dropped = sorted(record.read_all("quickstart", out), key=lambda r: r.config["rate"])
    assert (plain.config["rate"], plain.config["input_rate"]) == (0, 0)
    assert (dropped.config["rate"], dropped.config["input_rate"]) == (0.5, 0.1)
    assert {**plain.config, "rate": 0.5, "input_rate": 0.1} == dropped.config
    for r in (plain, dropped):
        assert set(r.final) == set(r.by_epoch) == {"test_error", "train_error"}
        assert np.shape(r.by_epoch["test_error"]) == (2, 3)
        assert r.extra["updates"] == 6 and r.extra["epoch_chosen"] == "last"  # 3 epochs of 60
        assert r.provenance["data_sha256"] == {"digits": data.load_digits().sha256}
    assert plain.final != dropped.final


def test_quickstart_prints_the_table_and_draws_its_records(started):
    out, text, _ = started
    for words in ("no dropout", "dropout rate 0.5, input 0.1", "gap", "points"):
        assert words in text
    assert len(re.findall(r"\d ± \d", text)) == 7  # two arms' test, train, gap; the difference
    picture = out / "figures" / "learning_curves_quickstart_quick.png"
    assert f"picture: {picture}\n" in text
    with Image.open(picture) as image:
        assert image.info[SOURCE] == digest([r.path for r in record.read_all("quickstart", out)])


@pytest.mark.slow
def test_a_record_of_the_quickstart_runs_again_bit_for_bit(started, capsys):
    """Each by itself: so the arms are not mixed up, and the one without depends on no rate."""
    for path in (started[0] / "quickstart").iterdir():
        code, output = exits(capsys, rerun, path)
        assert (code, output.out) == (0, "test_error: equal\ntrain_error: equal\n")


def test_quickstart_resumes_from_its_records_alone(started, monkeypatch, capsys):
    monkeypatch.setattr(runner, "run", None)  # cannot be called
    out = started[0]
    quickstart.main([*SMALL, "--examples", "60", "--out", str(out)])
    assert capsys.readouterr().out == started[1]
    assert len(record.read_all("quickstart", out)) == 2


def test_quickstart_without_dropout_is_no_comparison(capsys):
    code, output = exits(capsys, quickstart, "--rate", "0", "--input-rate", "0", "--quick")
    assert code == 2 and "both 0" in output.err


def test_mnist_records_the_arm_asked_for_and_the_same_net_without_dropout(
    small_images, tmp_path, capsys
):
    mnist.main([*SMALL, "--max-norm", "3", "--out", str(tmp_path)])
    plain, dropped = record.read_all("mnist", tmp_path)
    assert plain.config == {**dropped.config, "rates": [0, 0, 0]}
    assert (dropped.config["rates"], dropped.config["max_norm"]) == ([0.2, 0.5, 0.5], 3)
    for r in (plain, dropped):
        assert np.shape(r.by_epoch["train_error"]) == (2, 2)
        assert [v[-1] for v in r.by_epoch["test_error"]] == r.final["test_error"]
        assert r.extra["updates"] == 8 and r.extra["epoch_chosen"] == "last"
        assert r.provenance["data_sha256"] == {"mnist": "ab" * 32}
    assert "points" in capsys.readouterr().out
    assert list((tmp_path / "mnist" / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "rates"),
    [
        ([], [[0, 0, 0], [0.2, 0.5, 0.5]]),
        (["--alone"], [[0.2, 0.5, 0.5]]),
        (["--rates", "0", "0", "0"], [[0, 0, 0]]),
    ],
)
def test_which_arms_mnist_trains(not_trained, tmp_path, capsys, argv, rates):
    mnist.main([*SMALL, "--max-norm", "None", *argv, "--out", str(tmp_path)])
    records = record.read_all("mnist", tmp_path)
    assert [r.config["rates"] for r in records] == rates
    assert {r.config["max_norm"] for r in records} == {None}
    assert capsys.readouterr().out.count("points") == len(rates) - 1


def test_every_setting_of_mnist_reaches_the_training(monkeypatch):
    """And where settings are chosen, the test set is not read."""
    config = mnist.Config(
        seeds=2, hidden=(8, 4), rates=(0.1, 0.2, 0.3), max_norm=0.5, epochs=7, batch_size=50,
        learning_rate=0.4, momentum=0.8, validation=100,
    )  # fmt: skip
    asked = {}

    def train_seeds(build, optimizer, splits, **options):
        asked.update(options, build=build, optimizer=optimizer, splits=splits)
        raise InterruptedError

    without = images()._replace(test_x=None, test_y=None)
    monkeypatch.setattr(data, "load", lambda name, data_dir: without)
    monkeypatch.setattr(mnist, "train_seeds", train_seeds)
    with pytest.raises(InterruptedError):
        mnist.run(config)
    assert (asked["seeds"], asked["epochs"], asked["batch_size"]) == (2, 7, 50)
    assert {k: len(x) for k, (x, _) in asked["splits"].items()} == {"train": 300, "val": 100}
    model = asked["build"](nnx.Rngs(0), {})
    assert [linear.kernel.shape for linear in model.linears] == [(16, 8), (8, 4), (4, 10)]
    assert [float(drop.rate) for drop in model.dropouts] == pytest.approx([0.1, 0.2, 0.3])

    def moved(params, steps):
        """The weights after steps of a gradient of 1, of 42 updates in all."""
        optimizer = asked["optimizer"](42)
        state = optimizer.init(params)
        for _ in range(steps):
            grads = jax.tree.map(np.ones_like, params)
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return params

    params = nnx.state(model, nnx.Param)
    zeros = jax.tree.map(np.zeros_like, params)
    bias = [float(moved(zeros, n)["linears"][0]["bias"][...][0]) for n in (1, 2)]
    half_cosine = (1 + np.cos(np.pi / 42)) / 2
    assert bias == pytest.approx([-0.4, -0.4 - 0.4 * half_cosine * 1.8])
    lengths = np.linalg.norm(moved(params, 1)["linears"][1]["kernel"][...], axis=0)
    assert lengths.max() == pytest.approx(0.5)


@pytest.mark.slow
def test_an_interrupted_mnist_run_goes_on_bitwise(small_images, saved, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    argv = [*SMALL, "--alone", "--out"]
    mnist.main([*argv, str(whole)])
    assert saved == [1, 2]

    saved.interrupt = 1
    with pytest.raises(SystemExit) as stop:
        mnist.main([*argv, str(cut)])
    assert stop.value.code == 130
    # The second time at the end, for the run was not told that the first had succeeded.
    assert record.read_all("mnist", cut) == [] and saved == [1, 2, 1, 1]
    mnist.main([*argv, str(cut)])
    assert saved == [1, 2, 1, 1, 2]  # epoch 1 was not trained again
    (one,), (other,) = record.read_all("mnist", whole), record.read_all("mnist", cut)
    assert numbers(one) == numbers(other)

    mnist.main([*argv, str(cut)])
    assert len(saved) == 5 and len(record.read_all("mnist", cut)) == 1  # the record is there


def test_only_a_fresh_run_does_not_go_on(not_trained, tmp_path):
    argv, config = [*SMALL, "--alone", "--out", str(tmp_path)], mnist.Config(out=tmp_path)
    config = dataclasses.replace(config, seeds=2, quick=True, hidden=(8, 8))
    once.checkpoint_folder("mnist", config).mkdir(parents=True)
    mnist.main(argv)
    once.checkpoint_folder("mnist", config).mkdir(parents=True)
    mnist.main([*argv, "--fresh"])
    assert [there for _, there in not_trained] == [True, False]
    mnist.main(argv)
    assert len(not_trained) == 2  # the record is there


def test_runs_of_other_settings_have_other_checkpoints(tmp_path):
    config = mnist.Config(out=tmp_path)
    changes = {"rates": (0.0,) * 3, "seeds": 4, "learning_rate": 0.2, "epochs": 31, "quick": True}
    configs = [config, *(dataclasses.replace(config, **{k: v}) for k, v in changes.items())]
    assert len({once.checkpoint_folder("mnist", c) for c in configs}) == len(configs)
    assert once.checkpoint_folder("mnist", dataclasses.replace(config, fresh=True)) == (
        once.checkpoint_folder("mnist", config)
    )


@pytest.mark.slow
def test_mnist_reads_the_real_images(mnist_dir, tmp_path):
    mnist.main(["--quick", "--seeds", "1", "--alone", "--hidden", "128", "128",
                "--data-dir", str(mnist_dir), "--out", str(tmp_path)])  # fmt: skip
    (r,) = record.read_all("mnist", tmp_path)
    # Chance is an error of 90 %, give or take 0.7 on 2000 images.
    assert r.final["test_error"][0] < 85 and r.extra["updates"] == 40


@pytest.mark.compare
@pytest.mark.slow
def test_keras_and_ours_side_by_side(small_images, tmp_path, capsys):
    pytest.importorskip("keras", reason="keras is absent: pip install -e .[compare]")
    with jax.numpy_rank_promotion("allow"):  # Keras adds its biases so
        keras_example.main([*SMALL, "--out", str(tmp_path)])
    (r,) = record.read_all("keras_example", tmp_path)
    assert set(r.final) == {
        "test_accuracy", "keras_test_accuracy", "seconds_an_epoch", "keras_seconds_an_epoch",
        "speed_up",
    }  # fmt: skip
    assert min(r.final["seconds_an_epoch"] + r.final["keras_seconds_an_epoch"]) > 0
    both = zip(r.final["keras_seconds_an_epoch"], r.final["seconds_an_epoch"], strict=True)
    assert r.final["speed_up"] == [theirs / ours for theirs, ours in both]
    assert np.shape(r.by_epoch["keras_test_accuracy"]) == (2, 2)
    assert all(0 <= v <= 100 for v in r.final["test_accuracy"] + r.final["keras_test_accuracy"])
    text = capsys.readouterr().out
    assert re.search(r"difference of the accuracies: [+-]\d+\.\d\d ± \d+\.\d\d points", text)
    keras_example.main([*SMALL, "--out", str(tmp_path)])
    assert capsys.readouterr().out == text


@pytest.mark.compare
def test_both_sides_start_from_the_same_distribution(monkeypatch):
    """The same layers, Glorot's bounds filled to within a few percent, and biases of 0."""
    keras = pytest.importorskip("keras", reason="keras is absent: pip install -e .[compare]")
    found, config = {}, keras_example.Config(hidden=(128, 64))

    def keep_ours(model, *_, **__):
        linears = [nnx.to_pure_dict(nnx.state(layer, nnx.Param)) for layer in model.linears]
        found["ours"] = [layer[name] for layer in linears for name in ("kernel", "bias")]
        return runner.History(np.ones(1), {"val_error": np.zeros(1)}, np.ones(1))

    monkeypatch.setattr(dj, "fit", keep_ours)
    splits = [(images().train_x, images().train_y)] * 2
    keras_example.train_ours(config, splits, 0, 1)

    def keep_keras(model, *_, **__):
        found["keras"] = [np.asarray(weight.value) for weight in model.trainable_variables]
        return type("History", (), {"history": {"val_accuracy": [0.0]}})

    monkeypatch.setattr(keras.Sequential, "fit", keep_keras)
    keras_example.train_keras(keras, config, splits, 0, 1)
    assert [w.shape for w in found["ours"]] == [w.shape for w in found["keras"]]
    for weights in found["ours"] + found["keras"]:
        bound = np.sqrt(6 / sum(weights.shape)) if weights.ndim == 2 else 0
        # 640 uniform draws at least: one of them fails to exceed 0.95 in 1e-14 of all cases.
        assert 0.95 * bound <= np.abs(weights).max() <= bound


def test_without_keras_the_error_says_how_to_get_it(monkeypatch, small_images, capsys):
    monkeypatch.setitem(sys.modules, "keras", None)
    code, output = exits(capsys, keras_example, "--quick")
    assert code == 2 and output.err.count("\n") == 1
    assert "pip install -e .[compare]" in output.err


def test_keras_needs_an_epoch_to_time(small_images, capsys):
    code, output = exits(capsys, keras_example, "--epochs", "1")
    assert code == 2 and "--epochs is 1; write 2 or more" in output.err


@pytest.mark.parametrize("module", EXPERIMENTS)
@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--no-such-flag"], "--no-such-flag"),
        (["--{rate}", "1.5"], "rate is 1.5, and must lie between 0 and 1"),
        (["--{rate}", "half"], "half"),
        (["--seeds", "0", "--quick"], "--seeds is 0; write 1 or more"),
        (["--out", "{file}"], "cannot be written"),
    ],
)
def test_a_mistake_costs_one_line(module, argv, words, small_images, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    rate = "rates" if module is mnist else "rate"
    argv = [a.format(file=tmp_path / "file", rate=rate) for a in argv]
    code, output = exits(capsys, module, *argv)
    assert code == 2 and output.out == ""
    assert output.err.startswith("error: ") and output.err.count("\n") == 1
    assert words in output.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--rates", "0.5"], "rates has 1 and 3 are needed"),
        (["--dataset", "cifar"], "cifar"),
        (["--max-norm", "0"], "c = 0.0; write a length above 0"),
        (["--batch-size", "0"], "batch_size is 0"),
        (["--epochs", "0"], "--epochs is 0"),
        (["--validation", "400"], "take from 1 to 399"),
    ],
)
def test_a_wrong_setting_of_mnist_costs_one_line(argv, words, small_images, tmp_path, capsys):
    code, output = exits(capsys, mnist, *argv, "--out", tmp_path)
    assert code == 2 and output.err.count("\n") == 1 and words in output.err
    assert record.read_all("mnist", tmp_path) == []


def test_missing_images_cost_one_line(tmp_path, capsys):
    code, output = exits(capsys, mnist, "--data-dir", tmp_path, "--out", tmp_path)
    assert code == 2 and output.err.count("\n") == 1
    assert "train-images-idx3-ubyte.gz is missing" in output.err


def test_from_the_shell_a_mistake_is_exit_code_2_and_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.mnist", "--rates", "0.5", "2", "0.5"],
        cwd=record.ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "rate is 2.0" in done.stderr


@pytest.mark.parametrize("module", EXPERIMENTS)
def test_help_says_what_each_flag_is(module, capsys):
    code, output = exits(capsys, module, "--help")
    assert code == 0 and output.err == ""
    text = " ".join(output.out.replace("│", " ").split())
    for name in (f.name for f in dataclasses.fields(module.Config)):
        flag = {"data": "dataset"}.get(name, name).replace("_", "-")
        # The flag, what it takes in capitals or braces, and at least two words on what it is.
        assert re.search(rf"--{flag} (\S*[A-Z{{]\S* |\[.*?\]+ |\.\.\. )*[a-z]\S* \S+", text), flag


@pytest.mark.parametrize("module", EXPERIMENTS)
def test_the_docstring_says_what_to_run_and_to_expect(module):
    name = module.__name__
    for words in ("Claim", f"Command: python -m {name}", "Time:", "Expected:"):
        assert words in module.__doc__
