"""The tables of noise alone, and of dropout with batch normalisation. What would make them wrong: a
time that counts all seeds as one network, a gain with its sign turned round, trials out of order,
settings called chosen that are not the best."""

import dataclasses

from helpers.tables import rows

from experiments import batch_norm_shift, ladder_baseline
from experiments.records import record
from experiments.report import batch_norm_shift as shift_report
from experiments.report import ladder_baseline as ladder_report
from experiments.report import noise_alone


def write(folder, experiment, config, final, **extra):
    config = dataclasses.replace(config, seeds=len(next(iter(final.values()))), out=folder)
    result = {"final": final, "extra": extra}
    return record.write(experiment, config, result, data_sha256="ab", wall_seconds=1, folder=folder)


def write_trial(folder, error, **settings):
    config = ladder_baseline.Config(
        row="chosen", budget="own", updates=15_000, validation=10_000, **settings
    )
    final = {"val_error": [error], "train_error": [0.0]}
    write(folder, "ladder_baseline", config, final, updates=15_000)


def write_tested(folder, row, error, **settings):
    config = ladder_baseline.Config(row=row, budget="cpu", **settings)
    names = ("test_error", "train_error", "noisy_statistics_test_error")
    final = {name: [error, error + 0.2] for name in names}
    return write(
        folder, "ladder_baseline", config, final, updates=90_000, seconds=[60.0, 120.0, 60.0]
    )


def test_the_ladder_s_table_says_which_noise_was_chosen_and_how(tmp_path):
    write_trial(tmp_path, 1.2)
    write_trial(tmp_path, 1.0, law="bernoulli", amount=0.2, input_amount=0.2)
    write_trial(tmp_path, 1.1, ema=0.999)
    write_tested(tmp_path, "published", 0.7)
    path = write_tested(
        tmp_path, "chosen", 0.6, law="bernoulli", amount=0.2, input_amount=0.2, tuned_at=15_000
    )
    text = ladder_report.table(tmp_path)
    runs, trials = (rows(part) for part in text.split("Published:"))
    assert [r["settings"] for r in runs] == [
        "set beforehand", "best of 3 on validation, after 15 000 updates",
    ]  # fmt: skip
    assert runs[1]["noise"] == "Bernoulli factors" and path.stem in runs[1]["run"]
    assert [t["validation error %"] for t in trials] == ["1.00", "1.10", "1.20"]
    assert [t["EMA"] for t in trials] == ["–", "0.999", "–"]


def test_the_time_of_one_network_is_that_of_all_seeds_divided(tmp_path):
    write_tested(tmp_path, "published", 0.7)
    (line,) = rows(noise_alone.table(tmp_path))
    assert line["minutes a network"] == "2.0"  # four minutes for two seeds
    assert line["test error %"] == "0.80 ± 0.10"


def test_a_gain_is_what_the_error_falls_by_seed_by_seed(tmp_path):
    final = {
        "test_error": [3.0, 5.0], "recalibrated_test_error": [2.0, 4.0],
        "test_loss": [0.3, 0.5], "recalibrated_test_loss": [0.2, 0.4], "variance_ratio": [1.5, 1.5],
    }  # fmt: skip
    for place, rate in (("after", 0.5), ("before", 0.5), ("none", 0.0)):
        config = batch_norm_shift.Config(place=place, rate=rate)
        write(tmp_path, "batch_norm_shift", config, final)
    found = rows(shift_report.table(tmp_path))
    assert [r["dropout"] for r in found] == ["none", *shift_report.PLACES.values()]
    assert {r["gain"] for r in found} == {"+1.00 ± 0.00"}
