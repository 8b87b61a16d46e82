"""The UCI experiment at a size of seconds, and its table.

What would make this wrong: settings that are chosen with test cases; fewer updates than the
authors'; a log-likelihood in standard deviations in place of units.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import uci
from experiments.harness.devices import divide_runs
from experiments.harness.training import seed_keys
from experiments.nets.regression import Net
from experiments.nets.regression_fit import lengths, trained
from experiments.nets.regression_scores import gaussian_ll, rmse
from experiments.records import record
from experiments.records.literature.uci_splits import BY_SPLIT
from experiments.report import uci as table

CASES = 60


@pytest.fixture
def data_dir(tmp_path):
    """A set of two splits in the layout of the UCI folders, its target in large units."""
    files = tmp_path / "uci" / "line" / "data"
    files.mkdir(parents=True)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(CASES, 2))
    np.savetxt(files / "data.txt", np.column_stack([x, 1000 + 50 * x[:, 0]]))
    np.savetxt(files / "index_features.txt", [0, 1])
    np.savetxt(files / "index_target.txt", [2])
    np.savetxt(files / "tau_values.txt", [4e-4, 8e-4])
    for split in range(2):
        order = rng.permutation(CASES)
        np.savetxt(files / f"index_train_{split}.txt", order[6:])
        np.savetxt(files / f"index_test_{split}.txt", order[:6])
    return tmp_path


@pytest.mark.slow
def test_a_quick_run_leaves_a_record_and_goes_on_from_it(data_dir, tmp_path, capsys):
    arguments = ["--quick", "--data-dir", str(data_dir), "--out", str(tmp_path / "runs")]
    uci.main(arguments)
    (found,) = record.read_all("uci", tmp_path / "runs")
    assert found.config["dataset"] == "line" and found.config["taus"] == [4e-4, 8e-4]
    assert len(found.final["rmse"]) == 2 and np.isfinite(found.final["ll"]).all()
    assert np.shape(found.extra["validation_lls"]) == (2, 2, 2)
    uci.main(arguments)
    assert len(record.read_all("uci", tmp_path / "runs")) == 1
    assert "log-likelihood" in capsys.readouterr().out


@pytest.mark.slow
def test_the_settings_do_not_depend_on_the_test_cases(data_dir):
    """With other targets of the test cases, the choice is the same, and the error is not."""
    config = uci.config_of(uci.Study(quick=True, data_dir=data_dir), "line", "ensemble")
    found = uci.run(config)
    path = data_dir / "uci" / "line" / "data"
    values = np.loadtxt(path / "data.txt")
    values[np.loadtxt(path / "index_test_0.txt").astype(int), 2] += 500
    np.savetxt(path / "data.txt", values)
    other = uci.run(config)
    for name in ("rate", "tau"):
        np.testing.assert_array_equal(found["final"][name][0], other["final"][name][0])
    np.testing.assert_allclose(
        found["extra"]["validation_lls"][0], other["extra"]["validation_lls"][0], rtol=1e-6
    )
    assert other["final"]["rmse"][0] > found["final"]["rmse"][0] + 100


def test_all_splits_of_a_set_are_run(data_dir):
    assert uci.config_of(uci.Study(data_dir=data_dir), "line", "dropout").seeds == 2


def test_the_penalty_is_that_of_the_authors():
    """l^2 (1 - rate) / (2 N tau) of the squares of both kernels, and not of the biases."""
    x, y = np.random.default_rng(0).normal(size=(2, 40, 1)).astype(np.float32)
    net = Net(uci.Config(hidden=3), 0.1, 0.5, x, y[:, 0], rngs=nnx.Rngs(0))
    squares = sum(float(jnp.sum(w.kernel[...] ** 2)) for w in net.standard.model.linears)
    np.testing.assert_allclose(net.penalty(), 1e-4 * 0.9 / (2 * 40 * 0.5) * squares, rtol=1e-5)


@pytest.mark.parametrize(("cases", "batches"), [(277, 3), (128, 1), (60, 1)])
def test_as_many_updates_as_the_authors(cases, batches):
    """At least epochs times their batches, the smaller last one included, and one epoch more."""
    batch, steps, epochs = lengths(10, cases)
    assert steps * batch <= cases < (steps + 1) * batch
    assert 0 <= epochs * steps - 10 * batches < steps


def test_a_split_is_the_same_by_itself():
    """Its network depends neither on the other splits nor on how many devices train them."""
    config = uci.Config(epochs=2, hidden=3)
    keys = seed_keys(4)
    x, y = jax.random.normal(keys[0], (2, 4, 300, 1))

    def losses(*splits):
        of_split = jax.vmap(lambda key, x, y: trained(config, key, 0.1, 0.5, x, y[:, 0])[1])
        return jax.jit(of_split)(*splits)

    alone = losses(keys[2:3], x[2:3], y[2:3])
    divided, _ = divide_runs(2, (keys, x, y), ())
    together = losses(*divided)
    np.testing.assert_allclose(together[2:3], alone, rtol=1e-5)
    assert len(np.unique(together)) == 4


def test_errors_are_in_the_units_of_the_targets():
    y = jnp.array([0.0, 3.0])
    assert float(rmse(jnp.array([[1.0], [2.0]]), y)) == 1.0
    found = gaussian_ll(jnp.zeros((2, 1)), jnp.full((2, 1), 4.0), y)
    np.testing.assert_allclose(found, -np.log(2) - np.log(2 * np.pi) / 2 - 9 / 16, rtol=1e-6)


def test_bad_flags(data_dir, capsys):
    for arguments, message in [
        (["--data-dir", str(data_dir / "none")], "write --data-dir"),
        (["--data-dir", str(data_dir), "--methods", "magic"], "choose from dropout"),
        (["--data-dir", str(data_dir), "--sets", "lines"], "there are: line"),
    ]:
        with pytest.raises(SystemExit):
            uci.main([*arguments, "--quick", "--out", str(data_dir / "runs")])
        assert message in capsys.readouterr().err


def test_the_table_shows_published_and_ours(tmp_path):
    final = {name: [1.0, 3.0] for name in ("rmse", "ll", "single_rmse", "scaled_rmse", "scaled_ll")}
    for epochs, error in ((400, 9.0), (4000, 2.0)):
        record.write(
            "uci",
            {"dataset": "yacht", "method": "dropout", "epochs": epochs, "seeds": 2, "quick": False},
            {
                "final": final | {"rmse": [error, error + 2]},
                "extra": {"cases": 308, "features": 6},
            },
            data_sha256=None,
            wall_seconds=90.0,
            folder=tmp_path,
        )
    text = table.table(tmp_path)
    # 3 ± 1 of ours beside 0.666 ± 0.049: (3 - 0.6663) / sqrt(1 + 0.0486^2)
    assert "| yacht | 308 | 6 | 2 | 4000 | 1.11 ± 0.09 | 0.67 ± 0.05 | 3.00 ± 1.00 | +2.3 |" in text
    assert "9.00" not in text
    assert "| yacht | 1.229 | 2.00 ± 1.00 | 2.00 ± 1.00 | 3.00 ± 1.00 | – |" in table.columns(
        tmp_path
    )


def test_paired_splits_are_compared_one_by_one(tmp_path):
    """Ours is 0.1 and 0.3 above theirs, in turn: 0.2 ± 0.1 / sqrt(19), whatever they vary."""
    theirs = BY_SPLIT["yacht", "ll"]
    ours = [value + (0.1, 0.3)[i % 2] for i, value in enumerate(theirs)]
    record.write(
        "uci",
        {"dataset": "yacht", "method": "dropout", "epochs": 4000, "seeds": 20, "quick": False},
        {"final": {"rmse": ours, "ll": ours}, "extra": {"cases": 308, "features": 6}},
        data_sha256=None,
        wall_seconds=90.0,
        folder=tmp_path,
    )
    (row,) = table.paired(tmp_path).splitlines()[2:]
    assert row.startswith("| yacht | log-likelihood | -1.260 ± 0.014 | -1.060 ±")
    assert row.endswith("| 0.200 ± 0.023 | +8.7 |")
