"""Tables and values in pages. What would make this wrong: an edit by hand that nobody notices, a
value of another run, a difference whose sign the sentence turns round, a mark that is not read."""

import json
import math
import sys

import pytest
from helpers.tables import script

from experiments.records import record
from experiments.report import pages
from experiments.report.markdown import NOT_RUN
from experiments.report.values import value

PLAIN, DROPPED = [1.6, 1.8], [1.2, 1.4]


def write(folder, values, name="mnist", config=None, **extra):
    result = {
        "final": {"test_error": values, "train_error": [2 * v for v in values]},
        "by_epoch": {"test_error": [[2 * v, v] for v in values]},
        "extra": {"updates": 120_000, "evaluated_at": [600, 1200], **extra},
    }
    config = {"seeds": len(values), "hidden": [8], "rate": values[0], **(config or {})}
    path = record.write(name, config, result, data_sha256="ab", wall_seconds=90, folder=folder)
    return f"{name}/{path.stem}"


@pytest.fixture
def runs(tmp_path):
    return write(tmp_path, PLAIN), write(tmp_path, DROPPED)


@pytest.fixture
def make_tables(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # no scripts/make_tablesc
    return script("make_tables").main


def test_values_of_a_run(tmp_path, runs):
    plain, dropped = runs
    stderr = math.hypot(0.1, 0.1)
    for marker, expected in {
        plain: "1.70 ± 0.10",
        f"{plain} train_error": "3.40 ± 0.20",
        f"{plain} digits=1": "1.7 ± 0.1",
        f"{plain} test_error@600": "3.40 ± 0.20",
        f"{plain} lowest": "1.60",
        f"{plain} test_error highest": "1.80",
        f"{plain} test_error mean": "1.70",
        f"{plain} minutes": "2",
        f"{plain} minutes digits=1": "1.5",
        f"{plain} seconds": "90",
        f"{plain} updates": "120 000",
        f"{plain} - {dropped}": f"0.40 ± {stderr:.2f}",
        f"{plain} - {dropped} sigmas": f"{0.4 / stderr:.1f}",
        f"{plain} / {dropped} test_error digits=2": "1.31",
        f"{plain} test_error / train_error": "0.5",
    }.items():
        assert value(marker, tmp_path) == expected, marker


def test_a_run_is_found_by_its_row(tmp_path):
    for updates, error in ((10, 2.0), (20, 1.0)):
        write(tmp_path, [error], config={"row": "wide", "updates": updates})
    write(tmp_path, [9.0], config={"row": "wide", "updates": 20, "quick": True})
    assert value("mnist/wide@10", tmp_path) == "2.00"
    assert value("mnist/wide@10 - mnist/wide@20", tmp_path) == "1.00"
    with pytest.raises(ValueError, match=r"2 runs are called mnist/wide: .*\(10 updates\), "):
        value("mnist/wide", tmp_path)


def test_one_seed_has_no_spread(tmp_path):
    assert value(f"{write(tmp_path, [1.5])} test_error", tmp_path) == "1.50"


def test_a_published_number_is_as_printed(tmp_path):
    assert value("published table10/mnist_gaussian", tmp_path) == "0.95"
    assert value("published molchanov2017/lenet300100/compression", tmp_path) == "68"


def test_measured_times(tmp_path):
    case = {"shape": [8, 4], "rate": 0.5, "mode": "chained", "library": "x * c"}
    rows = [
        {**case, "median_us": 12.3},
        {**case, "median_us": 5.0, "rate": 0.2},
        {**case, "median_us": 99.0, "mode": "single_call"},
        {**case, "median_us": 1.0, "library": "flax.nnx"},
    ]
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "masks.json").write_text(json.dumps({"rows": rows}))
    asked = "benchmark masks median_us x * c"
    assert value(f"{asked} shape=8x4 rate=0.5", tmp_path) == "12"
    assert value(f"{asked} lowest", tmp_path) == "5.00"
    assert value(f"{asked} highest digits=1", tmp_path) == "12.3"
    for wrong in (asked, f"{asked} rate=0.9", f"{asked} lowest rate=0.9"):
        with pytest.raises(ValueError, match="rows of masks fit"):
            value(wrong, tmp_path)


def test_a_difference_that_the_sentence_turns_round_is_an_error(tmp_path, runs):
    plain, dropped = runs
    with pytest.raises(ValueError, match="negative, -0.400: turn the sentence round"):
        value(f"{dropped} - {plain} test_error", tmp_path)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("mnist/none", "value:mnist/none: 0 runs are called mnist/none"),
        ("RUN val_error", "val_error"),
        ("RUN test_error@7", "7 is not in list"),
        ("published table2/none", "table2/none"),
        ("RUN test_error largest", "is not understood; see experiments/report/values.py"),
        ("RUN lowest highest", "is not understood"),
    ],
)
def test_a_value_that_is_not_there_is_an_error(tmp_path, runs, marker, message):
    with pytest.raises(ValueError, match=message):
        value(marker.replace("RUN", runs[0]), tmp_path)


def test_only_what_is_between_the_marks_changes(tmp_path, runs):
    mark = f"<!-- value:{runs[0]} test_error -->"
    text = (
        f"a\n<!-- table:thinned -->old<!-- /table -->\nb {mark}9<!-- /value --> %, "
        f"{mark}<!-- /value --> c\n<!-- table:past_the_paper --><!-- /table -->d"
    )
    made, differing = pages.regenerate(text, tmp_path)
    block = f"\n{NOT_RUN}\n"
    assert made == (
        f"a\n<!-- table:thinned -->{block}<!-- /table -->\nb {mark}1.70 ± 0.10<!-- /value --> %, "
        f"{mark}1.70 ± 0.10<!-- /value --> c\n<!-- table:past_the_paper -->{block}<!-- /table -->d"
    )
    name = f"value {runs[0]} test_error"
    assert differing == ["table thinned", name, name, "table past_the_paper"]
    assert pages.regenerate(made, tmp_path) == (made, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table:nonsense --><!-- /table -->", "no table is called 'nonsense'"),
        ("<!-- table:mnist -->", "does not end"),
        ("<!-- table:mnist --><!-- table:thinned --><!-- /table -->", "does not end"),
        ("<!-- value:mnist/a b -->1<!-- /table -->", "does not end"),
        ("<!-- value:mnist/a b -->1<!-- /value -->", "0 runs are called mnist/a"),
    ],
)
def test_a_broken_mark_is_an_error(tmp_path, make_tables, capsys, text, message):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    assert make_tables(["--pages", str(readme), "--results", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert readme.read_text() == text


def test_check_finds_an_edit_by_hand(tmp_path, make_tables, capsys, runs):
    readme = tmp_path / "README.md"
    mark = f"<!-- value:{runs[0]} test_error -->"
    readme.write_text(f"<!-- table:mnist --><!-- /table --> {mark}<!-- /value -->")
    arguments = ["--pages", str(readme), "--results", str(tmp_path)]
    assert make_tables(arguments) == 0 and make_tables([*arguments, "--check"]) == 0
    capsys.readouterr()
    made = readme.read_text()
    for edited in (made.replace("1.70", "1.60", 1), made[::-1].replace("07.1", "06.1", 1)[::-1]):
        readme.write_text(edited)
        assert make_tables([*arguments, "--check"]) == 1
        assert "differs from the records\n" in capsys.readouterr().out
        assert readme.read_text() == edited  # --check writes nothing


def test_a_page_in_a_folder_links_from_there(tmp_path, runs):
    text = "<!-- table:mnist --><!-- /table -->"
    at_root, _ = pages.regenerate(text, tmp_path)
    inside, _ = pages.regenerate(text, tmp_path, "docs/results")
    for run in runs:
        assert f"(experiments/results/{run}.json)" in at_root
        assert f"(../../experiments/results/{run}.json)" in inside
    assert inside == at_root.replace("(experiments/", "(../../experiments/")


def test_the_pages_are_as_the_committed_records_say(make_tables, capsys):
    assert make_tables(["--check"]) == 0, capsys.readouterr()
