"""One run, one JSON file. What would make this wrong: a lost digit, a replaced file, a leaked path,
a NaN that reads back as something else, a config that is not recognised again."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import rerun
from experiments.records import provenance, record
from experiments.records.config import RETIRED
from experiments.records.record import NOT_RECORDED


@dataclass(frozen=True)
class Config:
    seeds: int = 3
    rate: float = 0.1
    hidden: tuple[int, ...] = (8, 4)
    data_dir: Path | None = field(default=None, metadata=NOT_RECORDED)


@dataclass(frozen=True)
class Later(Config):
    """The same experiment, after it has grown a setting."""

    life: int = 0
    layers: tuple[int, ...] | None = None


FINAL = {"test_error": [1.05, 1 / 3, float(np.float32(0.1))]}
BY_EPOCH = {"test_error": [[2.0, 1.23456789], [3.0, 2.0], [math.pi, 1.0]]}


def write(folder, config=None, **result):
    result = {"final": FINAL, **result}
    config = config or Config()
    return record.write(
        "fake", config, result, data_sha256={"mnist": "ab"}, wall_seconds=1.5, folder=folder
    )


def test_a_record_reads_back_as_it_was_written(tmp_path):
    path = write(tmp_path, by_epoch=BY_EPOCH, extra={"updates": 10, "note": "a, [b  c"})
    back = record.read(path)
    assert path.parent == tmp_path / "fake"
    assert back.final == FINAL  # exact: every bit of a float survives
    assert back.by_epoch == {"test_error": [[2.0, 1.23457], [3.0, 2.0], [3.14159, 1.0]]}
    assert back.extra == {"updates": 10, "note": "a, [b  c"}
    assert back.config == {"seeds": 3, "rate": 0.1, "hidden": [8, 4]}
    assert back.path == path


def test_a_setting_that_came_later_leaves_old_records_the_runs_of_their_configs(tmp_path):
    path = write(tmp_path)
    assert record.find("fake", Later(), tmp_path).path == path
    assert record.find("fake", Later(life=1), tmp_path) is None
    later = write(tmp_path, Later(life=1, layers=(2, 3)))
    found = record.find("fake", Later(life=1, layers=(2, 3)), tmp_path)
    assert found.path == later and found.config["layers"] == [2, 3]
    assert rerun.build_config(Later, found.config, None) == Later(life=1, layers=(2, 3))
    assert rerun.build_config(Later, record.read(path).config, None) == Later()


def test_a_setting_that_is_gone_leaves_old_records_the_runs_of_their_configs(tmp_path):
    """At the value that the code still stands for; a record of another value is of other code."""
    path = write(tmp_path, {**record.recorded_config(Config()), "warm_up": RETIRED["warm_up"]})
    assert record.find("fake", Config(), tmp_path).path == path
    assert rerun.build_config(Config, record.read(path).config, None) == Config()
    other = {**record.recorded_config(Config()), "warm_up": RETIRED["warm_up"] + 1}
    write(tmp_path, other)
    assert record.find("fake", Config(), tmp_path).path == path
    with pytest.raises(ValueError, match="warm_up.*check out"):
        rerun.build_config(Config, other, None)


def test_all_settings_are_recorded(tmp_path):
    """So that a record can be read without the code that made it."""
    assert record.recorded_config(Later()) == {
        "seeds": 3, "rate": 0.1, "hidden": [8, 4], "life": 0, "layers": None,
    }  # fmt: skip


def test_arrays_of_numpy_and_jax_are_numbers(tmp_path):
    final = {"a": jnp.arange(3.0), "b": [np.float64(1.5), jnp.float32(0.1), np.int64(2)]}
    back = record.read(write(tmp_path, final=final))
    assert back.final == {"a": [0.0, 1.0, 2.0], "b": [1.5, float(np.float32(0.1)), 2]}


def test_provenance_is_complete_and_names_no_machine(tmp_path):
    path = write(tmp_path, Config(data_dir=tmp_path))
    text, back = path.read_text(), record.read(path).provenance
    assert set(back) == {
        "command", "commit", "dirty", "source_sha256", "versions", "device", "cpu", "cores", "utc",
        "wall_seconds", "data_sha256",
    }  # fmt: skip
    assert set(back["versions"]) == {"python", "jax", "jaxlib", "flax", "optax", "numpy"}
    assert all(back["versions"].values())
    assert set(back["device"]) == {"platform", "kind", "count"}
    assert back["cores"] == provenance.cores() >= 1
    assert back["wall_seconds"] == 1.5 and back["data_sha256"] == {"mnist": "ab"}
    for leak in (tmp_path, Path.home(), record.ROOT):
        assert str(leak) not in text


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/a/experiments/fake.py", "--rate", "0.5"], "python -m experiments.fake --rate 0.5"),
        (["/a/fake.py", "--out", "/folder/x", "--quick"], "python -m experiments.fake --quick"),
        (["/a/fake.py", "--quick", "--out=/folder/x"], "python -m experiments.fake --quick"),
        (["/bin/pytest", "-x"], None),
    ],
)
def test_the_command_is_kept_without_paths(argv, command):
    assert provenance.command("fake", argv) == command


@pytest.fixture
def fresh_code():
    provenance.code.cache_clear()
    yield
    provenance.code.cache_clear()


def test_provenance_does_without_git(monkeypatch, tmp_path, fresh_code):
    monkeypatch.setenv("PATH", str(tmp_path))
    made = provenance.provenance("fake", data_sha256=None, wall_seconds=0)
    assert made["commit"] is None and made["dirty"] is None
    assert len(made["source_sha256"]) == 64


def test_a_change_of_the_code_is_dirty_and_a_log_is_not(monkeypatch, tmp_path, fresh_code):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)

    def dirty_with(name):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
        provenance.code.cache_clear()
        return provenance.code()["dirty"]

    assert dirty_with("dropout_jax/a.py") is None  # no repository yet
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "a"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    assert dirty_with("run.log") is False
    assert dirty_with("experiments/results/fake/1.json") is False
    assert dirty_with("experiments/new.py") is True


@pytest.mark.parametrize("tracked", [False, True])
def test_a_copy_in_another_repository_does_not_name_its_commit(
    monkeypatch, tmp_path, fresh_code, tracked
):
    """An installed package, or a copy that somebody keeps among their own code."""
    copy = tmp_path / "theirs" / "vendored"
    (copy / "dropout_jax").mkdir(parents=True)
    (copy / "dropout_jax" / "a.py").write_text("1")
    (tmp_path / "theirs" / "mine.py").write_text("1")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    added = "." if tracked else "mine.py"
    for arguments in (["init", "-q"], ["add", added], [*author, "commit", "-qm", "a"]):
        subprocess.run(["git", *arguments], cwd=tmp_path / "theirs", check=True)
    monkeypatch.setattr(provenance, "ROOT", copy)
    made = provenance.code()
    assert made["commit"] is None and made["dirty"] is None
    assert made["version"] == provenance._version("dropout_jax")


def test_the_digest_follows_all_code_and_is_that_of_the_start(monkeypatch, tmp_path, fresh_code):
    for name in ("dropout_jax/a.py", "experiments/benchmark/b.py", "experiments/results/c.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    digests = [provenance.source_sha256()]
    at_start = provenance.code()["source_sha256"]
    for name in ("dropout_jax/a.py", "experiments/benchmark/b.py"):
        (tmp_path / name).write_text("2")
        digests.append(provenance.source_sha256())
    assert len(set(digests)) == 3
    (tmp_path / "experiments/results/c.json").write_text("2")
    assert provenance.source_sha256() == digests[-1]
    assert provenance.code()["source_sha256"] == at_start == digests[0]


def test_no_record_is_ever_replaced(tmp_path):
    paths = [write(tmp_path, final={"x": [float(i)] * 3}) for i in range(3)]
    assert len(set(paths)) == 3
    assert [p.stem.rpartition("-")[2] for p in paths[1:]] == ["2", "3"]
    assert [record.read(p).final["x"][0] for p in paths] == [0.0, 1.0, 2.0]
    assert sorted(tmp_path.rglob("*")) == sorted([tmp_path / "fake", *paths])  # no temporary left


def test_a_run_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(ValueError):
        write(tmp_path, extra={"x": object()})
    assert list(tmp_path.iterdir()) == []


def test_find_knows_a_config_again_and_gives_the_newest(tmp_path):
    write(tmp_path, final={"x": [0.0] * 3})
    last = write(tmp_path, final={"x": [1.0] * 3})
    write(tmp_path, Config(rate=0.2))
    assert record.find("fake", Config(data_dir=Path("/elsewhere")), tmp_path).path == last
    assert record.find("fake", Config(rate=0.3), tmp_path) is None
    assert record.find("absent", Config(), tmp_path) is None


def test_newest_leaves_out_the_old_and_the_quick(tmp_path):
    write(tmp_path)
    last = write(tmp_path)
    write(tmp_path, {"seeds": 3, "quick": True})
    records = record.read_all("fake", tmp_path)
    assert len(records) == 3
    assert [r.path for r in record.newest(records)] == [last]


def test_values_that_are_not_finite_survive_in_strict_json(tmp_path):
    final = {"x": [math.nan, math.inf, -math.inf]}
    path = write(tmp_path, final=final, by_epoch={"x": [[math.nan]] * 3})

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    json.loads(path.read_text(), parse_constant=refuse)
    back = record.read(path)
    assert math.isnan(back.final["x"][0]) and back.final["x"][1:] == [math.inf, -math.inf]
    assert math.isnan(back.by_epoch["x"][0][0])


@pytest.mark.parametrize(
    ("config", "result", "message"),
    [
        ({"c": math.inf}, {"final": {"x": [1]}}, "finite"),
        ({"c": [1.0, math.nan]}, {"final": {"x": [1]}}, "finite"),
        ({"c": "/folder/mnist"}, {"final": {"x": [1]}}, "NOT_RECORDED"),
        ({"c": Path("data")}, {"final": {"x": [1]}}, "numbers, strings"),
        ({}, {"final": {}}, "one number a seed"),
        ({}, {"final": {"x": [1]}, "metrics": {}}, "metrics"),
        ({}, {"final": {"x": [[1]]}}, "one number a seed"),
        ({}, {"final": {"x": ["1"]}}, "one number a seed"),
        ({}, {"final": {"x": 1.0}}, "one number a seed"),
        ({}, {"final": {"x": [1], "y": [1, 2]}}, "one entry a seed"),
        ({"seeds": 2}, {"final": {"x": [1]}}, "2 in all"),
        ({"seeds": 1}, {"final": {"x": [1]}, "by_epoch": {"x": [[1], [2]]}}, "by_epoch x"),
    ],
)
def test_a_result_that_does_not_fit_is_refused(tmp_path, config, result, message):
    with pytest.raises(ValueError, match=message):
        record.write("fake", config, result, data_sha256=None, wall_seconds=0, folder=tmp_path)
    assert not (tmp_path / "fake").exists()


@pytest.mark.parametrize("text", ["", "[1]", '{"experiment": "x"}', "{", '{"final": 1, "x": 2}'])
def test_a_file_that_is_no_record_is_named(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="broken.json is not a record"):
        record.read(path)


def test_reading_imports_no_jax():
    modules = "experiments.records.record, experiments.records.literature"
    code = f"import sys, {modules}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=record.ROOT).returncode == 0
