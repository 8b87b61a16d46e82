"""Concrete dropout on a line with noise: it learns to drop less from more data.

Claim (Gal, Hron and Kendall 2017; authors' notebook): the learned rates of the hidden layers and
the epistemic deviation fall with the number N of examples, and the aleatoric deviation does not.
Method, as the notebook has it: y = 2 x + 8 + N(0, 1) with x ~ N(0, 1); three layers of 1024 ReLUs,
the mean and the log variance of y as two heads, concrete dropout before each of the five layers
with rates from 0.1 and a length scale of 1e-4; Adam, batches of 20, 2000 updates for N = 10 down to
1000 for N = 100 and more. The loss is half of theirs, the negative log likelihood plus KL / N. Each
of three repetitions has data of its own, and 1000 more cases to test; 20 passes are averaged.

Command: python -m experiments.concrete_synthetic
Time: five minutes of one core.
Results: docs/results/concrete_synthetic.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx

import dropout_jax as dj
from dropout_jax import layers, predict, train
from dropout_jax.typing import Array
from experiments.harness import cli
from experiments.harness.launch import final, launch
from experiments.harness.training import check_counts, seed_keys

# Examples: updates in the notebook, where an epoch's last batch is what is left over.
UPDATES = {10: 2000, 25: 2000, 50: 1500, 100: 1000, 1000: 1000, 10_000: 1000}
BATCH, TESTED, PASSES = 20, 1000, 20


@dataclass(frozen=True)
class Config(cli.Common):
    """One number of examples; a seed is a repetition."""

    seeds: int = 3
    examples: cli.Set[int] = 1000
    """N, to train on"""
    updates: cli.Set[int] = 1000
    """of Adam; at least so many, in whole epochs"""
    hidden: int = 1024
    """units of each of the three hidden layers (ReLU)"""
    learning_rate: float = 1e-3
    """of Adam"""


@dataclass(frozen=True)
class Study:
    """Which numbers of examples."""

    runs: Annotated[Config, tyro.conf.OmitArgPrefixes] = Config()
    examples: tuple[int, ...] = tuple(UPDATES)
    """how many to train on, in one run each"""


class Net(nnx.Module):
    """Concrete dropout before each layer; outputs (..., 2), the mean and the log variance."""

    def __init__(self, hidden: int, *, rngs: nnx.Rngs):
        init = nnx.initializers.glorot_uniform()

        def layer(n_in, n_out):
            linear = nnx.Linear(n_in, n_out, kernel_init=init, rngs=rngs)
            return layers.ConcreteDropout(linear, 0.1, length_scale=1e-4, rngs=rngs)

        self.hidden = nnx.List([layer(1, hidden), layer(hidden, hidden), layer(hidden, hidden)])
        self.mean, self.log_variance = layer(hidden, 1), layer(hidden, 1)

    def __call__(self, x: Array) -> Array:
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return jnp.concatenate([self.mean(x), self.log_variance(x)], axis=-1)

    def rates(self) -> dict[str, Array]:
        """The learned rates, by the names of the published ones."""
        names = ("rate_input", "rate_hidden1", "rate_hidden2", "rate_mean", "rate_log_variance")
        every = (*self.hidden, self.mean, self.log_variance)
        return {name: layer.rate for name, layer in zip(names, every, strict=True)}


def draw(seed: int, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """So many cases of the line, and those to test: x and y, (examples + 1000, 1)."""
    rng = np.random.default_rng([seed, examples])
    x = rng.standard_normal((examples + TESTED, 1))
    y = 2 * x + 8 + rng.standard_normal(x.shape)
    return x.astype(np.float32), y.astype(np.float32)


def make_loss(examples: int):
    """(model, x, y) -> the Gaussian negative log likelihood, up to a constant, plus KL / N."""

    def loss(model, x, y):
        mean, log_variance = jnp.split(model(x), 2, axis=-1)
        errors = (y - mean) ** 2 * jnp.exp(-log_variance)
        return jnp.mean(errors + log_variance) / 2 + layers.total_kl(model) / examples

    return loss


def moments(samples: Array, y: Array) -> dict[str, Array]:
    """What passes (passes, cases, 2) say: the error of their mean, and the two deviations.

    The epistemic deviation is that of the mean over passes, the aleatoric one the noise that the
    network learned; both are roots of a mean variance over the cases.
    """
    means, log_variances = samples[..., 0], samples[..., 1]
    return {
        "rmse": jnp.sqrt(jnp.mean((jnp.mean(means, axis=0) - y) ** 2)),
        "aleatoric_sd": jnp.sqrt(jnp.mean(jnp.exp(jnp.mean(log_variances, axis=0)))),
        "epistemic_sd": jnp.sqrt(jnp.mean(jnp.var(means, axis=0))),
    }


def run(config: Config, checkpoint_dir: Path | None = None) -> dict[str, Any]:
    """Train the repetitions side by side, each on its own data. A run is short: it is not saved."""
    check_counts(seeds=config.seeds, examples=config.examples, updates=config.updates)
    x, y = map(np.stack, zip(*(draw(s, config.examples) for s in range(config.seeds)), strict=True))
    batch = min(BATCH, config.examples)
    epochs = -(-(20 if config.quick else config.updates) // (config.examples // batch))

    def build(rngs, hyper):
        return Net(config.hidden, rngs=rngs)

    train_net = train.make_train(
        build,
        lambda hyper: optax.adam(config.learning_rate),
        epochs=epochs,
        evaluate_every=epochs,
        batch_size=batch,
        loss=make_loss(config.examples),
        metrics={},
    )

    def repetition(key, x, y):
        fitted, tested = np.s_[: config.examples], np.s_[config.examples :]
        result = train_net(key, {}, {"train": (x[fitted], y[fitted])})
        model = result.state.model()
        passes = predict.mc_samples(
            dj.site_key(key, "test"), model, x[tested], samples=PASSES, output=_identity
        )
        return moments(passes, y[tested][:, 0]) | model.rates(), result.losses

    final, losses = jax.jit(jax.vmap(repetition))(seed_keys(config.seeds), x, y)
    if not np.isfinite(losses).all():
        raise FloatingPointError("the loss is not finite; lower --learning-rate.")
    return {"final": final, "extra": {"updates": int(losses[0].size), "epochs": epochs}}


def configs(study: Study) -> list[Config]:
    """A run for each number of examples, with the updates of the notebook."""
    unknown = sorted(set(study.examples) - set(UPDATES))
    if unknown:
        raise ValueError(f"--examples has {unknown}; choose from {', '.join(map(str, UPDATES))}.")
    return [replace(study.runs, examples=n, updates=UPDATES[n]) for n in study.examples]


METRICS = (
    "rmse", "aleatoric_sd", "epistemic_sd", "rate_input", "rate_hidden1", "rate_hidden2",
    "rate_mean", "rate_log_variance",
)  # fmt: skip
COLUMNS = {name: final(name) for name in METRICS}


def main(argv: Sequence[str] | None = None) -> None:
    study = cli.cli(Study, __doc__, argv)
    with cli.user_errors():
        launch(
            "concrete_synthetic",
            configs(study),
            run,
            label=lambda config: f"N = {config.examples}",
            columns=COLUMNS,
        )


def _identity(outputs: Array) -> Array:
    return outputs


if __name__ == "__main__":
    main()
