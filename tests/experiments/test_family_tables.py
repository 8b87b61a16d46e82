"""The tables of the family, from made-up records. What would make this wrong: a rate that was not
chosen, an error on validation data called a test error, a difference from the wrong arm."""

import math

from helpers.tables import rows

from experiments.records import record
from experiments.report import concrete_synthetic, convnet, family, sparse_variational
from experiments.report.markdown import NOT_RUN


def write(folder, experiment, config, final, **extra):
    result = {"final": final, "extra": extra}
    return record.write(experiment, config, result, data_sha256=None, wall_seconds=1, folder=folder)


def member(folder, method, rate, final, **extra):
    config = {"method": method, "rate": rate, "epochs": 10, "validation": 0}
    if "val_error" in final:
        config["validation"] = 10_000
    seeds = len(next(iter(final.values())))
    return write(folder, "family", {**config, "seeds": seeds}, final, **extra)


def test_a_member_shows_what_was_tried_and_what_was_tested(tmp_path):
    member(tmp_path, "dropout", 0.5, {"val_error": [1.9]})
    member(tmp_path, "dropout", 0.3, {"val_error": [1.7]})
    member(tmp_path, "standout", 0.3, {"val_error": [9.9]})  # not tested, and of another member
    assert family.table(tmp_path) == NOT_RUN
    errors = {"test_error": [1.4, 1.6], "train_error": [0.1, 0.1]}
    member(tmp_path, "dropout", 0.3, errors, step_to_dropout=1.0)
    lower = {"test_error": [1.3, 1.3], "train_error": [0.0, 0.0]}
    learned = [[0.2, 0.1], [0.3, 0.1]]  # a list a seed
    path = member(
        tmp_path, "concrete_dropout", 0.1, lower, step_to_dropout=1.234, learned_rates=learned
    )
    concrete, dropout = rows(family.table(tmp_path))
    tried = "validation error % of the rates tried"
    assert (dropout["member"], dropout["rate"]) == ("dropout", "0.3")
    assert dropout[tried] == "0.3: 1.70, 0.5: 1.90"
    assert dropout["test error %"] == "1.50 ± 0.10" and dropout["seeds"] == "2"
    assert (concrete["rate"], concrete[tried]) == ("learned: 0.250, 0.100", "–")
    assert concrete["× time of dropout's update"] == "1.23"
    assert concrete["run"] == f"[{path.stem}](experiments/results/family/{path.name})"


def test_concrete_dropout_stands_beside_the_published_values(tmp_path):
    for n, rate in ((1000, 0.2), (10, 0.4)):
        final = {name: [rate, rate] for name in concrete_synthetic.METRICS.values()}
        write(tmp_path, "concrete_synthetic", {"examples": n, "seeds": 2}, final)
    few, many = rows(concrete_synthetic.table(tmp_path))
    assert (few["N"], many["N"]) == ("10", "1000")
    assert few["hidden 1"] == "0.400 ± 0.000 (0.404)"
    assert many["epistemic sd"] == "0.20 ± 0.00 (0.65)"


def test_sparse_variational_dropout_stands_under_the_published_row(tmp_path):
    final = {"test_error": [1.85], "compression": [66.04], "sparsity1": [98.83],
             "sparsity2": [97.0], "sparsity3": [60.0]}  # fmt: skip
    write(tmp_path, "sparse_variational", {"hidden": [300, 100], "epochs": 200, "seeds": 1}, final)
    published, ours = rows(sparse_variational.table(tmp_path))
    assert list(published.values())[1:6] == ["1.92", "68", "98.9", "97.2", "62"]
    ours = list(ours.values())
    assert ours[:6] == ["300-100, 200 epochs", "1.85", "66.0", "98.8", "97.0", "60.0"]
    trial = {"hidden": [300, 100], "epochs": 50, "seeds": 1, "validation": 10_000}
    final["val_error"] = final.pop("test_error")
    write(tmp_path, "sparse_variational", trial, final)
    text = sparse_variational.table(tmp_path)
    assert "10 000 training images: 50 epochs 1.85 % at 66.0 times fewer weights" in text
    assert len(rows(text)) == 2  # no row of the tests


def arm(folder, maps, maps_rate, dense_rate, errors, **more):
    config = {"maps": maps, "maps_rate": maps_rate, "dense_rate": dense_rate, "seeds": 2, **more}
    final = {"test_error": errors, "train_error": [0.0, 0.0]}
    return write(folder, "convnet", {"examples": 10_000, "epochs": 12, **config}, final)


def test_an_arm_of_the_convnet_is_compared_with_that_without_dropout(tmp_path):
    arm(tmp_path, "none", 0.0, 0.0, [2.0, 2.2])
    arm(tmp_path, "none", 0.0, 0.5, [1.6, 1.8])
    arm(tmp_path, "block", 0.2, 0.5, [2.5, 2.7])
    arm(tmp_path, "spatial", 0.2, 0.0, [9.0, 9.0], epochs=1)  # unlike the others
    arm(tmp_path, "none", 0.0, 0.0, [1.0, 1.0], quick=True)
    found = {
        (row["dropout of feature maps"], row["of the dense layer"]): row["change from none"]
        for row in rows(convnet.table(tmp_path))
    }
    spread = f"{math.hypot(0.1, 0.1):.2f}"
    assert found == {
        ("none", "none"): "–",
        ("none", "0.5"): f"-0.40 ± {spread}",
        ("block 0.2", "0.5"): f"+0.50 ± {spread}",
        ("spatial 0.2", "none"): "–",
    }
