"""The table and the figure of thinned training, from made-up records and times."""

import json

import pytest
from PIL import Image

from experiments.records import record
from experiments.report import drawing, thinned, thinned_gpt, thinned_studies
from experiments.report.drawing import SOURCE, digest

BASE = {
    "study": "compare", "method": "none", "steps": None, "block": None, "max_norm": 3.0,
    "learning_rate": 0.05, "epochs": 10, "seeds": 2, "quick": False,
}  # fmt: skip
# Time an update: element-wise as slow as none, thinned in a quarter of the time.
TIMES = {"no dropout": 1.0, "dropout_jax": 1.0, "thin 10/16": 0.25, "thin 1/16": 0.6}


def write(folder, curve, **config):
    by_epoch = {"test_error": [[e - 0.1 for e in curve], [e + 0.1 for e in curve]]}
    final = {"test_error": [seed[-1] for seed in by_epoch["test_error"]], "train_error": [0.1, 0.3]}
    if config.get("study") == "tune":
        final["val_error"] = final.pop("test_error")
    result = {
        "final": final,
        "by_epoch": by_epoch,
        "extra": {"updates": 6000, "evaluated_at": [5, 10], "epoch_chosen": "last"},
    }
    return record.write(
        "thinned", BASE | config, result, data_sha256="ab", wall_seconds=1, folder=folder
    )


@pytest.fixture
def results(tmp_path):
    write(tmp_path, [3.0, 1.6])
    write(tmp_path, [2.0, 1.2], method="element")
    thin = {"method": "thin", "steps": 10, "block": 16}
    write(tmp_path, [1.2, 1.1], **thin)
    write(tmp_path, [1.5, 1.3], **thin, study="life")
    write(tmp_path, [1.5, 1.3], **thin | {"steps": 1}, study="life")
    write(tmp_path, [1.9, 1.7], **thin, study="tune", max_norm=2.0)
    write(tmp_path, [9.0, 9.0], **thin, quick=True)
    shape, other = [100, 784, 1024, 1024, 1024, 10], [32, 784, 512, 512, 512, 10]
    rows = [
        {"library": name, "shape": shape, "updates": 100, "ratio_to_floor": t}
        for name, t in TIMES.items()
    ]
    rows.append({"library": "no dropout", "shape": shape, "updates": 10, "ratio_to_floor": 7.0})
    rows.append({"library": "no dropout", "shape": other, "updates": 100, "ratio_to_floor": 8.0})
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "thin.json").write_text(json.dumps({"rows": rows}))
    return tmp_path


def test_the_study_has_a_table_a_part(results):
    compare, _, claims = parts(thinned.table(results))
    life, tune = parts(thinned_studies.table(results))
    assert "| no dropout | 0.05 | 3 | 1.60 ± 0.10 | 0.20 ± 0.10 | 1.40 ± 0.00 |" in compare
    assert "| 10 (6000) | 1.00 | 2 |" in compare and "9.00" not in compare
    names = [line.split("|")[1].strip() for line in life.splitlines()[2:]]
    assert names == [
        "thinned, 1 updates a life, blocks of 16",
        "thinned, 10 updates a life, blocks of 16",
    ]
    assert "| 0.60 |" in life and "| 0.25 |" in life
    assert "| 2 | 10 | 1.70 ± 0.10 |" in tune
    assert "speed-up 1.18 to 2.16†" in claims and "sparsedrop 3.18" in claims


def parts(text):
    return [part for part in text.split("\n\n") if ":" != part[-1] and "details" not in part]


def test_when_a_method_catches_up_is_told_in_units_of_the_others_time(results):
    text = thinned.table(results)
    assert (
        "no dropout: last test error 0.40 ± 0.14 points above element-wise dropout's, "
        "which its test curve does not reach in 1.00 of the time"
    ) in text
    # At epoch 5 of 10, in a quarter of the time an update.
    assert (
        "last test error 0.10 ± 0.14 points below element-wise dropout's, "
        "which its test curve first reaches at epoch 5 and element-wise dropout's at epoch 10: "
        "in 0.12 of that time, 0.12 of the whole run's"
    ) in text


def test_without_the_benchmark_no_time_is_told(results):
    (results / "benchmark" / "thin.json").unlink()
    text = thinned.table(results)
    assert "time (epoch" not in text and "| – | 2 |" in text
    assert drawing.sources(thinned, results) == []


def test_the_figure_carries_the_digest_of_records_and_times(results):
    path = results / "figures" / "thinned.png"
    files = drawing.sources(thinned, results)
    assert [f.name for f in files].count("thin.json") == 1 and len(files) == 4
    drawing.save(thinned, results, path)
    with Image.open(path) as image:
        assert image.info[SOURCE] == digest(files)


def test_make_figures_draws_it(results):
    assert drawing.main(["--results", str(results), "--check"]) == 1
    assert drawing.main(["--results", str(results)]) == 0
    assert drawing.main(["--results", str(results), "--check"]) == 0


def test_the_thinned_gpt_is_beside_element_wise_dropout_in_loss_and_in_time(tmp_path):
    def write(method, rate, losses, updates=1000, **config):
        result = {
            "final": dict.fromkeys(("val_loss", "best_val_loss", "train_loss"), losses),
            "extra": {"updates": updates, "passes_over_the_text": 48.9, "arithmetic": 0.5},
        }
        config |= {"method": method, "rate": rate, "updates": updates, "quick": False}
        record.write(
            "thinned_gpt", config, result, data_sha256=None, wall_seconds=1, folder=tmp_path
        )

    write("none", 0.0, [3.0, 3.5])
    write("element", 0.5, [2.0, 2.5])
    write("thin", 0.5, [2.25, 2.75])
    write("thin", 0.5, [1.9, 2.4], updates=1800)
    (tmp_path / "benchmark").mkdir()
    row = {"library": "thin 10/16", "rate": 0.5, "ratio_to_floor": 0.5}
    rows = [row | {"shape": thinned_gpt.SHAPE}, row | {"shape": [8, 2, 10, 320, 128]}]
    (tmp_path / "benchmark" / "thin_transformer.json").write_text(json.dumps({"rows": rows}))
    none, element, thin, longer = thinned_gpt.table(tmp_path).splitlines()[2:]
    assert (
        "| no dropout | 0 | 1000 (49) | 3.250 ± 0.250 | – |" in none and "| 1.00 | 0.50 |" in none
    )
    assert "| dropout, element-wise | 0.5 | 1000 (49) | 2.250 ± 0.250 | – |" in element
    assert "| thinned | 0.5 | 1000 (49) | 2.500 ± 0.250 | +0.250 ± 0.000 |" in thin
    assert "| 0.50 | 0.50 |" in thin and "| 0.90 | 0.50 |" in longer
    assert "| -0.100 ± 0.000 |" in longer
