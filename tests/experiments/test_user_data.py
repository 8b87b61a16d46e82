"""A user's own table. What would make this wrong: words taken for numbers, a quantity for classes,
held-out cases in the scale, a class that is in one part alone, a traceback for a typing error."""

import numpy as np
import pytest

from experiments.harness import user_data


@pytest.fixture
def csv(tmp_path):
    def write(text):
        path = tmp_path / "own.csv"
        path.write_text(text)
        return path

    return write


def test_a_csv_with_and_without_a_header(csv):
    for text in ("a,b,kind\n1,2,yes\n3,4,no\n", "1,2,yes\n3,4,no\n"):
        found = user_data.read(csv(text))
        assert found.x.tolist() == [[1, 2], [3, 4]] and found.x.dtype == np.float32
        assert found.classes == ("no", "yes") and found.y.tolist() == [1, 0]


def test_the_class_may_be_another_column_and_any_whole_number(csv):
    found = user_data.read(csv("kind,a\n7,1.5\n-2,2.5\n"), "kind")
    assert found.x.tolist() == [[1.5], [2.5]]
    assert found.classes == ("-2", "7") and found.y.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("a,kind\nParis,1\n2,0\n", None, "column 'a' holds 'Paris'.*column of 0 and 1"),
        ("a,kind\n,1\n2,0\n", None, "leave out cases with gaps"),
        ("a,kind\n1,1\n2\n", None, "case 2 .* has 1 columns, not 2"),
        ("a,kind\n1,1\n", "sort", "--target is 'sort'; choose one of a, kind"),
        ("a,kind\n1,1.5\n2,0\n", None, "such as 1.5, a quantity"),
        ("a,kind\nnan,1\n2,0\n", None, "not finite .case 0, column 0"),
        ("", None, "holds no cases"),
    ],
)
def test_a_csv_that_cannot_be_used_is_told_what_to_write(csv, text, target, message):
    with pytest.raises(ValueError, match=message):
        user_data.read(csv(text), target)


def test_an_npz_is_checked(tmp_path):
    def read(**arrays):
        path = tmp_path / "own.npz"
        np.savez(path, **arrays)
        return user_data.read(path)

    found = read(x=np.zeros((6, 2, 3)), y=np.arange(6))
    assert found.x.shape == (6, 6) and found.y.dtype == np.int32
    for arrays, message in [
        ({"x": np.zeros((6, 2))}, "needs x and y"),
        ({"x": np.zeros((6, 2)), "y": np.arange(5)}, "one class of y a case"),
        ({"x": np.full((2, 2), np.nan), "y": np.arange(2)}, "not finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            read(**arrays)
    array = tmp_path / "own.npy"
    np.save(array, np.zeros(3))
    with pytest.raises(ValueError, match="np.savez"):
        user_data.read(array)


def test_what_would_mislead_a_comparison_is_found():
    rng = np.random.default_rng(0)
    y = np.array([0] * 90 + [1] * 10)
    x = np.stack([rng.normal(size=100), 1000 * rng.normal(size=100), np.ones(100)], axis=1)
    text = " ".join(user_data.findings(x, y, ("many", "few")))
    for words in ("sorted by class", "by a factor of", "1 columns hold one value",
                  "answer 'many' has an error of 10.00 %"):  # fmt: skip
        assert words in text
    even = rng.permutation(np.arange(100) % 2)
    plain = user_data.findings(rng.normal(size=(100, 3)), even, ("a", "b"))
    assert plain == ["100 cases, 3 columns, 2 classes"]


def test_every_class_is_in_both_parts_in_its_share():
    y = np.array([0] * 50 + [1] * 10 + [2] * 2)
    train, aside = user_data.stratified(y, 5)
    assert sorted([*train, *aside]) == list(range(62))
    assert np.bincount(y[aside]).tolist() == [10, 2, 1]
    assert (np.diff(y[train]) != 0).sum() > 3  # in random order
    with pytest.raises(ValueError, match="class number 1 has one case"):
        user_data.stratified(np.array([0, 0, 1]), 5)


def test_the_scale_is_that_of_the_training_cases_alone():
    train, other = user_data.standardised(
        np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[100.0, 6.0]])
    )
    assert train.tolist() == [[-1, 0], [1, 0]]
    assert other.tolist() == [[98, 1]]  # a column without variation is only shifted
