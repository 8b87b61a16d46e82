"""An MLP with the paper's units and noise: its network, its loss, and a run of it.

The network reported is that of the last update. The test error is recorded along the way and
decides nothing; with `validation` the last training images take the test set's place.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import dropout_jax as dj
from dropout_jax import losses
from dropout_jax.train import cross_entropy
from dropout_jax.typing import Array
from experiments.harness.grid import Budget, launch_grid, no_candidates
from experiments.harness.once import Run
from experiments.harness.splits import load_splits
from experiments.harness.training import QUICK_EPOCHS, Outcome, check_counts, train_seeds
from experiments.nets import bfloat16
from experiments.nets.config import Config, MLPStudy, check
from experiments.nets.sgd import optimizer

QUICK_WIDTH = 32  # of hidden layers, with --quick
SPARSITY_TARGET = 0.1  # the mean activity of a hidden unit that kl_sparsity asks for


def launch(
    experiment: str,
    description: str,
    argv: Sequence[str] | None,
    *,
    budgets: Mapping[str, Budget],
    grid: Callable[[str], Sequence[Config]],
    run: Run,
    candidates: Callable[[Config], Sequence[Config]] = no_candidates,
    check: Callable[[Config], None] = check,
) -> None:
    """The command of a grid of MLPs; see `launch_grid`."""
    launch_grid(
        experiment, description, argv, budgets=budgets, grid=grid, run=run,
        candidates=candidates, study=MLPStudy, check=check,
    )  # fmt: skip


class Trained(NamedTuple):
    """What a run leaves: the networks, and the result to record."""

    outcome: Outcome
    result: dict[str, Any]


def run(
    config: Config, checkpoint_dir: Path | None = None, loss: losses.Loss | None = None
) -> dict[str, Any]:
    """Train the seeds of a config side by side in one program."""
    return train(config, checkpoint_dir, loss).result


def train(
    config: Config, checkpoint_dir: Path | None = None, loss: losses.Loss | None = None
) -> Trained:
    """Train, and keep the networks; `loss` takes the place of the config's own."""
    check_counts(updates=config.updates, batch_size=config.batch_size)
    check(config)
    split = load_splits(config)
    (held_out,) = split.keys() - {"train"}
    cases = min(config.training_cases or len(split["train"][0]), len(split["train"][0]))
    per_epoch = cases // config.batch_size
    if not per_epoch:
        raise ValueError(f"{cases} training cases do not fill a batch of {config.batch_size}")
    epochs = max(1, round(config.updates / per_epoch))
    outcome = train_seeds(
        lambda rngs, hyper: network(config, split["train"][0].shape[1], rngs),
        lambda updates: optimizer(config, updates),
        split,
        seeds=config.seeds,
        devices=config.devices,
        epochs=min(QUICK_EPOCHS, epochs) if config.quick else epochs,
        batch_size=config.batch_size,
        loss=loss or loss_of(config),
        thin=dj.Thin(steps=config.life) if config.life else None,
        training_cases=config.training_cases,
        evaluate=(held_out,),
        evaluations=config.evaluations,
        in_turn=config.in_turn,
        checkpoint_dir=checkpoint_dir,
        label=config.row,
    )
    result = outcome.result(evaluated_at=outcome.history.epochs * per_epoch)
    result["final"]["train_error"] = outcome.train_error()
    return Trained(outcome, result)


def network(config: Config, inputs: int, rngs: nnx.Rngs) -> dj.layers.MLP:
    """The network of a config, for so many inputs and ten classes."""
    hidden = [min(n, QUICK_WIDTH) if config.quick else n for n in config.hidden]
    sizes, maxout = (inputs, *hidden, 10), config.activation == "maxout"
    init = default_init(config)
    model = dj.layers.MLP(
        sizes, rates=config.rates, activation=activation(config), kernel_init=init, rngs=rngs
    )
    inits = [nnx.initializers.normal(deviation) for deviation in config.init_deviations or ()]
    inits = [within(bound) for bound in config.init_ranges or ()] or inits
    if maxout or inits:
        outputs = [n * config.pieces if maxout else n for n in sizes[1:-1]] + [sizes[-1]]
        inits = inits or [init] * len(outputs)
        model.linears = nnx.List(
            nnx.Linear(n_in, n_out, kernel_init=init, rngs=rngs)
            for n_in, n_out, init in zip(sizes[:-1], outputs, inits, strict=True)
        )
    if config.noise == "gaussian":
        noises = [dj.layers.GaussianDropout(rate, rngs=rngs) for rate in config.rates]
        model.dropouts = nnx.List(noises)
    if config.products == "bfloat16":
        model.set_attributes(nnx.Linear, dot_general=bfloat16.dot_general)
    return model


def activation(config: Config):
    """ReLU, logistic, or maxout: the largest of `pieces` linear functions."""
    return {
        "relu": nnx.relu,
        "logistic": nnx.sigmoid,
        "maxout": lambda x: jnp.max(x.reshape(*x.shape[:-1], -1, config.pieces), axis=-1),
    }[config.activation]


def default_init(config: Config) -> nnx.Initializer:
    """He's normal weights, and for logistic units four times Glorot's uniform."""
    if config.activation == "logistic":
        # A logistic unit has a quarter of the slope that Glorot and Bengio 2010 assume: with He's
        # weights, nets of three hidden layers do not learn at all.
        return nnx.initializers.variance_scaling(16, "fan_avg", "uniform")
    return nnx.initializers.he_normal()


def within(bound: float) -> nnx.Initializer:
    """Uniform between -bound and bound."""
    return lambda key, shape, dtype=jnp.float32, **_: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


def activities(model: dj.layers.MLP, x: Array) -> list[Array]:
    """The outputs of every hidden layer, then the logits: the steps of `model(x)`."""
    found = []
    for drop, linear in zip(model.dropouts, model.linears, strict=True):
        x = linear(drop(x if not found else model.activation(x)))
        found.append(x)
    return [*map(model.activation, found[:-1]), found[-1]]


def divergence(target: float, mean: Array) -> Array:
    r"""The Kullback-Leibler divergence of Poisson laws: $\rho \log(\rho / q) - \rho + q$.

    The usual sparsity penalty is that of Bernoulli laws, of which q would be a probability; a
    ReLU's mean activity q is any number over 0.
    """
    mean = jnp.maximum(mean, 1e-6)  # a unit that is always 0 has no gradient in any case
    return target * jnp.log(target / mean) - target + mean


def loss_of(config: Config) -> losses.Loss:
    """Cross-entropy, plus `kl_sparsity` times the divergence of each hidden unit's mean activity.

    The mean is over the batch; the divergences of all units are added.
    """
    if not config.kl_sparsity:
        return cross_entropy

    def loss(model, x, y):
        *hidden, logits = activities(model, x)
        means = [jnp.mean(h, axis=0) for h in hidden]
        sparsity = sum(jnp.sum(divergence(SPARSITY_TARGET, mean)) for mean in means)
        return config.kl_sparsity * sparsity + jnp.mean(
            optax.softmax_cross_entropy_with_integer_labels(logits, y)
        )

    return loss
