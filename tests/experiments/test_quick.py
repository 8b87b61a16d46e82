"""Every experiment at --quick, found by looking. What would make this wrong: an experiment that
does not start, a record that is not of its config or gives other numbers when run again, a second
start that trains again.

The images are small made-up ones. A new module in experiments/ is run here without being listed; a
few have flags that make them cheaper still.
"""

import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest
from helpers.small_data import images

from dropout_jax import data
from experiments import rerun
from experiments.nets import text
from experiments.records import record

pytestmark = pytest.mark.slow

FOLDER = Path(rerun.__file__).parent
NO_RUN = {"rerun"}  # runs the records of the others
ELSEWHERE = {  # where a --quick run is tested, and why not here
    "keras_example": "test_experiments: keras is an extra, and its record holds times",
    "uci": "test_uci: on data of its own",
    "calibration": "test_calibration: with one method of five, on fewer angles",
}
CHEAPER = {
    "quickstart": "--hidden 8 8 --examples 60",
    "mnist": "--hidden 8 8 --alone",
    "family": "--hidden 8 8 --methods dropout",
    "thinned": "--hidden 32 --methods thin",
    "thinned_gpt": "--methods thin --rates 0.5 --longer 0",
    "thinned_noise": "--hidden 32 --block 4 --lives 1 10 --window 20 --batch-size 20 --draws 2",
    "concrete_synthetic": "--examples 25 --hidden 8",
    "sparse_variational": "--hidden 8 8",
    "batch_norm_shift": "--hidden 8 8",
    "ladder_baseline": "--hidden 8 8",
    "rate_advice": "--hidden 8 --candidates 0 0.5 --seeds 2",
}


def runnable():
    """The modules that `python -m experiments.<name>` starts."""
    return sorted(p.stem for p in FOLDER.glob("*.py") if "__main__" in p.read_text())


def test_there_are_experiments_to_run():
    assert len(runnable()) > 20
    assert set(CHEAPER) | set(ELSEWHERE) | NO_RUN <= set(runnable())
    for where in ELSEWHERE.values():
        assert (Path(__file__).parent / f"{where.split(':')[0]}.py").exists()


def flags_of(name, module):
    """One row of a grid, one seed, and what makes the experiment cheaper."""
    flags = ["--quick", *CHEAPER.get(name, "").split()]
    if "--seeds" not in flags:
        flags += ["--seeds", "1"]
    if hasattr(module, "grid") and "row" in {f for f in module.Config.__dataclass_fields__}:
        flags += ["--rows", module.grid("cpu")[0].row]
    return flags


@pytest.fixture
def small_data(monkeypatch):
    """A made-up text, and the made-up images, on 28x28 pixels for the convnet."""
    words = text.encoded("to be or not to be, that is the question. " * 400, "ab" * 32)
    monkeypatch.setattr(text, "load_shakespeare", lambda data_dir: words)
    small = images()
    pad = ((0, 0), (0, 28 * 28 - small.train_x.shape[1]))
    wide = small._replace(train_x=np.pad(small.train_x, pad), test_x=np.pad(small.test_x, pad))
    monkeypatch.setattr(data, "load", lambda name, data_dir=None: wide)


@pytest.mark.parametrize("name", [n for n in runnable() if n not in {*NO_RUN, *ELSEWHERE}])
def test_a_quick_run_leaves_a_record_that_runs_again(name, small_data, tmp_path, monkeypatch):
    module = importlib.import_module(f"experiments.{name}")
    argv = [*flags_of(name, module), "--out", str(tmp_path)]
    module.main(argv)
    records = record.read_all(name, tmp_path)
    assert records
    for r in records:
        assert r.config["quick"] and all(map(len, r.final.values()))
        assert np.isfinite([v for values in r.final.values() for v in values]).all()
    found = records[-1]
    config = rerun.build_config(module.Config, found.config, None)
    assert record.recorded_config(config) == found.config
    assert record.plain(module.run(config)["final"]) == found.final
    for function in ("run", "train_both"):
        if hasattr(module, function):
            monkeypatch.setattr(module, function, lambda *_: pytest.fail("trained again"))
    module.main(argv)
    assert len(record.read_all(name, tmp_path)) == len(records)


@pytest.mark.parametrize("name", [n for n in runnable() if n not in NO_RUN])
def test_an_experiment_says_what_to_run_and_what_to_expect(name):
    about = inspect.getdoc(importlib.import_module(f"experiments.{name}"))
    assert f"python -m experiments.{name}" in about
    assert "Claim" in about or "Question" in about
