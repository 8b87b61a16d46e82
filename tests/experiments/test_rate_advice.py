"""Advice on the rate: what it says of made-up errors, and of mistakes in a user's own data."""

import dataclasses

import numpy as np
import pytest
from helpers.paper_records import launched

from experiments import rate_advice

CLEAR = {0.0: [5.0, 5.2], 0.5: [3.0, 3.2], 0.8: [7.0, 7.2]}


def test_advice_names_the_best_rate_and_its_ties():
    train = {0.0: [0.0, 0.0], 0.5: [0.0, 0.0], 0.8: [1.0, 1.2]}
    assert rate_advice.advice(CLEAR, train, (10,)) == [
        "use a rate of 0.5: validation error 3.10 ± 0.10 %"
    ]
    tied = {0.0: [3.0, 3.3], 0.5: [3.0, 3.2]}
    lines = rate_advice.advice(tied, {r: [0.0, 0.0] for r in tied}, (10,))
    assert "not told apart from it by 2 standard errors: 0" in lines
    assert any("not shown to help: without it 3.15" in line for line in lines)


def test_advice_warns_of_a_net_that_underfits_or_is_narrow():
    train = {0.0: [0.0, 0.0], 0.5: [2.9, 3.0], 0.8: [7.0, 7.0]}
    text = " ".join(rate_advice.advice(CLEAR, train, (100, 50)))
    assert "underfits with dropout: training error 2.95" in text
    assert "try 200-100 units" in text
    train = {0.0: [5.0, 5.1], 0.5: [5.0, 5.0], 0.8: [7.0, 7.0]}
    text = " ".join(rate_advice.advice(CLEAR, train, (100,)))
    assert "does not overfit" in text and "units" not in text


def test_own_data_are_checked(tmp_path):
    def cases(**arrays):
        path = tmp_path / "own.npz"
        np.savez(path, **arrays)
        return rate_advice.cases(rate_advice.Config(data="own", file=path))

    x, y, _ = cases(x=np.zeros((6, 2, 3)), y=np.arange(6))
    assert x.shape == (6, 6) and x.dtype == np.float32 and y.dtype == np.int32
    for arrays, message in [
        ({"x": np.zeros((6, 2))}, "needs x and y"),
        ({"x": np.zeros((6, 2)), "y": np.arange(5)}, "a number of y a case"),
        ({"x": np.zeros((2, 2)), "y": np.array([0.0, 1.0])}, "whole numbers"),
        ({"x": np.zeros((2, 2)), "y": np.array([-1, 1])}, "whole numbers"),
        ({"x": np.full((2, 2), np.nan), "y": np.arange(2)}, "not finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            cases(**arrays)
    with pytest.raises(ValueError, match="not here"):
        rate_advice.cases(rate_advice.Config(data="own"))
    array = tmp_path / "own.npy"
    np.save(array, np.zeros(3))
    for path in (array, tmp_path / "absent.npz"):
        with pytest.raises(ValueError, match="np.savez"):
            rate_advice.cases(rate_advice.Config(data="own", file=path))


def test_advice_needs_all_classes_in_training_and_two_seeds(tmp_path):
    path = tmp_path / "sorted.npz"
    np.savez(path, x=np.zeros((100, 2)), y=np.arange(100) // 20)
    config = rate_advice.Config(data="own", file=path)
    with pytest.raises(ValueError, match=r"classes \[4\].*random order"):
        rate_advice.run(config)
    with pytest.raises(ValueError, match="2 or more"):
        rate_advice.run(dataclasses.replace(config, seeds=1))


@pytest.mark.slow
def test_rate_advice_sweeps_in_one_program(tmp_path, capsys, monkeypatch):
    programs, make_train = [], rate_advice.train.make_train
    monkeypatch.setattr(
        rate_advice.train, "make_train", lambda *a, **k: programs.append(1) or make_train(*a, **k)
    )
    (found,) = launched(rate_advice, tmp_path, "--hidden", "16", "--rates", "0", "0.5")
    assert programs == [1]
    assert set(found.final) == {
        f"{n}_{r}" for n in ("val_error", "train_error") for r in ("0", "0.5")
    }
    assert found.extra["advice"][0].startswith("use a rate of")
    assert found.final["val_error_0"] != found.final["val_error_0.5"]
    assert "validation error %" in capsys.readouterr().out
