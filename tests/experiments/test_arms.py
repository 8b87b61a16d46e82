"""Arms side by side. What would make this wrong: the test set read where validation data were
asked for, seeds and epochs swapped, a share taken for a percentage, a wrong sign."""

import math

import jax
import numpy as np
import pytest

from dropout_jax.data import Dataset
from dropout_jax.train.runner import History
from experiments.harness import arms
from experiments.records.record import Record

HISTORY = History(
    np.array([1, 2]),
    {"loss": np.ones((2, 3), np.float32),
     "test_error": np.array([[0.3, 0.2, 0.1], [0.0145, 0.25, 1 / 3]], np.float32)},
    np.ones(2),
)  # fmt: skip


def dataset():
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    return Dataset("none", x, np.arange(6), 100 + x, 10 + np.arange(6), "ab")


def result(test, **config):
    final = {"test_error": test, "train_error": [0.5] * len(test)}
    return Record("mnist", config, final, {}, {}, {})


def test_without_validation_the_test_set_is_reported():
    got = arms.splits(dataset(), 0)
    assert set(got) == {"train", "test"}
    assert got["train"][1].tolist() == list(range(6))
    assert got["test"][1].tolist() == list(range(10, 16))


def test_with_validation_the_test_set_is_not_read():
    got = arms.splits(dataset()._replace(test_x=None, test_y=None), 2)
    labels = {name: y.tolist() for name, (_, y) in got.items()}
    assert labels == {"train": [0, 1, 2, 3], "val": [4, 5]}
    assert got["val"][0].tolist() == [[8, 9], [10, 11]]


def test_most_cuts_after_the_validation_data_are_set_aside():
    got = arms.splits(dataset(), 3, 2)
    assert {name: y.tolist() for name, (_, y) in got.items()} == {"train": [0, 1], "val": [3, 4]}
    assert all(len(x) == 2 for x, _ in got.values())


def test_errors_are_percentages_by_seed_then_epoch():
    got = arms.errors(HISTORY)
    assert set(got["final"]) == set(got["by_epoch"]) == {"test_error"}
    assert got["final"]["test_error"].tolist() == [1.45, 25.0, 33.3333]
    assert got["by_epoch"]["test_error"].tolist() == [[30.0, 1.45], [20.0, 25.0], [10.0, 33.3333]]
    assert arms.errors(HISTORY, slice(1, None))["final"]["test_error"].tolist() == [25.0, 33.3333]


def test_the_keys_are_those_of_the_seeds():
    assert (arms.keys_of(3)[2] == jax.random.key(2)).all()


def test_a_count_below_one_is_named_as_its_flag():
    arms.check_counts(seeds=1)
    with pytest.raises(ValueError, match="--batch-size is 0; write 1 or more"):
        arms.check_counts(seeds=1, batch_size=0)


@pytest.mark.parametrize(("dropped", "word"), [([1.2, 1.4], "lower"), ([2.0, 2.2], "higher")])
def test_a_report_says_what_dropout_does(dropped, word):
    lines = arms.report(
        [result([1.6, 1.8], rates=[0.0, 0.0]), result(dropped, rates=[0.2, 0.5])]
    ).splitlines()
    assert lines[0].split() == "arm test error % train error % gap seeds".split()
    assert lines[1].split("  ")[0] == "no dropout"
    assert "1.70 ± 0.10" in lines[1] and "1.20 ± 0.10" in lines[1]
    assert lines[2].startswith("dropout input 0.2, hidden 0.5")
    assert lines[-1] == (
        f"test error: 0.40 ± {math.hypot(0.1, 0.1):.2f} points {word} with dropout input 0.2, "
        "hidden 0.5 than with no dropout"
    )


def test_a_report_of_one_seed_or_one_arm_has_no_spread_or_no_change():
    alone = arms.report([result([1.6], rate=0.0)])
    assert "±" not in alone.replace("(±", "") and "points" not in alone
    both = arms.report([result([1.6], rate=0.0), result([1.5], rate=0.5)])
    assert "0.10 points lower with dropout rate 0.5" in both


def test_a_report_on_validation_data_says_so():
    r = Record("mnist", {}, {"val_error": [2.0], "train_error": [1.0]}, {}, {}, {})
    assert "val error %" in arms.report([r]) and "test" not in arms.report([r])
