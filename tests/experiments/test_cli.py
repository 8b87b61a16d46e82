"""The command line. What would make this wrong: a traceback or a page of text for a typing error,
a long run that cannot be kept, a path that gets into a record."""

import doctest
import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from dropout_jax.data import DataError
from experiments.harness import cli
from experiments.harness.cli import Common, Rate
from experiments.records import record


@dataclass(frozen=True)
class Config(Common):
    seeds: int = 3
    rate: Rate = 0.5
    """rate of the hidden units"""
    hidden: tuple[int, ...] = (8, 8)
    """units of each hidden layer"""


def exits(capsys, call, *arguments):
    with pytest.raises(SystemExit) as stop:
        call(*arguments)
    return stop.value.code, capsys.readouterr()


def test_defaults_and_flags():
    assert cli.cli(Config, "text", []) == Config()
    got = cli.cli(Config, "text", ["--rate", "0.25", "--hidden", "4", "5", "6", "--quick"])
    assert got == Config(rate=0.25, hidden=(4, 5, 6), quick=True)


@pytest.mark.parametrize("rate", ["0", "1"])
def test_the_ends_of_the_range_are_rates(rate):
    assert cli.cli(Config, "text", ["--rate", rate]).rate == float(rate)


def test_help_shows_the_claim_and_each_field(capsys):
    code, output = exits(capsys, cli.cli, Config, "The claim.\n\nCommand: x", ["--help"])
    text = " ".join(output.out.replace("│", " ").split())
    assert code == 0 and output.err == ""
    for expected in ("The claim.", "--rate RATE rate of the hidden units", "(default: 8 8)",
                     "how many runs", "--data-dir"):  # fmt: skip
        assert expected in text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--rte", "0.1"], "--rte"),
        (["--rate", "1.5"], "rate is 1.5, and must lie between 0 and 1"),
        (["--rate", "nan"], "probability of dropping"),
        (["--rate", "half"], "half"),
        (["--seeds", "many"], "many"),
        (["--rate"], "--rate"),
        (["stray"], "stray"),
    ],
)
def test_a_typing_error_costs_one_line(capsys, argv, words):
    code, output = exits(capsys, cli.cli, Config, "text", argv)
    assert code == 2 and output.out == ""
    assert output.err.startswith("error: ") and output.err.count("\n") == 1
    assert words in output.err and "│" not in output.err and "--help" in output.err


def test_an_out_that_cannot_be_written_is_found_before_the_run(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        code, output = exits(capsys, cli.cli, Config, "text", ["--out", str(out)])
        assert code == 2 and output.err.count("\n") == 1 and "cannot be written" in output.err
    assert cli.cli(Config, "text", ["--out", str(tmp_path / "new")]).out == tmp_path / "new"
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("error", [ValueError("no\nsuch"), DataError("gone"), OSError("full")])
def test_an_error_of_the_library_costs_one_line(capsys, error):
    def run():
        with cli.user_errors():
            raise error

    code, output = exits(capsys, run)
    assert code == 2
    assert output.err == "error: " + " ".join(str(error).split()) + "\n"


def test_a_defect_keeps_its_traceback():
    with pytest.raises(TypeError), cli.user_errors():
        raise TypeError("a bug")


def test_paths_and_fresh_stay_out_of_records():
    config = Config(data_dir=Path("/data"), out=Path("/out"), fresh=True)
    assert record.recorded_config(config) == {
        "seeds": 3, "quick": False, "rate": 0.5, "hidden": [8, 8],
    }  # fmt: skip


def test_a_table_aligns_and_wants_whole_rows():
    lines = cli.text_table(["net", "error"], [["a", "1.05 ± 0.02"], ["longer", 2]]).splitlines()
    assert lines == ["net           error", "a       1.05 ± 0.02", "longer            2"]
    with pytest.raises(ValueError):
        cli.text_table(["net", "error"], [["a"]])


def test_the_program_is_named_as_it_is_started(tmp_path):
    source = (
        "from dataclasses import dataclass\nfrom experiments.harness import cli\n"
        "@dataclass\nclass Config:\n    seeds: int = 1\n"
        "cli.cli(Config, 'text')\n"
    )
    (tmp_path / "started.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "started", "--bad"],
        cwd=tmp_path, env={"PYTHONPATH": str(record.ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: Unrecognized options: --bad (see python -m started --help)\n"


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"1.0 +- 0.1"), ("utf-8", None)])
def test_a_terminal_that_cannot_show_a_sign_gets_it_spelled_out(monkeypatch, encoding, shown):
    text, raw = "1.0 ± 0.1", io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    cli.cli(Config, "text", [])
    print(text, flush=True)
    assert raw.getvalue().rstrip() == (shown or text.encode())


def test_doctests():
    assert doctest.testmod(cli).failed == 0
