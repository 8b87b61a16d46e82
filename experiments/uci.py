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

The 20 splits and the grid of a set are trained side by side in one compiled program.

Command: python -m experiments.uci
Expected: the table in docs/results/uci.md; yacht alone takes half a minute of two cores.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dropout_jax as dj
from dropout_jax import predict, train
from dropout_jax.data import load_uci
from dropout_jax.predict import moments
from dropout_jax.typing import Array
from experiments.harness import cli
from experiments.harness.launch import file_name, final, launch
from experiments.nets.regression import Net, loss

METHODS = ("dropout", "two_layers", "concrete", "ensemble")
MEMBERS, BATCH, LARGE = 5, 128, 5000


@dataclass(frozen=True)
class Config(cli.Common):
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
class Study(cli.Common):
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


def trained(config: Config, key, rate, tau, x: Array, y: Array) -> tuple[Net, Array]:
    """A network after as many updates as `config.epochs` of the authors' batches, and its losses.

    Their last batch of an epoch is smaller, and is not left out: ours has more epochs instead.
    """
    batch = min(BATCH, len(x))
    epochs = -(-config.epochs * -(-len(x) // batch) // (len(x) // batch))

    def build(rngs, hyper):
        return Net(config, hyper.get("rate", rate), hyper["tau"], x, y, rngs)

    traced = isinstance(rate, jax.Array)
    hyper = {"tau": tau} | ({"rate": rate} if traced else {})
    run = train.make_train(
        build,
        lambda hyper: optax.adam(1e-3),
        epochs=epochs,
        evaluate_every=epochs,
        batch_size=batch,
        loss=loss,
        metrics={},
    )
    result = run(key, hyper, {"train": (x, y)})
    return result.state.model(), result.losses[-1].mean()


def validation(config: Config, key, rate, taus, fit, held_out) -> Array:
    """The log-likelihood of held-out cases at each tau, by which rate and tau are chosen."""
    if not config.shared_tau:
        return jax.vmap(
            lambda tau: _validation(config, key, rate, tau, tau[None], fit, held_out)[0]
        )(taus)
    return _validation(config, key, rate, taus[len(taus) // 2], taus, fit, held_out)


def _validation(config, key, rate, trained_at, taus, fit, held_out):
    if config.method == "ensemble":
        means = members(config, key, trained_at, fit, held_out[0])
        return jax.vmap(lambda tau: mixture_ll(means, tau, held_out[1]))(taus)
    net, _ = trained(config, key, rate, trained_at, *fit)

    def of_tau(tau):
        return predict.mc_log_likelihood(
            dj.site_key(key, "validation"),
            net,
            *held_out,
            samples=config.validation_samples,
            noise=tau**-0.5,
        ).mean()

    return jax.vmap(of_tau)(taus)


def tested(config: Config, key, rate, tau, fit, held_out) -> dict[str, Array]:
    """What is reported of a split: errors and log-likelihoods in the units of the targets."""
    if config.method == "ensemble":
        means, y = members(config, key, tau, fit, held_out[0]), held_out[1]
        return {
            "rmse": rmse(jnp.mean(means, axis=0), y),
            "ll": mixture_ll(means, tau, y),
            "single_rmse": rmse(means[0], y),
        }
    (x, y), noise = held_out, tau**-0.5
    net, last_loss = trained(config, key, rate, tau, *fit)
    test_key = dj.site_key(key, "test")
    found = predict.mc_regress(test_key, net, x, samples=config.samples, noise=noise)
    lls = predict.mc_log_likelihood(test_key, net, x, y, samples=config.samples, noise=noise)
    single = predict.mc_samples(test_key, net, x, samples=1, output=_identity)[0]
    scaled = predict.predict_scaled(net, x, output=_identity)
    low, high = found.interval(0.9)
    result = {
        "rmse": rmse(found.mean, y),
        "ll": jnp.mean(lls),
        "coverage": jnp.mean((low[:, 0] <= y) & (y <= high[:, 0])),
        "single_rmse": rmse(single, y),
        "scaled_rmse": rmse(scaled, y),
        "scaled_ll": gaussian_ll(scaled, noise**2, y),
        "train_loss": last_loss,
    }
    if config.method == "concrete":
        drops = net.standard.model.layers
        return result | {f"rate_{i}": drop.rate for i, drop in enumerate(drops)}
    # The network of moments takes the rates as they are, traced.
    standard = net.standard
    mean, variance = moments.moments(standard.model, standard.scale_x(x))
    (y_mean,), (y_stddev,) = standard.y_mean[...], standard.y_stddev[...]
    mean, variance = y_mean + y_stddev * mean, y_stddev**2 * variance + noise**2
    return result | {"moments_rmse": rmse(mean, y), "moments_ll": gaussian_ll(mean, variance, y)}


def members(config: Config, key, tau, fit, x: Array) -> Array:
    """Predictions (members, cases) of networks without dropout that differ in their seed."""

    def member(number):
        net, _ = trained(config, jax.random.fold_in(key, number), 0.0, tau, *fit)
        return predict.predict_scaled(net, x, output=_identity)[:, 0]

    return jax.vmap(member)(jnp.arange(MEMBERS))


def mixture_ll(means: Array, tau: Array, y: Array) -> Array:
    return jnp.mean(predict.log_likelihood_samples(y, means, tau**-0.5))


def rmse(predicted: Array, y: Array) -> Array:
    return jnp.sqrt(jnp.mean((predicted.reshape(y.shape) - y) ** 2))


def gaussian_ll(mean: Array, variance: Array, y: Array) -> Array:
    logs = jax.scipy.stats.norm.logpdf(y, mean.reshape(y.shape), jnp.sqrt(variance).reshape(-1))
    return jnp.mean(logs)


def run(config: Config, checkpoint_dir: Path | None = None) -> dict[str, Any]:
    """Choose rate and tau for every split, train anew on all of its cases, and test. Not saved."""
    sets = [load_uci(folder_of(config), split) for split in range(config.seeds)]
    fit = [np.stack([getattr(s, name) for s in sets]) for name in ("train_x", "train_y")]
    test = [np.stack([getattr(s, name) for s in sets]) for name in ("test_x", "test_y")]
    if config.quick:
        fit, test = [a[:, :160] for a in fit], [a[:, :8] for a in test]
    keys = jax.vmap(jax.random.key)(jnp.arange(config.seeds))
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
    rate, tau = np.array([[rates[i], config.taus[j]] for i, j in best], np.float32).T

    @jax.jit
    @jax.vmap
    def test_one(key, rate, tau, fit, held_out):
        return tested(config, key, rate, tau, fit, held_out)

    test_keys = jax.vmap(lambda key: dj.site_key(key, "all cases"))(keys)
    final = test_one(test_keys, rate, tau, tuple(fit), tuple(test))
    chosen = {"rate": rate, "tau": tau, "val_ll": lls.max(axis=(1, 2))}
    extra = {
        "validation_lls": lls,
        "cases": sum(a.shape[1] for a in (fit[0], test[0])),
        "features": fit[0].shape[2],
        "data_sha256": [s.sha256 for s in sets],
    }
    return {"final": final | chosen, "extra": extra}


def folder_of(config: Config) -> Path:
    return uci_folder(config.data_dir) / config.dataset


def uci_folder(data_dir: Path | None) -> Path:
    """The folder of the sets: uci/ in the data's."""
    root = data_dir or os.environ.get("DROPOUT_JAX_DATA")
    folder = Path(root or ".").expanduser() / "uci"
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is no folder; write --data-dir, the folder that holds uci/<set>/data."
        )
    return folder


def found_sets(folder: Path) -> list[str]:
    """The sets of a folder, the one with the smallest file first."""
    files = sorted(folder.glob("*/data/data.txt"), key=lambda file: file.stat().st_size)
    return [file.parent.parent.name for file in files]


def config_of(study: Study, name: str, method: str) -> Config:
    """The settings of a set, from the files beside its data."""
    files = uci_folder(study.data_dir) / name / "data"

    def settings(name, default):
        path = files / f"{name}.txt"
        return np.atleast_1d(np.loadtxt(path)).tolist() if path.exists() else default

    shared = cli.shared(study)
    many = len(np.loadtxt(files / "index_train_0.txt")) > LARGE
    share = {"always": True, "never": False}.get(
        study.share_tau, many or method in ("two_layers", "ensemble")
    )
    shared["seeds"] = 2 if study.quick else min(study.seeds, int(settings("n_splits", [20])[0]))
    config = Config(
        **shared,
        dataset=name,
        method=method,
        hidden=int(settings("n_hidden", [50])[0]),
        rates=tuple(settings("dropout_rates", Config.rates)[-2 if study.quick else 0 :]),
        taus=tuple(settings("tau_values", Config.taus)),
        epochs=1 if study.quick else study.times_epochs * int(settings("n_epochs", [40])[0]),
        shared_tau=share and method != "concrete",
        samples=20 if study.quick else Config.samples,
        validation_samples=20 if study.quick else Config.validation_samples,
    )
    if method not in METHODS:
        raise ValueError(f"--methods has {method!r}; choose from {', '.join(METHODS)}.")
    return config


COLUMNS = {
    "RMSE": final("rmse", 4),
    "log-likelihood": final("ll", 4),
    "seconds": lambda r: f"{r.provenance['wall_seconds']:.0f}",
    "record": file_name,
}


def main(argv: Sequence[str] | None = None) -> None:
    study = cli.cli(Study, __doc__, argv)
    with cli.user_errors():
        sets = study.sets or found_sets(uci_folder(study.data_dir))
        sets = sets[:1] if study.quick and not study.sets else sets
        configs = (config_of(study, name, method) for name in sets for method in study.methods)
        launch("uci", configs, run, label=lambda c: f"{c.dataset}, {c.method}", columns=COLUMNS)


def _identity(outputs: Array) -> Array:
    return outputs


if __name__ == "__main__":
    main()
