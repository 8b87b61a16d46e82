"""Where dropout helps a small convnet, and where it hurts: dense layer, convolutions, or both.

Question: on 10 000 training images of MNIST, what do dropout on the dense layer, dropout of
elements, channels or blocks of the feature maps, and both together, do to the test error?
Method: two 3x3 convolutions with 16 and 32 channels, ReLU and 2x2 max-pooling after each, a dense
layer of 128 ReLUs, softmax; Adam, its learning rate decayed as half a cosine. The feature maps are
dropped after pooling, 13x13 and 5x5; blocks have sides of 3. The rates are usual ones, set
beforehand: nothing is chosen by results. The network is that of the last epoch.

Command: python -m experiments.convnet    (--maps none spatial for some)
         python -m experiments.convnet --examples 1000 --epochs 60
Time: twelve minutes of one core with 10 000 images, four with 1000.
Results: docs/results/convnet.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import jax.numpy as jnp
import optax
import tyro
from flax import nnx

from dropout_jax import layers
from dropout_jax.typing import Array
from experiments.harness import cli
from experiments.harness.launch import final, launch
from experiments.harness.splits import load_splits
from experiments.harness.training import check_counts, epochs_of, train_seeds

Maps = Literal["none", "element", "spatial", "block"]
"""What is dropped of the feature maps: nothing, single values, channels, or blocks."""
SIDE = 28
BLOCK = 3


@dataclass(frozen=True)
class Config(cli.Divided):
    """One arm."""

    seeds: int = 3
    data: Annotated[Literal["mnist", "fashion_mnist"], tyro.conf.arg(name="dataset")] = "mnist"
    """which images"""
    maps: cli.Set[Maps] = "none"
    """what is dropped of the feature maps"""
    maps_rate: cli.Set[float] = 0.0
    """rate of dropping there"""
    dense_rate: cli.Set[float] = 0.0
    """rate of dropping units of the dense layer"""
    examples: int = 10_000
    """training images: the first so many"""
    epochs: int = 12
    """passes over them"""
    batch_size: int = 100
    """images an update"""
    learning_rate: float = 1e-3
    """of Adam at the start; it falls to 0 as half a cosine"""


@dataclass(frozen=True)
class Study:
    """Which arms to run, at which rates."""

    runs: Annotated[Config, tyro.conf.OmitArgPrefixes] = Config()
    maps: tuple[Maps, ...] = ()
    """what to drop of the feature maps, each without dropout of the dense layer and with it; not
    given: all, and with --quick one"""
    maps_rate: cli.Rate = 0.2
    """rate of dropping there"""
    dense_rate: cli.Rate = 0.5
    """rate of dropping units of the dense layer"""


class Conv3x3(nnx.Module):
    """A 3x3 convolution without padding, as one matrix product.

    In a loop XLA on CPU takes over ten times as long for `nnx.Conv`.
    """

    def __init__(self, channels_in: int, channels_out: int, *, rngs: nnx.Rngs):
        init = nnx.initializers.he_normal()
        self.linear = nnx.Linear(9 * channels_in, channels_out, kernel_init=init, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        height, width = x.shape[1] - 2, x.shape[2] - 2
        shifted = [x[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        return self.linear(jnp.concatenate(shifted, axis=-1))


def max_pool(x: Array) -> Array:
    """2x2 max-pooling; an odd last row or column is left out."""
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


class Convnet(nnx.Module):
    """Two convolutions and a dense layer, for flat images of 28x28."""

    def __init__(self, maps: Maps, maps_rate: float, dense_rate: float, *, rngs: nnx.Rngs):
        init = nnx.initializers.he_normal()
        self.convolutions = nnx.List([Conv3x3(1, 16, rngs=rngs), Conv3x3(16, 32, rngs=rngs)])
        self.map_noises = nnx.List(map_noise(maps, maps_rate, rngs) for _ in range(2))
        self.dense = nnx.Linear(5 * 5 * 32, 128, kernel_init=init, rngs=rngs)
        self.dense_noise = layers.Dropout(dense_rate, rngs=rngs)
        self.head = nnx.Linear(128, 10, kernel_init=init, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = x.reshape(-1, SIDE, SIDE, 1)
        for convolution, noise in zip(self.convolutions, self.map_noises, strict=True):
            x = noise(max_pool(nnx.relu(convolution(x))))
        x = nnx.relu(self.dense(x.reshape(len(x), -1)))
        return self.head(self.dense_noise(x))


def map_noise(maps: Maps, rate: float, rngs: nnx.Rngs) -> layers.Dropout:
    """The layer that drops so much of feature maps."""
    if maps == "spatial":
        return layers.SpatialDropout2D(rate, rngs=rngs)
    if maps == "block":
        return layers.DropBlock(rate, block_size=BLOCK, rngs=rngs)
    return layers.Dropout(rate if maps == "element" else 0.0, rngs=rngs)


def run(config: Config, checkpoint_dir: Path | None = None) -> dict[str, Any]:
    """Train one arm, its seeds side by side."""
    check_counts(examples=config.examples)
    split = load_splits(config)
    if (pixels := split["train"][0].shape[1]) != SIDE**2:
        raise ValueError(f"the images have {pixels} pixels; give {SIDE}x{SIDE}.")
    split["train"] = tuple(a[: config.examples] for a in split["train"])
    outcome = train_seeds(
        lambda rngs, hyper: Convnet(config.maps, config.maps_rate, config.dense_rate, rngs=rngs),
        lambda updates: optax.adam(optax.cosine_decay_schedule(config.learning_rate, updates)),
        split,
        seeds=config.seeds,
        devices=config.devices,
        epochs=epochs_of(config),
        batch_size=config.batch_size,
        evaluations=4,
        unbatched=True,
        checkpoint_dir=checkpoint_dir,
        label=label(config),
    )
    return outcome.result()


def configs(study: Study) -> list[Config]:
    """The arms: what is dropped of the maps, without dropout of the dense layer and with it."""
    return [
        replace(
            study.runs,
            maps=maps,
            maps_rate=0.0 if maps == "none" else study.maps_rate,
            dense_rate=dense_rate,
        )
        for dense_rate in (0.0, study.dense_rate)
        for maps in study.maps or (("block",) if study.runs.quick else get_args(Maps))
    ]


def label(config: Config) -> str:
    return f"maps {config.maps} {config.maps_rate:g}, dense {config.dense_rate:g}"


COLUMNS = {"test error %": final("test_error"), "train error %": final("train_error")}


def main(argv: Sequence[str] | None = None) -> None:
    study = cli.cli(Study, __doc__, argv)
    with cli.user_errors():
        launch("convnet", configs(study), run, label=label, columns=COLUMNS)


if __name__ == "__main__":
    main()
