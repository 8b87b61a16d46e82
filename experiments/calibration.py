"""Does a network know what it does not know? MNIST turned by 0 to 180 degrees; a curve with a gap.

Claim (Gal and Ghahramani 2016, sections 5.1 and 5.3, for a turned 1 and for a curve outside its
data): averaged over sub-networks, a network becomes unsure where it is wrong, and one pass with
scaled weights stays sure.
Method: two layers of 256 ReLUs; no dropout, dropout of 0.2 and 0.5, and concrete dropout; Adam,
batches of 100, 10 epochs of the first 10 000 images. The first 500 test images, turned by 13
angles, are predicted by one pass of the whole network (none, weight scaling) or by the mean of 30
sub-networks (MC dropout, concrete dropout). Shown are the error, the log-likelihood of the label,
the expected calibration error and the entropy of the prediction. And a curve is learned from points
on two sides of a gap, by dropout of 0.05 and by concrete dropout, with its epistemic deviation.

Command: python -m experiments.calibration
Expected: the figure in docs/results/calibration.md; a minute of two cores for each way of training.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from scipy import ndimage

import dropout_jax as dj
from dropout_jax import layers, predict, train
from dropout_jax.typing import Array
from experiments.harness import cli
from experiments.harness.launch import file_name, launch
from experiments.records import record, stats

METHODS = ("none", "dropout", "concrete")
ANGLES = tuple(range(0, 181, 15))
BATCH = 100


@dataclass(frozen=True)
class Config(cli.Common):
    """One way of training, on images or on the curve."""

    seeds: int = 5
    data: str = "mnist"
    """mnist or digits"""
    method: str = "dropout"
    """none, dropout or concrete"""
    task: str = "turned"
    """turned images, or a curve"""
    hidden: int = 256
    """units of each of the two hidden layers (ReLU)"""
    epochs: int = 10
    """passes over the training images; of the curve 100 times as many"""
    examples: int = 10_000
    """images to train on"""
    tested: int = 500
    """images to turn"""
    samples: int = 30
    """sub-networks"""


@dataclass(frozen=True)
class Study(cli.Common):
    """Which ways of training."""

    seeds: int = 5
    data: str = "mnist"
    """mnist or digits"""
    methods: tuple[str, ...] = METHODS
    """of none, dropout and concrete"""


class Net(nnx.Module):
    """Two hidden layers of ReLUs, each layer behind its own dropout: none, fixed or learned."""

    def __init__(self, sizes: Sequence[int], rates: Sequence[float], learned: bool, *, rngs):
        self.layers = nnx.List()
        for n_in, n_out, rate in zip(sizes[:-1], sizes[1:], rates, strict=True):
            linear = nnx.Linear(n_in, n_out, kernel_init=nnx.initializers.he_normal(), rngs=rngs)
            drop = layers.Dropout(rate, rngs=rngs)
            concrete = layers.ConcreteDropout(linear, length_scale=1e-2, rngs=rngs)
            self.layers.append(concrete if learned else nnx.Sequential(drop, linear))

    def __call__(self, x: Array) -> Array:
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


def trained(config: Config, key, x: Array, y: Array, error, rates, *, epochs: int):
    """A network of the method, after some epochs; `error` is (outputs, y) -> a mean."""
    learned = config.method == "concrete"
    rates = (0.0,) * 3 if config.method == "none" else rates
    outputs = 10 if jnp.issubdtype(y.dtype, jnp.integer) else 1
    sizes = (x.shape[1], config.hidden, config.hidden, outputs)

    def build(rngs, hyper):
        return Net(sizes, rates, learned, rngs=rngs)

    def loss(model, x_batch, y_batch):
        prior = layers.total_kl(model) / len(x) if learned else 0.0
        return error(model(x_batch), y_batch) + prior

    run = train.make_train(
        build,
        lambda hyper: optax.adam(1e-3),
        epochs=epochs,
        evaluate_every=epochs,
        batch_size=min(BATCH, len(x)),
        loss=loss,
        metrics={},
    )
    return run(key, {}, {"train": (x, y)}).state.model()


def turned(images: np.ndarray, angle: float) -> np.ndarray:
    """Images (examples, pixels) turned about their middle; what comes in from outside is black."""
    side = round(images.shape[1] ** 0.5)
    squares = images.reshape(-1, side, side)
    found = ndimage.rotate(squares, angle, axes=(1, 2), reshape=False, order=1)
    return found.reshape(images.shape)


def scores(probabilities: Array, labels: Array) -> dict[str, Array]:
    """What is drawn against the angle."""
    right = jnp.argmax(probabilities, -1) == labels
    of_label = jnp.take_along_axis(probabilities, labels[:, None], axis=-1)
    return {
        "error": 100 * (1 - jnp.mean(right)),
        "log_likelihood": jnp.mean(jnp.log(jnp.maximum(of_label, 1e-12))),
        "ece": predict.expected_calibration_error(probabilities, labels),
        "entropy": jnp.mean(predict.entropy(probabilities)),
    }


def of_images(config: Config) -> dict[str, Any]:
    """Scores by angle of every seed, for each way of predicting that the method has."""
    images = dj.data.load(config.data, config.data_dir)
    most, tested = (200, 20) if config.quick else (config.examples, config.tested)
    x, y = jnp.asarray(images.train_x[:most]), jnp.asarray(images.train_y[:most])
    angles = ANGLES[:2] if config.quick else ANGLES
    test_x = np.stack([turned(images.test_x[:tested], angle) for angle in angles])
    labels = jnp.asarray(images.test_y[:tested])

    def cross_entropy(logits, y):
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @jax.jit
    @jax.vmap
    def of_seed(key):
        model = trained(config, key, x, y, cross_entropy, (0.2, 0.5, 0.5), epochs=_epochs(config))
        test_key = dj.site_key(key, "test")

        def of_angle(images):
            found = {"scaled": scores(predict.predict_scaled(model, images), labels)}
            if config.method != "none":
                options = {"samples": 2 if config.quick else config.samples}
                many = predict.mc_classify(test_key, model, images, **options)
                found["mc"] = scores(many.probabilities, labels)
            return found

        return jax.lax.map(of_angle, jnp.asarray(test_x))

    by_angle = of_seed(_keys(config))
    final = {
        f"{way}_{name}": values[:, 0]
        for way, metrics in by_angle.items()
        for name, values in metrics.items()
    }
    return {"final": final, "extra": {"angles": list(angles), "by_angle": by_angle}}


def of_curve(config: Config) -> dict[str, Any]:
    """The mean and the epistemic deviation of a curve, inside of its data and outside."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-2, -0.7, 60), rng.uniform(0.7, 2, 60)]).astype(np.float32)
    y = (np.sin(2 * x) + rng.normal(0, 0.1, 120)).astype(np.float32)
    grid = np.linspace(-5, 5, 101, dtype=np.float32)

    def half_square(outputs, y):  # the negative log-likelihood of a deviation of 0.1
        return jnp.mean((outputs[:, 0] - y) ** 2) / (2 * 0.1**2)

    @jax.jit
    @jax.vmap
    def of_seed(key):
        epochs = 100 * _epochs(config)
        model = trained(
            config, key, x[:, None], jnp.asarray(y), half_square, (0.0, 0.05, 0.05), epochs=epochs
        )
        return predict.mc_regress(
            dj.site_key(key, "test"), model, grid[:, None], samples=10 * config.samples, noise=0.1,
            consistent=True,
        )  # fmt: skip

    found = of_seed(_keys(config))
    gap, far = np.abs(grid) < 0.4, np.abs(grid) > 4
    seen = (np.abs(grid) > 0.9) & (np.abs(grid) < 1.8)
    final = {
        f"epistemic_{name}": found.epistemic[:, where].mean((1, 2))
        for name, where in {"seen": seen, "gap": gap, "far": far}.items()
    }
    curves = {"mean": found.mean[..., 0], "epistemic": found.epistemic[..., 0]}
    return {"final": final, "extra": {"x": x, "y": y, "grid": grid, "curves": curves}}


def run(config: Config, checkpoint_dir: Path | None = None) -> dict[str, Any]:
    """Train the seeds side by side. A run is short: it is not saved."""
    return of_curve(config) if config.task == "curve" else of_images(config)


def configs(study: Study) -> list[Config]:
    unknown = sorted(set(study.methods) - set(METHODS))
    if unknown:
        raise ValueError(f"--methods has {unknown[0]!r}; choose from {', '.join(METHODS)}.")
    base = Config(**cli.shared(study), data=study.data)
    images = [dataclasses.replace(base, method=method) for method in study.methods]
    curves = [
        dataclasses.replace(base, method=method, task="curve", hidden=64)
        for method in study.methods
        if method != "none"
    ]
    return images + curves


def numbers(r: record.Record) -> str:
    """The means and standard errors of a run, in one cell."""
    return ", ".join(f"{name} {stats.plus_minus(v, 3)}" for name, v in r.final.items())


def main(argv: Sequence[str] | None = None) -> None:
    study = cli.cli(Study, __doc__, argv)
    with cli.user_errors():
        columns = {"upright images, or parts of the curve": numbers, "record": file_name}
        launch(
            "calibration",
            configs(study),
            run,
            label=lambda config: f"{config.task}, {config.method}",
            columns=columns,
        )


def _epochs(config: Config) -> int:
    return 1 if config.quick else config.epochs


def _keys(config: Config) -> Array:
    return jax.vmap(jax.random.key)(jnp.arange(config.seeds))


if __name__ == "__main__":
    main()
