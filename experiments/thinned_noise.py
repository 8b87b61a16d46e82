"""How noisy is the gradient where many examples share one mask? Measured on MNIST.

Question: element-wise dropout has a mask for every example, and a thinned network one for all the
examples of K updates. How much noisier is what a hundred updates add up to?
Method: the network of `thinned`, trained for a few epochs. Then its weights stand still, and the
mean gradient over the same 100 batches is taken again and again, each time with new masks. Its
variance over the masks, summed over all weights, is the noise; beside it stands the squared length
of its mean over the masks, the signal. Dropout on the input stays element-wise in all.
Were the examples' gradients under one mask correlated by rho on average, sharing it among the B
examples of K updates would multiply the noise by 1 + (B K - 1) rho.

Command: python -m experiments.thinned_noise
Time: three minutes of one core.
Results: docs/results/thinned.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx

import dropout_jax as dj
from dropout_jax import _nnx, train
from dropout_jax.train.gather import put, take
from dropout_jax.train.lives import as_subnetwork
from dropout_jax.train.units import draw, plan_of
from dropout_jax.typing import Array, Key
from experiments.harness import cli
from experiments.harness.once import run_once
from experiments.harness.splits import load_splits
from experiments.harness.training import check_counts
from experiments.nets import thinning
from experiments.records import stats

ELEMENT = "element"
INPUT_RATE, RATE = 0.2, 0.5
Batches = tuple[Array, Array]  # (window, batch, ...)


@dataclass(frozen=True)
class Config(cli.Common):
    seeds: int = 3
    data: Annotated[Literal["mnist", "fashion_mnist"], tyro.conf.arg(name="dataset")] = "mnist"
    """which images"""
    hidden: tuple[int, ...] = (1024, 1024, 1024)
    """units of each hidden layer (ReLU)"""
    epochs: int = 5
    """passes over the training images before the noise is measured"""
    learning_rate: float = 0.02
    """of SGD with momentum 0.9 in these epochs"""
    lives: tuple[int, ...] = (1, 10, 100)
    """updates in the life of a sub-network, each a divisor of window"""
    block: int = 16
    """units kept or dropped together"""
    window: int = 100
    """updates whose gradients are averaged"""
    batch_size: int = 100
    """images an update"""
    draws: int = 16
    """how often the window is repeated with new masks"""


def run(config: Config, checkpoint_dir: Path | None = None) -> dict[str, Any]:
    """One network a seed. A run is short: it is not saved."""
    check_counts(seeds=config.seeds, epochs=config.epochs, window=config.window)
    if config.draws < 2:
        raise ValueError(f"--draws is {config.draws}; a variance takes 2 or more")
    for steps in config.lives:
        if steps < 1 or config.window % steps:
            raise ValueError(f"--lives has {steps}, which does not divide --window {config.window}")
    x, y = load_splits(config)["train"]
    found: dict[str, list[float]] = {}
    for seed in range(config.seeds):
        for name, value in of_seed(config, x, y, jax.random.key(seed)).items():
            found.setdefault(name, []).append(value)
    return {"final": found, "extra": {"weights": "fixed after the epochs"}}


def of_seed(config: Config, x: Array, y: Array, key: Key) -> dict[str, float]:
    """noise_<life> and signal_<life> of a network that was trained thinned, and element-wise's."""
    sizes, rates = (x.shape[1], *config.hidden, 10), (INPUT_RATE, *[RATE] * len(config.hidden))
    model = thinning.network("thin", sizes, rates, nnx.Rngs(key))
    optimizer = thinning.optimizer(config.learning_rate, 3.0, len(config.hidden))
    life = dj.Thin(steps=10, block=config.block)
    dj.fit(
        model, optimizer, x, y, key=key, epochs=1 if config.quick else config.epochs,
        batch_size=config.batch_size, thin=life, progress=False,
    )  # fmt: skip
    model.train()
    cases = jax.random.permutation(dj.site_key(key, "window"), len(x))
    cases = jnp.resize(cases, (config.window, config.batch_size))
    batches = x[cases], y[cases]
    gradients = {ELEMENT: element_wise(model)} | {
        str(steps): thinned(model, dj.Thin(steps=steps, block=config.block))
        for steps in config.lives
    }
    found = {}
    for name, gradient in gradients.items():
        noise, signal = noise_and_signal(
            gradient, jax.random.split(dj.site_key(key, name), config.draws), batches
        )
        found |= {f"noise_{name}": noise, f"signal_{name}": signal}
    return found


Gradient = Callable[[Key, Batches], Any]
"""(key of the masks, batches) -> the mean over the window, a pytree of the whole network's size."""


def element_wise(model: nnx.Module) -> Gradient:
    """A mask for every example of every update."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def gradient(key, batches):
        def update(total, step):
            i, batch = step
            new = _nnx.rekey(rest, jax.random.fold_in(key, i))
            return jax.tree.map(jnp.add, total, _gradient(graph, params, new, batch)), None

        zeros = jax.tree.map(jnp.zeros_like, params)
        window = len(batches[0])
        total, _ = jax.lax.scan(update, zeros, (jnp.arange(window), batches))
        return jax.tree.map(lambda leaf: leaf / window, total)

    return gradient


def thinned(model: nnx.Module, life: dj.Thin) -> Gradient:
    """A sub-network for all examples of `life.steps` updates; input masks as element-wise."""
    plan = plan_of(model, life)
    _, params, _ = nnx.split(model, nnx.Param, ...)
    small = nnx.clone(model)
    as_subnetwork(small, plan)
    graph, _, rest = nnx.split(small, nnx.Param, ...)

    def gradient(key, batches):
        window = len(batches[0])
        lives = jax.tree.map(lambda a: a.reshape(-1, life.steps, *a.shape[1:]), batches)
        steps = jnp.arange(window).reshape(-1, life.steps)

        def one_life(total, now):
            steps, batches = now
            units = draw(jax.random.fold_in(dj.site_key(key, "units"), steps[0]), plan)
            taken = take(params, plan, units)

            def update(part, step):
                i, batch = step
                new = _nnx.rekey(rest, jax.random.fold_in(key, i))
                return jax.tree.map(jnp.add, part, _gradient(graph, taken, new, batch)), None

            part, _ = jax.lax.scan(update, take(total, plan, units), (steps, batches))
            return put(total, part, plan, units), None

        zeros = jax.tree.map(jnp.zeros_like, params)
        total, _ = jax.lax.scan(one_life, zeros, (steps, lives))
        return jax.tree.map(lambda leaf: leaf / window, total)

    return gradient


def _gradient(graph, params, rest, batch):
    def loss(params):
        model = nnx.merge(graph, params, rest, copy=True)
        return train.cross_entropy(model, *batch)

    return jax.grad(loss)(params)


def noise_and_signal(gradient: Gradient, keys: Array, batches: Batches) -> tuple[float, float]:
    r"""The variance over masks and the squared mean, both unbiased and summed over the weights.

    $$\text{noise} = \frac{1}{M - 1} \sum_m \|g_m - \bar g\|^2, \qquad
      \text{signal} = \|\bar g\|^2 - \text{noise} / M.$$
    """

    @jax.jit
    def sums(keys):
        def add(carry, key):
            total, squares = carry
            g = gradient(key, batches)
            return (jax.tree.map(jnp.add, total, g), squares + _square(g)), None

        first = jax.tree.map(jnp.zeros_like, jax.eval_shape(gradient, keys[0], batches))
        (total, squares), _ = jax.lax.scan(add, (first, jnp.float32(0)), keys)
        return squares / len(keys), _square(total) / len(keys) ** 2

    mean_square, square_mean = map(float, sums(keys))
    noise = (mean_square - square_mean) * len(keys) / (len(keys) - 1)
    return noise, square_mean - noise / len(keys)


def _square(tree):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))


def main(argv: Sequence[str] | None = None) -> None:
    config = cli.cli(Config, __doc__, argv)
    with cli.user_errors():
        found = run_once("thinned_noise", config, run).final
        rows = []
        for name in (ELEMENT, *map(str, config.lives)):
            noise, signal = (np.asarray(found[f"{part}_{name}"]) for part in ("noise", "signal"))
            ratio = noise / np.asarray(found[f"noise_{ELEMENT}"])
            rows.append([name, *(stats.plus_minus(list(v)) for v in (ratio, noise / signal))])
        print(cli.text_table(["life", "noise / element-wise", "noise / signal"], rows))


if __name__ == "__main__":
    main()
