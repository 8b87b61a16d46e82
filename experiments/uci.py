"""MC dropout on the UCI regression sets: the table of Gal and Ghahramani, by the clean protocol.

Claim (Gal and Ghahramani 2016, Table 1; the authors' grid search of 2018, whose numbers are the
target): averaged over sub-networks, a small network with dropout predicts better, and with a better
log-likelihood, than variational inference and probabilistic backpropagation.
Method, as the authors' code of 2018 has it: the 20 fixed splits; 50 ReLUs; dropout on the input and
the hidden layer, in training and in prediction; squared error of standardised targets plus
l^2 (1 - rate) / (2 N tau) times the squared weights, l = 0.01; Adam, batches of 128, 4000 epochs. A
rate and a precision tau of the noise are chosen for each split by the log-likelihood of the last
20 % of its training file, among 4 x 3; then a network is trained on all of it, and tested with
10 000 sub-networks. Ours has as many updates; the last, smaller batch of their epochs is left out,
and 1000 sub-networks are drawn to choose. The test cases are not looked at before that.
tau hardly changes what is trained, for the penalty is a millionth of the squared weights: on the
sets of more than 5000 cases, and for the columns beside dropout, one network a rate serves the
three values of tau. --share-tau never trains one for each, and --share-tau always one for all.
Columns beside it: one stochastic pass and weight scaling of the same networks; their moments
instead of samples; and, trained under the same protocol, two hidden layers, concrete dropout (the
rate is learned, tau chosen) and an ensemble of five networks without dropout (tau chosen).

The 20 splits and the grid of a set are trained side by side in one compiled program. All splits see
their training cases in one order: each split has numbered them at random.

Command: JAX_NUM_CPU_DEVICES=2 python -m experiments.uci --devices 2
Expected: the table in docs/results/uci.md; its column of minutes is of two cores.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import dropout_jax as dj
from dropout_jax.data import load_uci
from experiments.harness import cli, uci_sets
from experiments.harness.devices import divide_runs
from experiments.harness.launch import file_name, final, launch
from experiments.harness.training import seed_keys
from experiments.nets.regression_scores import tested, validation

METHODS = ("dropout", "two_layers", "concrete", "ensemble")
LARGE = 5000


@dataclass(frozen=True)
class Config(cli.Divided):
    """One set and one method; a seed is one of the fixed splits."""

    seeds: int = 20
    """how many of the fixed splits: 0 to seeds - 1"""
    dataset: str = "yacht"
    """the set's folder"""
    method: str = "dropout"
    """what is trained"""
    hidden: int = 50
    """units of a hidden layer (ReLU)"""
    rates: tuple[float, ...] = (0.005, 0.01, 0.05, 0.1)
    """dropout rates to choose from"""
    taus: tuple[float, ...] = (0.25, 0.5, 0.75)
    """precisions of the targets' noise to choose from, in the targets' units to the power -2"""
    epochs: int = 4000
    """whose number of updates a network is trained for"""
    samples: int = 10_000
    """sub-networks to test with"""
    validation_samples: int = 1000
    """sub-networks to choose with"""
    shared_tau: bool = False
    """choose tau for one network a rate, whose penalty is that of the middle tau"""


@dataclass(frozen=True)
class Study(cli.Divided):
    """Which sets and methods."""

    seeds: int = 20
    """how many of the fixed splits: 0 to seeds - 1"""
    sets: tuple[str, ...] = ()
    """folders of the data; not given: every set that is found, the smallest first"""
    methods: tuple[str, ...] = ("dropout",)
    """of dropout, two_layers, concrete and ensemble"""
    times_epochs: int = 100
    """how often the epochs of n_epochs.txt, which are 40: the authors tried 10, too"""
    share_tau: Literal["large", "always", "never"] = "large"
    """which networks serve all values of tau: those of large sets and of the columns beside"""


def run(config: Config, checkpoint_dir: Path | None = None) -> dict[str, Any]:
    """Choose rate and tau for every split, train anew on all of its cases, and test. Not saved."""
    start = time.process_time()
    folder = uci_sets.set_folder(config.data_dir, config.dataset)
    sets = [load_uci(folder, split) for split in range(config.seeds)]
    fit = [np.stack([getattr(s, name) for s in sets]) for name in ("train_x", "train_y")]
    test = [np.stack([getattr(s, name) for s in sets]) for name in ("test_x", "test_y")]
    if config.quick:
        fit, test = [a[:, :160] for a in fit], [a[:, :8] for a in test]
    splits = (seed_keys(config.seeds), fit, test)
    (keys, fit, test), _ = divide_runs(config.devices, splits, ())
    rates = {"concrete": (0.1,), "ensemble": (0.0,)}.get(config.method, config.rates)
    taus = jnp.asarray(config.taus, jnp.float32)
    first = int(0.8 * fit[0].shape[1])  # cases to choose on follow those to fit

    @jax.jit
    @jax.vmap
    def choose(key, x, y):
        def of_rate(rate):
            fit, held_out = (x[:first], y[:first]), (x[first:], y[first:])
            return validation(config, key, rate, taus, fit, held_out)

        return jnp.stack([of_rate(rate) for rate in rates])

    lls = np.asarray(choose(keys, *fit), np.float64)
    if not np.isfinite(lls).all():
        raise FloatingPointError(f"{config.dataset}: a log-likelihood is not finite.")
    best = [np.unravel_index(np.argmax(grid), grid.shape) for grid in lls]
    chosen = np.array([[rates[i], config.taus[j]] for i, j in best], np.float32).T
    (rate, tau), _ = divide_runs(config.devices, tuple(chosen), ())

    @jax.jit
    @jax.vmap
    def test_one(key, rate, tau, fit, held_out):
        return tested(config, key, rate, tau, fit, held_out)

    test_keys = jax.vmap(lambda key: dj.site_key(key, "all cases"))(keys)
    final = jax.block_until_ready(test_one(test_keys, rate, tau, tuple(fit), tuple(test)))
    choice = {"rate": rate, "tau": tau, "val_ll": lls.max(axis=(1, 2))}
    extra = {
        "validation_lls": lls,
        "cases": sum(a.shape[1] for a in (fit[0], test[0])),
        "features": fit[0].shape[2],
        "data_sha256": [s.sha256 for s in sets],
        "cpu_seconds": time.process_time() - start,  # of all cores; other work does not count
    }
    return {"final": final | choice, "extra": extra}


def config_of(study: Study, name: str, method: str) -> Config:
    """The settings of a set, from the files beside its data."""
    if method not in METHODS:
        raise ValueError(f"--methods has {method!r}; choose from {', '.join(METHODS)}.")
    folder = uci_sets.set_folder(study.data_dir, name)

    def setting(name, default):
        return uci_sets.settings(folder, name, default)

    def whole(name, default):
        return int(setting(name, default)[0])

    large = uci_sets.training_cases(folder) > LARGE
    share = {"always": True, "never": False}.get(
        study.share_tau, large or method in ("two_layers", "ensemble")
    )
    shared = cli.shared(study)
    shared["seeds"] = 2 if study.quick else min(study.seeds, uci_sets.splits(folder))
    return Config(
        **shared,
        dataset=name,
        method=method,
        hidden=whole("n_hidden", Config.hidden),
        rates=tuple(setting("dropout_rates", Config.rates)[-2 if study.quick else 0 :]),
        taus=tuple(setting("tau_values", Config.taus)),
        epochs=1 if study.quick else study.times_epochs * whole("n_epochs", 40),
        shared_tau=share and method != "concrete",
        samples=20 if study.quick else Config.samples,
        validation_samples=20 if study.quick else Config.validation_samples,
    )


COLUMNS = {
    "RMSE": final("rmse", 4),
    "log-likelihood": final("ll", 4),
    "seconds": lambda r: f"{r.provenance['wall_seconds']:.0f}",
    "record": file_name,
}


def main(argv: Sequence[str] | None = None) -> None:
    study = cli.cli(Study, __doc__, argv)
    with cli.user_errors():
        sets = study.sets or uci_sets.found_sets(uci_sets.uci_folder(study.data_dir))
        sets = sets[:1] if study.quick and not study.sets else sets
        configs = (config_of(study, name, method) for name in sets for method in study.methods)
        launch("uci", configs, run, label=lambda c: f"{c.dataset}, {c.method}", columns=COLUMNS)


if __name__ == "__main__":
    main()
