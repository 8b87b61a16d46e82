"""The tables and the figure of the small GPT, of made-up records.

What would make this wrong: a gain with the wrong sign or of other seeds, a crossing where a seed
has none, a run of places or schedules that is taken for one of the crossing.
"""

import math

import numpy as np
import pytest
from helpers.tables import rows
from matplotlib.figure import Figure

from experiments import shakespeare as experiment
from experiments.records import record
from experiments.report import benchmark_gpt, shakespeare, shakespeare_places, shakespeare_rows
from experiments.report.markdown import NOT_RUN
from experiments.report.values import value


def write(folder, losses, share=1.0, rate=0.0, updates: int | None = 1000, **config):
    config = experiment.Config(seeds=len(losses), share=share, rate=rate, updates=updates, **config)
    best = [loss - 0.1 for loss in losses]
    final = {"val_loss": losses, "best_val_loss": best, "train_loss": losses}
    extra = {"passes_over_the_text": 2 / share, "updates": updates or 2000}
    result = {"final": final, "extra": extra}
    record.write("shakespeare", config, result, data_sha256=None, wall_seconds=1, folder=folder)


def crossing_runs(folder):
    """At 2, 8 and 32 epochs the gains of two seeds are -0.1, -0.1; -0.1, 0.1; 0.1, 0.1."""
    for share, gains in ((1, (-0.1, -0.1)), (1 / 4, (-0.1, 0.1)), (1 / 16, (0.1, 0.1))):
        write(folder, [2.0, 2.5], share)
        write(folder, [2.0 - gains[0], 2.5 - gains[1]], share, rate=0.2)


def test_the_crossing_is_that_of_each_seed_in_log_epochs(tmp_path):
    crossing_runs(tmp_path)
    found = shakespeare.crossing(shakespeare.records(tmp_path), 0.2)
    assert found is not None and found.stderr is not None
    # The seeds cross at 16 and at 4 epochs: 8 in the mean of the logs, with a deviation of log 2.
    assert found.mean == pytest.approx(8)
    assert found.stderr == pytest.approx(8 * math.log(2))
    assert value("crossing 0.2", tmp_path) == f"8.0 ± {8 * math.log(2):.1f}"
    assert "a rate of 0.2 begins to pay at 8.0 ± 5.5 epochs" in shakespeare.table(tmp_path)


def test_a_seed_that_does_not_cross_has_no_crossing(tmp_path):
    for share, gain in ((1, -0.1), (1 / 4, 0.1)):
        write(tmp_path, [2.0, 2.0], share)
        write(tmp_path, [2.0 - gain, 2.2], share, rate=0.2)
    assert shakespeare.crossing(shakespeare.records(tmp_path), 0.2) is None
    assert "begins to pay" not in shakespeare.table(tmp_path)
    with pytest.raises(ValueError, match="does not cross"):
        value("crossing 0.2", tmp_path)


def test_a_gain_is_of_the_same_seeds(tmp_path):
    write(tmp_path, [2.0, 3.0, 9.0])  # a seed more
    write(tmp_path, [1.9, 2.7], rate=0.1)
    none, dropped = rows(shakespeare.table(tmp_path))
    assert (none["gain"], dropped["gain"]) == ("–", "+0.200 ± 0.100")
    assert dropped["epochs"] == "2.0" and dropped["seeds"] == "2"


def test_places_and_schedules_have_tables_of_their_own(tmp_path):
    assert shakespeare_places.table(tmp_path) == shakespeare.table(tmp_path) == NOT_RUN
    crossing_runs(tmp_path)
    assert shakespeare_places.table(tmp_path) == NOT_RUN
    write(tmp_path, [1.9, 2.3], 1 / 4, rate=0.2, places=("mlp_hidden",))
    write(tmp_path, [2.1, 2.5], 1, rate=0.2, schedule="early")
    assert len(shakespeare.records(tmp_path)) == 6
    by_place, by_schedule = shakespeare_places.table(tmp_path).split("\n\n")
    assert [r["dropped"] for r in rows(by_place)] == ["hidden units of the MLP", "nanoGPT's four"]
    assert rows(by_place)[0]["gain"] == "+0.150 ± 0.050"
    assert [r["schedule"] for r in rows(by_schedule)] == ["constant", "early"]


def test_the_published_losses_stand_beside_ours(tmp_path):
    crossing_runs(tmp_path)  # shorter than nanoGPT's: left out
    write(tmp_path, [2.0, 2.5], updates=None)
    write(tmp_path, [1.5], rate=0.2, updates=None, size="gpu")
    assert len(shakespeare.records(tmp_path)) == 6
    found = rows(shakespeare_rows.table(tmp_path))
    assert [(r["network"], r["rate"], r["published (best)"]) for r in found] == [
        ("CPU", "0", "1.88"), ("GPU", "0.2", "1.4697"),
    ]  # fmt: skip
    assert (found[0]["best"], found[0]["last"]) == ("2.150 ± 0.250", "2.250 ± 0.250")


def test_a_benchmark_without_pytorch_has_no_ratio():
    case = {"rate": 0.0, "products": "float32", "library": "dropout_jax"}
    times = {"alone": 30.0, "side by side": 15.0, "in turn": 20.0}
    found = [{**case, "how": how, "median_ms": ms} for how, ms in times.items()]
    torch = {**case, "library": "torch", "how": "alone", "median_ms": 60.0}
    (line,) = rows(benchmark_gpt.gpt(found))
    assert list(line.values()) == ["0", "float32", "–", "30.0", "15.0", "20.0", "–", "–", "–"]
    (line,) = rows(benchmark_gpt.gpt([torch, *found]))
    assert list(line.values())[-3:] == ["0.50", "0.25", "0.33"]


def test_the_figure_shows_the_gain_of_every_rate(tmp_path):
    crossing_runs(tmp_path)
    shakespeare.draw(figure := Figure(), shakespeare.records(tmp_path))
    (gain,) = figure.axes[1].containers
    assert gain.lines[0].get_xydata() == pytest.approx(np.array([[2, -0.1], [8, 0], [32, 0.1]]))
