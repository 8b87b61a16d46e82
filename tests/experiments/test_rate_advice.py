"""Advice on the rate: what it says of made-up errors, and of mistakes in a user's own data."""

import numpy as np
import pytest
from helpers.paper_records import launched

from experiments import rate_advice, rerun
from experiments.records import record

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


@pytest.mark.slow
def test_rate_advice_sweeps_in_one_program(tmp_path, capsys, monkeypatch):
    programs, make_train = [], rate_advice.train.make_train
    monkeypatch.setattr(
        rate_advice.train, "make_train", lambda *a, **k: programs.append(1) or make_train(*a, **k)
    )
    (found,) = launched(rate_advice, tmp_path, "--hidden", "16", "--candidates", "0", "0.5")
    assert programs == [1]
    assert set(found.final) == {
        f"{n}_{r}" for n in ("val_error", "train_error") for r in ("0", "0.5")
    }
    assert found.extra["advice"][0].startswith("use a rate of")
    assert found.final["val_error_0"] != found.final["val_error_0.5"]
    text = capsys.readouterr().out
    assert "validation error %" in text and "400 cases, 64 columns, 10 classes" in text
    picture = tmp_path / "figures" / f"rate_advice_{found.path.stem}.png"
    assert f"picture: {picture}" in text and picture.stat().st_size > 5000


@pytest.fixture
def own(tmp_path):
    """A .csv with a header: three classes by name, sorted, columns of very different scales."""
    rng = np.random.default_rng(0)
    y = np.repeat(["ant", "bee", "cat"], 40)
    x = np.eye(3)[np.repeat(range(3), 40)] + rng.normal(0, 0.3, (120, 3))
    lines = [
        f"{a:.6f},{1e4 * b:.3f},{c:.6f},{label}" for (a, b, c), label in zip(x, y, strict=True)
    ]
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["first,second,third,kind", *lines]))
    return path


FLAGS = "--seeds 2 --hidden 8 --candidates 0 0.5 --epochs 20 --batch-size 16".split()


@pytest.mark.slow
def test_a_table_sorted_by_class_and_unscaled_is_learned_all_the_same(own, tmp_path, capsys):
    """And its record runs again, with the file that it was made from and no other."""
    rate_advice.main([*FLAGS, "--file", str(own), "--out", str(tmp_path)])
    (found,) = record.read_all("rate_advice", tmp_path)
    text = capsys.readouterr().out
    assert "sorted by class" in text and "is standardised" in text
    # A net that sees one column alone, or one class, is wrong in two of three cases.
    assert max(found.final["val_error_0"]) < 40
    for more, code in ([], 2), (["--file", str(own)], 0):
        with pytest.raises(SystemExit) as stop:
            rerun.main([str(found.path), *more])
        assert stop.value.code == code
    output = capsys.readouterr()
    assert "give it with --file" in output.err and "val_error_0: equal" in output.out
    own.write_text(own.read_text() + "\n0,0,0,cat")
    with pytest.raises(SystemExit) as stop:
        rerun.main([str(found.path), "--file", str(own)])
    assert stop.value.code == 2 and "has changed" in capsys.readouterr().err
