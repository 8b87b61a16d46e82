"""Calibration under rotation at a size of seconds; its figures are drawn from made-up records.

What would make this wrong: images that are turned by another angle, or away from their middle; a
score of other images than the angle's.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss

from experiments import calibration
from experiments.records import record
from experiments.report import blocks, drawing


def test_images_are_turned_about_their_middle():
    images = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    squares = images.reshape(3, 8, 8)
    for angle, expected in [(0, squares), (90, np.rot90(squares, axes=(1, 2))),
                            (180, squares[:, ::-1, ::-1])]:  # fmt: skip
        found = calibration.turned(images, angle).reshape(3, 8, 8)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(10), 50), rng.integers(0, 10, 50)
    found = calibration.scores(jnp.float32(p), jnp.asarray(y))
    np.testing.assert_allclose(found["error"], 100 * np.mean(p.argmax(-1) != y), rtol=1e-5)
    expected = -log_loss(y, p, labels=range(10))
    np.testing.assert_allclose(found["log_likelihood"], expected, rtol=1e-5)


@pytest.mark.slow
def test_a_quick_run_leaves_a_record_a_method_and_goes_on_from_them(tmp_path):
    arguments = ["--quick", "--data", "digits", "--seeds", "2", "--methods", "dropout", "--out"]
    for _ in range(2):
        calibration.main([*arguments, str(tmp_path)])
    turned, curve = sorted(
        record.read_all("calibration", tmp_path), key=lambda r: r.config["task"] != "turned"
    )
    assert np.shape(turned.extra["by_angle"]["mc"]["ece"]) == (2, 2)
    assert np.shape(curve.extra["curves"]["epistemic"]) == (2, 101)
    assert curve.final["epistemic_far"][0] > curve.final["epistemic_gap"][0] > 0


def test_figures_and_table_are_of_the_records(tmp_path):
    angles, seeds = [0, 90], 2
    for method in calibration.METHODS:
        scores = {m: [[1.0, 50.0]] * seeds for m in ("error", "entropy", "ece", "log_likelihood")}
        ways = (
            ("scaled", "mc")
            if method == "dropout"
            else ("mc",)
            if method != "none"
            else ("scaled",)
        )
        write(tmp_path, calibration.Config(method=method, seeds=seeds), {
            "final": {f"{way}_error": [1.0] * seeds for way in ways},
            "extra": {"angles": angles, "by_angle": dict.fromkeys(ways, scores)},
        })  # fmt: skip
        curves = {name: [[0.0, 1.0]] * seeds for name in ("mean", "epistemic")}
        write(tmp_path, calibration.Config(method=method, seeds=seeds, task="curve"), {
            "final": {"epistemic_far": [1.0] * seeds},
            "extra": {"x": [0.0], "y": [0.0], "grid": [0.0, 1.0], "curves": curves},
        })  # fmt: skip
    for name in ("calibration.png", "calibration_curve.png"):
        path = tmp_path / "figures" / name
        drawing.save(blocks.figures()[name], tmp_path, path)
        assert path.stat().st_size > 5000
    text = blocks.table("calibration", tmp_path)
    assert "| MC dropout | 1.0 ± 0.0 | 1.000 ± 0.000 |" in text and "50.0 ± 0.0" in text


def write(folder, config, result):
    record.write("calibration", config, result, data_sha256=None, wall_seconds=1, folder=folder)
