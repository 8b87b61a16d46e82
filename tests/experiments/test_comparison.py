"""The table that a run prints of its arms. What would make this wrong: a wrong sign, a spread of
one seed, validation data called a test set."""

import math

import pytest

from experiments.harness.comparison import comparison
from experiments.records.record import Record


def result(test, **config):
    final = {"test_error": test, "train_error": [0.5] * len(test)}
    return Record("mnist", config, final, {}, {}, {})


@pytest.mark.parametrize(("dropped", "word"), [([1.2, 1.4], "lower"), ([2.0, 2.2], "higher")])
def test_it_says_what_dropout_does(dropped, word):
    records = [result([1.6, 1.8], rates=[0.0, 0.0]), result(dropped, rates=[0.2, 0.5])]
    lines = comparison(records).splitlines()
    assert lines[0].split() == "arm test error % train error % gap seeds".split()
    assert lines[1].split("  ")[0] == "no dropout"
    assert "1.70 ± 0.10" in lines[1] and "1.20 ± 0.10" in lines[1]
    assert lines[2].startswith("dropout input 0.2, hidden 0.5")
    assert lines[-1] == (
        f"test error: 0.40 ± {math.hypot(0.1, 0.1):.2f} points {word} with dropout input 0.2, "
        "hidden 0.5 than with no dropout"
    )


def test_one_seed_has_no_spread_and_one_arm_no_change():
    alone = comparison([result([1.6], rate=0.0)])
    assert "±" not in alone.replace("(±", "") and "points" not in alone
    both = comparison([result([1.6], rate=0.0), result([1.5], rate=0.5)])
    assert "0.10 points lower with dropout rate 0.5" in both


def test_validation_data_are_called_so():
    r = Record("mnist", {}, {"val_error": [2.0], "train_error": [1.0]}, {}, {}, {})
    assert "val error %" in comparison([r]) and "test" not in comparison([r])
