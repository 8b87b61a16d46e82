"""Tables and figures made from records. What would make this wrong: a number that no record holds,
the wrong arm called dropout, an edit by hand that nobody notices, a quick run in a table."""

import json
import math
import os
import subprocess
import sys

import pytest
from helpers.tables import rows, script
from matplotlib.figure import Figure

from experiments.records import record
from experiments.records.record import ROOT
from experiments.report import blocks, drawing, keras_example, mnist, quickstart
from experiments.report.learning_curves import draw_run
from experiments.report.markdown import NOT_RUN

BASE = {"seeds": 2, "epochs": 2, "hidden": [1024] * 3, "rate": 0.0, "input_rate": 0.0}
PLAIN = {"test_error": [1.6, 1.8], "train_error": [0.0, 0.2]}
DROPPED = {"test_error": [1.2, 1.4], "train_error": [0.6, 0.6]}


def write(folder, experiment, final, config=None, **extra):
    result = {
        "final": final,
        "by_epoch": {k: [[2 * v, v] for v in values] for k, values in final.items()},
        "extra": extra,
    }
    config = {**BASE, **(config or {})}
    return record.write(experiment, config, result, data_sha256="ab", wall_seconds=1, folder=folder)


def write_pair(folder, experiment="mnist", **config):
    plain = write(folder, experiment, PLAIN, config, updates=120_000)
    both = {"rate": 0.5, "input_rate": 0.2, **config}
    return plain, write(folder, experiment, DROPPED, both, updates=120_000)


@pytest.fixture
def make_tables(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # no scripts/make_tablesc
    return script("make_tables").main


@pytest.mark.parametrize("name", [n for n in blocks.tables() if n != "functions"])
def test_without_records_a_table_says_so(tmp_path, name):
    assert blocks.table(name, tmp_path) == "*Not run yet.*"


def test_mnist_shows_both_arms_and_links_their_runs(tmp_path):
    paths = write_pair(tmp_path)
    plain, dropped = rows(mnist.table(tmp_path))
    assert (plain["dropout rate"], dropped["dropout rate"]) == ("none", "rate 0.5, input 0.2")
    assert plain["test error %"] == "1.70 ± 0.10"
    assert dropped["train error %"] == "0.60 ± 0.00"
    assert plain["gap"] == "1.60 ± 0.00"  # paired: both seeds have a gap of 1.6
    assert plain["seeds"] == "2" and plain["epochs (updates)"] == "2 (120000), last"
    for row, path in zip((plain, dropped), paths, strict=True):
        assert row["run"] == f"[{path.stem}](experiments/results/mnist/{path.name})"


def test_mnist_compares_at_a_like_number_of_updates(tmp_path):
    write_pair(tmp_path, max_norm=2.0)
    plain, dropped = (r["published: error % (updates)"] for r in rows(mnist.table(tmp_path)))
    assert plain == "1.66 to 1.81 (100k, Figure 4, six nets)"
    assert dropped == "1.21 to 1.43 (100k, Figure 4, six nets); 1.06 (1000k, Table 2)"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "1.25 (1000k, Table 2)"),
        ({"activation": "logistic"}, "1.35 (1000k, Table 2)"),
        ({"hidden": [898, 1532]}, "1.05 (264k, pylearn2, papers/dropout)"),
        ({"hidden": [512, 512]}, "six nets)"),
        ({"data": "fashion_mnist"}, "–"),
    ],
)
def test_the_published_network_is_the_same_network(tmp_path, config, expected):
    write_pair(tmp_path, **config)
    dropped = rows(mnist.table(tmp_path))[1]
    assert dropped["published: error % (updates)"].endswith(expected)


@pytest.mark.parametrize(
    ("rates", "shown"),
    [
        ([0.2, 0.5, 0.5], "input 0.2, hidden 0.5"),
        ([0.0, 0.5], "hidden 0.5"),
        ([0.2, 0.0, 0.0], "input 0.2"),
        ([0.2, 0.5, 0.3], "input 0.2, hidden1 0.5, hidden2 0.3"),
    ],
)
def test_a_tuple_of_rates_is_the_input_s_and_each_hidden_layer_s(tmp_path, rates, shown):
    write(tmp_path, "mnist", PLAIN, {"rates": [0.0] * len(rates)})
    write(tmp_path, "mnist", DROPPED, {"rates": rates})
    text = mnist.table(tmp_path)
    assert [row["dropout rate"] for row in rows(text)] == ["none", shown]
    assert text.count("points lower") == 1


def test_runs_that_chose_the_settings_are_left_out(tmp_path):
    write(tmp_path, "mnist", {"val_error": [1.5, 1.6], "train_error": [0.0, 0.0]})
    assert mnist.table(tmp_path) == NOT_RUN


def test_what_dropout_changes_is_said_with_its_error(tmp_path):
    write_pair(tmp_path)
    text = mnist.table(tmp_path)
    assert f"0.40 ± {math.hypot(0.1, 0.1):.2f} points lower than without" in text
    assert text.count("points lower") == 1


def test_dropout_that_hurts_is_not_called_better(tmp_path):
    write(tmp_path, "mnist", PLAIN, updates=1)
    write(tmp_path, "mnist", {**PLAIN, "test_error": [2.0, 2.2]}, {"rate": 0.5}, updates=1)
    assert "0.40 ± 0.14 points higher than without" in mnist.table(tmp_path)


def test_runs_that_differ_in_more_than_dropout_are_not_compared(tmp_path):
    write(tmp_path, "mnist", PLAIN, {"learning_rate": 0.1})
    write(tmp_path, "mnist", DROPPED, {"rate": 0.5, "learning_rate": 0.2})
    text = mnist.table(tmp_path)
    assert "points" not in text
    assert "learning" not in rows(text)[0]["dropout rate"]


def test_quick_and_superseded_runs_are_left_out(tmp_path):
    write(tmp_path, "quickstart", {"test_error": [9.0, 9.0], "train_error": [9.0, 9.0]})
    write(tmp_path, "quickstart", PLAIN)
    write(tmp_path, "quickstart", DROPPED, {"quick": True})
    (row,) = rows(quickstart.table(tmp_path))
    assert row["test error %"] == "1.70 ± 0.10"


def test_a_single_seed_shows_no_spread(tmp_path):
    final = {"test_error": [1.5], "train_error": [0.5]}
    write(tmp_path, "quickstart", final, {"seeds": 1})
    assert rows(quickstart.table(tmp_path))[0]["test error %"] == "1.50"


def test_a_generic_table_shows_what_varies_and_every_metric(tmp_path):
    write(tmp_path, "keras_example", {"speed_up": [1.51, 1.53]}, {"rate": 0.5, "method": "thin"})
    write(tmp_path, "keras_example", {"speed_up": [0.9, 0.92]}, {"rate": 0.5, "method": "mask"})
    mask, thin = rows(keras_example.table(tmp_path))
    assert (mask["method"], mask["speed up"], thin["speed up"]) == (
        "mask", "0.910 ± 0.010", "1.520 ± 0.010",
    )  # fmt: skip
    assert "rate" not in mask and "hidden" not in mask


def test_keras_example_names_the_published_accuracy(tmp_path):
    write(tmp_path, "keras_example", {"test_accuracy": [98.3, 98.5]})
    assert "Published for a larger net: 98.40 % test accuracy" in keras_example.table(tmp_path)


def measured(library, rate, **fields):
    row = {
        "suite": "masks", "library": library, "shape": [1024, 1024], "dtype": "float32",
        "rate": rate, "mode": "chained", "median_us": 12345.0, "iqr_us": 5.0,
        "ratio_to_floor": 2.5, "ratio_to_floor_iqr": 0.5, "speedup_over_flax_nnx": 12.0,
        "residual_bits": None, "repeats": 20,
    }  # fmt: skip
    return row | fields


def test_benchmark_shows_our_ratios_beside_the_aims(tmp_path):
    source = {"device": {"platform": "cpu"}, "cpu": "A CPU", "versions": {"jax": "0.1"}}
    rows = [
        measured(library, rate, ratio_to_floor=ratio, speedup_over_flax_nnx=speedup)
        for library, ratio, speedup in (
            ("x * c", 1, 9),
            ("dropout_jax", 2.34, 20),
            ("flax.nnx", 46, 1),
        )
        for rate in (0.5, 0.2)
    ]
    rows.append(measured("dropout_jax", 0.5, mode="single_call", ratio_to_floor=99))
    grad = [
        row | {"suite": "grad", "residual_bits": 1 if row["library"] == "dropout_jax" else 8}
        for row in rows
    ]
    steps = [measured("no dropout", [0.2, 0.5], ratio_to_floor=1, median_us=2000.0)]
    (tmp_path / "benchmark").mkdir()
    for suite, content in (("masks", rows), ("grad", grad), ("train_step", steps)):
        text = json.dumps({"suite": suite, "provenance": source, "rows": content})
        (tmp_path / "benchmark" / f"{suite}.json").write_text(text)
    text = blocks.table("benchmark", tmp_path)
    assert "| 1024x1024 float32 | 2.34 / 2.34 | ≤ 2.5 / ≤ 4 | 20 / 20 | ≥ 9 / ≥ 6 |" in text
    assert "| flax.nnx | 46.0 | 46.0 |" in text
    assert "| bits an element kept for the backward pass | 1 | 8 |" in text
    assert "| no dropout | 1.000 | 0.500 | 2.00 |" in text
    assert "99" not in text  # a single call is not a chained one
    assert text.count("A CPU") == 3


def test_make_tables_starts_bare_and_imports_no_jax(tmp_path):
    """The script alone, as a user starts it; jax, flax and numpy are made impossible to import."""
    blocked = tmp_path / "blocked"
    for name in ("jax", "flax", "optax", "numpy", "tyro", "dropout_jax"):
        (blocked / name).mkdir(parents=True)
        (blocked / name / "__init__.py").write_text(f"raise AssertionError('{name} is imported')")
    readme = tmp_path / "README.md"
    readme.write_text("<!-- table:mnist --><!-- /table -->")
    write_pair(tmp_path)
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/make_tables", "--pages", readme, "--results", tmp_path],
        env={"PYTHONPATH": str(blocked)}, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "1.70 ± 0.10" in readme.read_text()
    assert os.access(ROOT / "scripts/make_tables", os.X_OK)


def test_a_figure_knows_the_records_it_was_drawn_from(tmp_path, capsys):
    plain, dropped = write_pair(tmp_path)
    arguments = ["--results", str(tmp_path)]
    assert drawing.main([*arguments, "--check"]) == 1  # not drawn yet
    assert drawing.main(arguments) == 0
    path = tmp_path / "figures" / "learning_curves_mnist.png"
    assert drawing.source_of(path) == drawing.digest([plain, dropped])
    assert drawing.main([*arguments, "--check"]) == 0
    drawn = path.stat().st_mtime_ns
    assert drawing.main(arguments) == 0 and path.stat().st_mtime_ns == drawn  # nothing to do

    write(tmp_path, "mnist", PLAIN, updates=1)  # a newer run of the same config
    capsys.readouterr()
    assert drawing.main([*arguments, "--check"]) == 1
    assert capsys.readouterr().out == "figure learning_curves_mnist.png: differs from the records\n"
    for file in (tmp_path / "mnist").iterdir():
        file.unlink()
    assert drawing.main(arguments) == 0 and not path.exists()


def test_a_curve_is_the_mean_over_seeds_and_its_band_one_standard_error(tmp_path):
    _, dropped = write_pair(tmp_path)
    axis = Figure().subplots()
    draw_run(axis, record.read(dropped), "C0")
    test, train = axis.get_lines()
    assert list(test.get_xdata()) == [1, 2]
    assert test.get_ydata() == pytest.approx([2.6, 1.3])
    assert train.get_ydata() == pytest.approx([1.2, 0.6])
    assert (test.get_linestyle(), train.get_linestyle()) == ("-", "--")
    assert test.get_label() == "test, dropout rate 0.5, input 0.2"
    band = axis.collections[0].get_paths()[0].vertices
    assert {round(y, 6) for x, y in band if x == 2} == {1.2, 1.4}


def test_a_diverged_run_still_has_a_figure(tmp_path):
    write(tmp_path, "mnist", {"test_error": [math.nan, 90.0], "train_error": [90.0, 90.0]})
    assert drawing.main(["--results", str(tmp_path)]) == 0
    assert (tmp_path / "figures" / "learning_curves_mnist.png").stat().st_size > 0


def test_the_figures_are_as_the_committed_records_say(capsys):
    assert drawing.main(["--check"]) == 0, capsys.readouterr()
