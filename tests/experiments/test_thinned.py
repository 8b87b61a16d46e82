"""The study of thinned training: what it runs, and that a quick run leaves its records."""

import pytest
from helpers.small_data import images

from dropout_jax import data
from experiments import thinned
from experiments.records import record


def test_a_study_varies_what_it_says():
    def varied(name, **study):
        return [getattr(c, name) for c in thinned.configs(thinned.Study(**study))]

    assert varied("method") == ["none", "element", "thin"]
    assert varied("steps") == [None, None, 10]  # a life and blocks belong to thin alone
    assert varied("steps", study="life") == [1, 3, 10, 30, 100]
    assert varied("block", study="block") == [1, 16, 64]
    assert set(varied("validation")) == {0}
    assert set(varied("validation", study="tune")) == {10_000}  # never the test set
    assert varied("epochs", study="headline", runs=thinned.Config(epochs=400)) == [400]
    rates = (0.1, 0.2)
    assert varied("learning_rate", study="tune", methods=("thin",), learning_rates=rates) == [
        *rates
    ]


@pytest.mark.slow
def test_a_quick_study_leaves_a_record_a_method_and_goes_on_from_them(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load", lambda name, data_dir=None: images())
    argv = ["--quick", "--seeds", "1", "--methods", "flax", "thin", "--out", str(tmp_path)]
    thinned.main(argv)
    found = record.read_all("thinned", tmp_path)
    assert {r.config["method"] for r in found} == {"flax", "thin"}
    assert all(r.extra["updates"] == 8 and len(r.final["test_error"]) == 1 for r in found)
    monkeypatch.setattr(thinned, "run", lambda config, folder: pytest.fail("trained again"))
    thinned.main(argv)
    assert len(record.read_all("thinned", tmp_path)) == 2
