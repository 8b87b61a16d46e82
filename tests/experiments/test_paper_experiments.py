"""The experiments on the paper's tables and figures, run at --quick. What would make this wrong: a
record that is not of its config, a row that is run twice or not at all."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.paper_records import GRIDS, NAMES, by_row, launched
from helpers.small_data import images

from dropout_jax import data
from dropout_jax.train.runner import NonFiniteLossError
from experiments import (
    dataset_size_figure10,
    features_figures7_8,
    gaussian_table10,
    mnist_table2,
    monte_carlo_figure11,
    past_the_paper,
    regularizers_table9,
)
from experiments.harness import grid
from experiments.records import record


@pytest.mark.slow
def test_errors_of_averages_are_those_of_every_draw():
    """Two passes of three are right on a case: an average of all is right, a single one 2 in 3."""
    right, wrong = jnp.array([[0.9, 0.1]]), jnp.array([[0.2, 0.8]])
    samples, y = jnp.stack([right, right, wrong]), jnp.array([0])
    key = jax.random.key(0)
    assert monte_carlo_figure11.draw_errors(key, samples, y, 3, 5).tolist() == [0] * 5
    single = monte_carlo_figure11.draw_errors(key, samples, y, 1, 40)
    assert set(single.tolist()) == {0.0, 100.0}  # 40 draws miss one of them once in 1e7


@pytest.mark.slow
def test_averages_of_any_number_of_passes_are_one_program():
    """The pool is an argument of it: as a constant it would be compiled for every k and network."""
    y, compiled = jnp.array([0, 1, 1, 0, 1]), monte_carlo_figure11.weighted_errors._cache_size()
    for seed in (0, 1):
        samples = jax.random.uniform(jax.random.key(seed), (4, 5, 2))
        for k in (1, 2, 4):
            monte_carlo_figure11.draw_errors(jax.random.key(k), samples, y, k, 7)
    assert monte_carlo_figure11.weighted_errors._cache_size() == compiled + 1


def is_of(found, module, row):
    """The record is of the row of the CPU grid, at the CPU budget."""
    budget = module.BUDGETS["cpu"]
    plan = {"budget": "cpu", "updates": budget.updates, "seeds": 2, "quick": True}
    config = dataclasses.replace(by_row(module, "cpu")[row], **plan)
    return found.config == record.recorded_config(config)


@pytest.mark.parametrize("module", GRIDS, ids=NAMES.get)
def test_a_command_runs_its_rows_once(small_images, tmp_path, monkeypatch, module):
    """With training left out."""
    seen = []

    def run(config, checkpoint_dir):
        seen.append(config)
        return {"final": {"test_error": [1.0] * 2, "train_error": [0.5] * 2},
                "extra": {"updates": 1}}  # fmt: skip

    monkeypatch.setattr(module, "run", run)
    row = list(by_row(module, "cpu"))[0]
    (found,) = launched(module, tmp_path, "--rows", row)
    assert is_of(found, module, row) and len(seen) == 1
    launched(module, tmp_path, "--rows", row)
    assert len(seen) == 1  # the record is there


def test_tuning_reads_validation_images_with_one_seed(small_images, tmp_path, monkeypatch):
    def run(config, checkpoint_dir):
        return {"final": {"val_error": [config.learning_rate], "train_error": [0.5]},
                "extra": {"updates": 1}}  # fmt: skip

    monkeypatch.setattr(mnist_table2, "run", run)
    mnist_table2.main(["--tune", "--rows", "dropout_relu_3x1024", "--out", str(tmp_path)])
    found = record.read_all("mnist_table2", tmp_path)
    assert {r.config["learning_rate"] for r in found} == {0.05, 0.1, 0.2}
    assert {(r.config["validation"], r.config["seeds"]) for r in found} == {(100, 1)}


@pytest.fixture
def high_rates_diverge(monkeypatch):
    """Training left out; the list of the learning rates that it was asked for."""
    asked = []

    def run(config, checkpoint_dir):
        asked.append(config.learning_rate)
        if config.learning_rate > 0.15:
            raise NonFiniteLossError("the loss is not finite at step 3")
        held_out = "val_error" if config.validation else "test_error"
        errors = [1.0 + config.learning_rate] * config.seeds
        return {"final": {held_out: errors, "train_error": errors}, "extra": {"updates": 1}}

    monkeypatch.setattr(mnist_table2, "run", run)
    return asked


def test_a_trial_that_diverges_has_a_record_and_is_not_chosen(
    small_images, tmp_path, high_rates_diverge
):
    row, asked = "dropout_relu_3x1024", high_rates_diverge  # learning rates 0.05, 0.1 and 0.2
    command = ["--rows", row, "--tune", "--seeds", "2", "--out", str(tmp_path)]
    mnist_table2.main(command)
    found = {r.config["learning_rate"]: r for r in record.read_all("mnist_table2", tmp_path)}
    assert all(map(math.isnan, found[0.2].final["val_error"] + found[0.2].final["train_error"]))
    assert found[0.2].extra == {"updates": 0}
    mnist_table2.main(command)
    assert len(asked) == 3  # none is made again
    config = by_row(mnist_table2, "cpu")[row]
    config = dataclasses.replace(config, budget="cpu", updates=12_000, out=tmp_path)
    assert grid.with_best_settings("mnist_table2", config).learning_rate == 0.05


def test_a_row_that_diverges_does_not_keep_the_next_from_running(
    small_images, tmp_path, high_rates_diverge, monkeypatch, capsys
):
    rows = ["dropout_logistic_3x1024", "dropout_relu_3x1024"]
    monkeypatch.setitem(mnist_table2.NETS["logistic_3x1024"], "learning_rate", 0.5)
    with pytest.raises(SystemExit) as stop:
        mnist_table2.main(["--rows", *rows, "--out", str(tmp_path)])
    assert stop.value.code == 1
    output = capsys.readouterr()
    untuned = "{}: 0 of 3 settings were compared on validation data under {}; --tune compares them"
    assert output.err.splitlines() == [
        untuned.format(rows[0], tmp_path),
        "dropout_logistic_3x1024: the loss is not finite at step 3",
        untuned.format(rows[1], tmp_path),
    ]
    (found,) = record.read_all("mnist_table2", tmp_path)
    assert found.config["row"] == "dropout_relu_3x1024" and found.path.name in output.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "row"),
    [
        (mnist_table2, "dropout_maxnorm_maxout_2x5x240"),
        (regularizers_table9, "l2_kl_sparsity"),
        (gaussian_table10, "mnist_gaussian"),
        (past_the_paper, "dropout_r_drop"),
        (dataset_size_figure10, "dropout_100"),
    ],
    ids=lambda value: value if isinstance(value, str) else NAMES[value],
)
def test_a_row_of_another_kind_of_net_is_the_record_of_its_row(small_images, tmp_path, module, row):
    """The first row of each grid runs in test_quick."""
    (found,) = launched(module, tmp_path, "--rows", row)
    assert is_of(found, module, row)
    images = found.config["training_cases"] or 400
    assert found.extra["updates"] == found.extra["evaluated_at"][-1] == 2 * images // 100
    assert {"test_error", "train_error"} <= set(found.final)


def test_filters_are_shown_where_images_have_ink():
    images = jnp.zeros((100, 3)).at[:, 1].set(0.5).at[7, 2].set(0.5)
    assert features_figures7_8.often_lit(images).tolist() == [False, True, True]
    assert features_figures7_8.often_lit(jnp.tile(images, (2, 1)).at[7].set(0)).tolist() == [
        False, True, False,
    ]  # fmt: skip


def test_histograms_of_both_arms_have_the_same_bins_and_lose_nothing():
    small, large = (
        features_figures7_8.histograms(scale * np.arange(12.0).reshape(4, 3)) for scale in (0.1, 9)
    )
    for name, count in (("unit_means", 3), ("activities", 12)):
        np.testing.assert_array_equal(small[f"{name}_edges"], large[f"{name}_edges"])
        assert small[name].sum() == large[name].sum() == count
        assert large[name][-1] and not small[name][-1]  # what is larger is in the last bin


@pytest.mark.slow
def test_an_autoencoder_learns_what_is_not_the_mean_image(monkeypatch):
    same = images()._replace(train_x=np.ones((400, 16)), test_x=np.ones((200, 16)))
    monkeypatch.setattr(data, "load", lambda name, data_dir=None: same)
    final = features_figures7_8.run(features_figures7_8.Config(seeds=1, quick=True))["final"]
    assert (final["test_reconstruction"][0], final["zero_percent"][0]) == (0, 100)
