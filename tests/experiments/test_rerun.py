"""Running a record again. What would make this wrong: a difference called equal, a config that is
silently not that of the record."""

import importlib
import json
import math
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from experiments import rerun
from experiments.records import provenance, record
from experiments.records.config import without_defaults
from experiments.report import mlp_settings

NO_RECORDS = {"benchmark", "figures"}


@dataclass(frozen=True)
class Config:
    seeds: int = 2
    hidden: tuple[int, ...] = (3, 4)
    data_dir: Path | None = field(default=None, metadata=record.NOT_RECORDED)


@pytest.fixture
def fake(monkeypatch):
    """An experiment whose result is `final`; `seen` keeps the configs that it was run with."""
    module = types.ModuleType("experiments.fake")
    module.Config, module.seen = Config, []
    module.final = {"error": [0.1, math.nan], "loss": [1.0, 2.0]}

    def run(config):
        module.seen.append(config)
        return {"final": module.final}

    module.run = run
    monkeypatch.setitem(sys.modules, "experiments.fake", module)
    assert importlib.import_module("experiments.fake") is module
    return module


@pytest.fixture
def path(fake, tmp_path):
    return record.write(
        "fake", Config(hidden=(7,)), fake.run(None),
        data_sha256=None, wall_seconds=1, folder=tmp_path,
    )  # fmt: skip


def exit_code(*argv):
    with pytest.raises(SystemExit) as stop:
        rerun.main([str(a) for a in argv])
    return stop.value.code


def test_the_same_numbers_are_equal(fake, path, capsys):
    assert exit_code(path) == 0
    assert capsys.readouterr().out == "error: equal\nloss: equal\n"
    assert fake.seen[-1] == Config(hidden=(7,))  # a list in JSON, a tuple again
    assert exit_code(path, "--data-dir", "/data") == 0
    assert fake.seen[-1].data_dir == Path("/data")


def test_a_record_of_other_code_is_run_all_the_same(fake, path, capsys):
    """What counts is the numbers: a comment may have changed, or what the digest is taken of."""
    digest = record.read(path).provenance["source_sha256"]
    path.write_text(path.read_text().replace(digest, "0" * 64))
    assert exit_code(path) == 0


@pytest.mark.parametrize(
    ("final", "line"),
    [
        ({"error": [0.1, math.nan], "loss": [1.0, 2.0000000000000004]}, "loss: differs in 1 of 2"),
        ({"error": [math.nan, math.nan], "loss": [1.0, 2.0]}, "error: differs in 1 of 2"),
        ({"error": [0.1, math.nan], "loss": [1.0]}, "loss: 2 seeds in the record, 1 now"),
        ({"error": [0.1, math.nan]}, "loss: only in the record"),
        ({"error": [0.1, math.nan], "loss": [1.0, 2.0], "new": [0.0] * 2}, "new: not in the"),
    ],
)
def test_the_least_difference_is_found(fake, path, capsys, final, line):
    fake.final = final
    assert exit_code(path) == 1
    output = capsys.readouterr().out
    assert line in output and "the record was made on" in output


@pytest.mark.parametrize(("recorded", "then"), [(64, "64"), (None, "an unknown number of")])
def test_a_difference_on_a_cpu_says_how_many_cores_there_were(fake, path, capsys, recorded, then):
    old = json.loads(path.read_text())
    old["provenance"] |= {"device": {"platform": "cpu", "kind": "cpu", "count": 1}}
    old["provenance"].pop("cores")  # as older records
    old["provenance"] |= {"cores": recorded} if recorded else {}
    path.write_text(json.dumps(old))
    fake.final = {"error": [0.2, 0.3]}
    assert exit_code(path) == 1
    assert f"on {then} cores, and now on {provenance.cores()}: sums" in capsys.readouterr().out


def test_bad_input_costs_one_line(fake, path, capsys, tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    text = path.read_text()
    cases = [(tmp_path / "absent.json", "absent.json"), (broken, "is not a record")]
    for old, new, message in [
        ('"fake"', '"absent"', "'absent' cannot be run"),
        ('"fake"', '"../fake"', "cannot be run"),
        ('"fake"', '"paper"', "cannot be run"),
        ('"hidden"', '"width"', "['width'] of the record are no settings"),
    ]:
        changed = tmp_path / f"case{len(cases)}.json"
        changed.write_text(text.replace(old, new, 1))
        cases.append((changed, message))
    for file, message in cases:
        assert exit_code(file) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert exit_code() == 2


@pytest.fixture(scope="module")
def committed():
    names = [f.name for f in record.RESULTS.iterdir() if f.name not in NO_RECORDS]
    return [r for name in sorted(names) for r in record.read_all(name)]


def test_every_committed_record_is_the_run_of_its_config(committed):
    """A Config that got a setting, or lost one, still means what its records were made with."""
    assert len(committed) > 350
    for r in committed:
        config = rerun.build_config(rerun.experiment_module(r.experiment).Config, r.config, None)
        defaults = record.defaults_of(config)
        again = without_defaults(record.recorded_config(config), defaults)
        assert again == without_defaults(r.config, defaults), r.path


def test_the_tables_know_the_default_of_every_setting_that_old_records_lack(committed):
    """Else a run at the default would stand beside an old record of the same settings."""
    for r in committed:
        if "kl_sparsity" in r.config:  # of the MLP
            defaults = record.defaults_of(rerun.experiment_module(r.experiment).Config)
            for name in defaults.keys() - r.config.keys():
                assert mlp_settings.DEFAULTS[name] == defaults[name], (name, r.path)
