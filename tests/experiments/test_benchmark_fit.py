"""The benchmark of whole training runs, and its table.

What would make this wrong: a model of one library that has more parameters than that of the other,
a ratio of the wrong pair, a second call that compiles.
"""

import sys

import jax
import numpy as np
import pytest
from flax import nnx

from experiments.benchmark import fit, suites
from experiments.records.libraries import KERAS, OURS, PLAIN_LOOP, TORCH
from experiments.report import benchmark_fit

ROW = {"model": "MLP", "examples": 64, "batch": 32, "first_call_s": 3.0, "second_call_s": 0.5}
ROWS = [
    ROW | {"library": PLAIN_LOOP, "epoch_s": 0.5, "ratio_to_plain_loop": 1.0},
    ROW | {"library": OURS, "epoch_s": 0.25, "ratio_to_plain_loop": 0.5, "second_call_s": 0.27},
    ROW | {"library": KERAS, "epoch_s": 0.75, "ratio_to_plain_loop": 1.5, "second_call_s": 0.8},
    ROW | {"library": TORCH, "epoch_s": 1.0, "ratio_to_plain_loop": 2.0, "first_call_s": 1.1},
]


def test_a_line_has_the_ratios_and_what_a_second_call_costs():
    line = benchmark_fit.fit(ROWS).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["MLP, 64 examples, batch 32", "0.250", "0.50", "0.33 (≤ 0.5)", "0.25",
                     "3.0", "3.0", "3.0", "1.1", "0.02", "0.05"]  # fmt: skip
    without = benchmark_fit.fit(ROWS[:2]).splitlines()[-1]
    assert without.count("–") == 5


@pytest.mark.compare
@pytest.mark.parametrize("name", fit.WORKLOADS)
def test_keras_s_models_have_as_many_parameters(name):
    k = pytest.importorskip("keras", reason="Keras is absent: pip install -e '.[compare]'")
    workload = fit.WORKLOADS[name]
    x, _ = workload.data(4)
    with jax.numpy_rank_promotion("allow"):  # which Keras needs
        theirs = fit.keras_model(k, workload, x.dtype.name)
    assert parameters(workload) == theirs.count_params()


@pytest.mark.compare
@pytest.mark.parametrize("name", fit.WORKLOADS)
def test_pytorch_s_models_have_as_many_parameters_and_take_the_data(name):
    pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[torch]'")
    from experiments.benchmark import fit_torch

    workload = fit.WORKLOADS[name]
    theirs = getattr(fit_torch, workload.torch)()
    count = sum(p.numel() for p in theirs.parameters())
    second_bias = 4 * 64 if name == "RNN" else 0
    assert count == parameters(workload) + second_bias
    x, _ = workload.data(4)
    assert theirs(fit_torch.inputs(x)).shape == (4, 10)


def parameters(workload):
    ours = nnx.eval_shape(lambda: workload.model(nnx.Rngs(0)))
    return sum(np.prod(p.shape) for p in jax.tree.leaves(nnx.state(ours, nnx.Param)))


def test_a_missing_pytorch_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install" in fit.missing()[TORCH]


@pytest.mark.slow
def test_the_suite_gives_a_row_a_library(monkeypatch):
    monkeypatch.setattr(fit, "WORKLOADS", {"MLP": fit.WORKLOADS["MLP"]})
    monkeypatch.setattr(fit, "missing", lambda: {TORCH: "not asked for"})
    plan = suites.QUICK._replace(examples=32, epoch_rounds=2)
    rows = list(fit.fit({}, plan))
    assert [row["library"] for row in rows] == [PLAIN_LOOP, OURS]
    assert rows[0]["ratio_to_plain_loop"] == 1
    assert rows[1]["second_call_s"] < rows[1]["first_call_s"] / 2
    assert fit.table(rows).count("MLP") == 2
