"""Settings chosen on validation data. What would make this wrong: trials of another row or
budget, a record that stands for settings chosen since."""

import dataclasses
import math

import pytest
from helpers.paper_records import by_row, write
from helpers.tables import rows

from experiments import dataset_size_figure10, mnist_table2
from experiments.harness import grid
from experiments.nets.config import MLPStudy
from experiments.report import mlp_rows
from experiments.report import mnist_table2 as report


def test_a_run_with_settings_chosen_later_takes_the_place_of_an_earlier_one(tmp_path):
    row, other = "dropout_100", "standard_100"
    write(tmp_path, dataset_size_figure10, row, [26.0, 25.0], max_norm=(3.2, 2, 2, 2))
    write(tmp_path, dataset_size_figure10, other, [27.0, 26.0])
    last = write(tmp_path, dataset_size_figure10, row, [24.0, 23.0, 22.0], learning_rate=0.03)
    write(tmp_path, dataset_size_figure10, row, [1.0], validation=10_000)
    write(tmp_path, dataset_size_figure10, row, [2.0], quick=True)
    longer = write(tmp_path, dataset_size_figure10, row, [20.0], updates=200_000)
    found = mlp_rows.reported_runs(tmp_path, "dataset_size_figure10")
    assert [r.path for r in found if r.config["row"] == row] == [last, longer]
    assert len(found) == 3


def test_a_row_takes_the_best_of_its_own_trials(tmp_path):
    row = "dropout_relu_maxnorm_3x1024"
    config = dataclasses.replace(by_row(mnist_table2)[row], budget="paper", updates=7, out=tmp_path)
    assert grid.with_best_settings("mnist_table2", config) == config
    more = dict(updates=7, validation=10_000)
    write(tmp_path, mnist_table2, row, [1.3], learning_rate=0.2, **more)
    write(tmp_path, mnist_table2, row, [1.1], learning_rate=0.05, max_norm=(3.2, 2, 2, 2), **more)
    write(tmp_path, mnist_table2, row, [math.nan], learning_rate=0.4, **more)
    write(tmp_path, mnist_table2, row, [0.1], learning_rate=0.3, updates=7)  # read the test set
    write(tmp_path, mnist_table2, row, [0.2], learning_rate=0.3, updates=8, validation=10_000)
    other = "dropout_relu_3x1024"
    write(tmp_path, mnist_table2, other, [0.2], learning_rate=0.3, **more)
    chosen = grid.with_best_settings("mnist_table2", config)
    assert (chosen.learning_rate, chosen.max_norm) == (0.05, (3.2, 2, 2, 2))
    assert dataclasses.replace(chosen, learning_rate=0.1, max_norm=config.max_norm) == config


@pytest.mark.parametrize("own", [True, False])
def test_settings_may_come_from_shorter_trials_and_the_table_says_so(tmp_path, own):
    """Those of the length that is asked for, whether or not a budget has it."""
    row = "dropout_relu_maxnorm_3x1024"
    config = dataclasses.replace(
        by_row(mnist_table2)[row], budget="own", updates=900, tuned_at=7, out=tmp_path
    )
    for rate, error in ((0.05, 1.3), (0.2, 1.1)):
        more = dict(updates=7, validation=10_000, own=own, learning_rate=rate)
        write(tmp_path, mnist_table2, row, [error], **more)
    write(tmp_path, mnist_table2, row, [0.1], learning_rate=0.4, updates=900, validation=10_000)
    assert grid.with_best_settings("mnist_table2", config).learning_rate == 0.2
    write(tmp_path, mnist_table2, row, [1.2], learning_rate=0.2, updates=900, own=True, tuned_at=7)
    (found,) = (r for r in rows(report.table(tmp_path)) if r["row"] == row)
    assert found["settings"].endswith("; best of 2 on validation, after 7 updates")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tuned-at", "7"], "with --tune --updates 7"),
        (["--tuned-at", "7", "--tune"], "leave out --tune and --quick"),
        (["--tuned-at", "7", "--quick"], "leave out --tune and --quick"),
        (["--tuned-at", "900"], "of other length"),
        (["--tuned-at", "-3"], "of other length"),
    ],
)
def test_settings_of_no_trials_are_refused_before_anything_runs(tmp_path, capsys, flags, message):
    rows = ["--rows", "standard_relu_3x1024", "dropout_relu_maxnorm_3x1024"]
    with pytest.raises(SystemExit) as stop:
        mnist_table2.main(["--updates", "900", "--out", str(tmp_path), *rows, *flags])
    printed = capsys.readouterr().err
    assert stop.value.code == 2 and message in printed and len(printed.splitlines()) == 1


def test_flags_go_before_the_budget_and_an_unknown_row_is_named(tmp_path):
    ours = MLPStudy(out=tmp_path)
    budget, configs = mnist_table2.BUDGETS["cpu"], mnist_table2.grid("cpu")
    planned = grid.configs_of(ours, budget, configs)
    assert {c.row for c in planned} == set(budget.rows)
    assert {(c.seeds, c.updates, c.budget) for c in planned} == {(3, 12_000, "cpu")}
    ours = MLPStudy(seeds=1, updates=5, rows=("dropout_relu_3x1024",))
    (one,) = grid.configs_of(ours, budget, configs)
    assert (one.seeds, one.updates) == (1, 5)
    assert one.budget == "own"  # not to be compared with numbers at the budget's updates
    with pytest.raises(ValueError, match="no row is called 'x'"):
        grid.configs_of(MLPStudy(rows=("x",)), budget, configs)
