"""The models of the suite `fit` in Flax and in Keras; fit_torch.py has them in PyTorch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

import dropout_jax as dj
from dropout_jax.layers import Dropout

CLASSES, VOCABULARY, RATE = 10, 100, 0.2


class Workload(NamedTuple):
    """A model in each library, and random data of its kind."""

    batch: int
    shape: tuple[int, ...]
    model: Callable[[nnx.Rngs], nnx.Module]
    keras: Callable[[Any], list]
    torch: str  # a class or function of fit_torch.py

    def data(self, examples: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        y = rng.integers(0, CLASSES, examples, dtype=np.int32)
        if len(self.shape) == 1 and self.model is Transformer:
            return rng.integers(0, VOCABULARY, (examples, *self.shape), dtype=np.int32), y
        return rng.normal(size=(examples, *self.shape)).astype(np.float32), y


class Convnet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.convs = nnx.List([nnx.Conv(i, o, (3, 3), rngs=rngs) for i, o in ((1, 16), (16, 32))])
        self.drop = Dropout(RATE, rngs=rngs)
        self.head = nnx.Linear(7 * 7 * 32, CLASSES, rngs=rngs)

    def __call__(self, x):
        for conv in self.convs:
            x = nnx.max_pool(nnx.relu(conv(x)), (2, 2), (2, 2))
        return self.head(self.drop(x.reshape(len(x), -1)))


def keras_convnet(k: Any) -> list:
    blocks = [[k.layers.Conv2D(n, 3, padding="same", activation="relu"), k.layers.MaxPooling2D()]
              for n in (16, 32)]  # fmt: skip
    return [*sum(blocks, []), k.layers.Flatten(), k.layers.Dropout(RATE), k.layers.Dense(CLASSES)]


class Block(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs):
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)
        self.drops = nnx.List([Dropout(RATE, rngs=rngs) for _ in range(2)])
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x):
        x = x + self.drops[0](self.attention(self.norms[0](x)))
        return x + self.drops[1](self.down(nnx.relu(self.up(self.norms[1](x)))))


class Transformer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, width: int = 64):
        self.embed = nnx.Embed(VOCABULARY, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs) for _ in range(2)])
        self.head = nnx.Linear(width, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


def keras_transformer(k: Any, width: int = 64) -> Callable:
    def outputs(x):
        layers = k.layers
        x = layers.Embedding(VOCABULARY, width)(x)
        for _ in range(2):
            h = layers.LayerNormalization()(x)
            x = x + layers.Dropout(RATE)(layers.MultiHeadAttention(4, width // 4)(h, h))
            h = layers.Dense(4 * width, activation="relu")(layers.LayerNormalization()(x))
            x = x + layers.Dropout(RATE)(layers.Dense(width)(h))
        return layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(x))

    return outputs


class Recurrent(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(16, 64, rngs=rngs))
        self.drop, self.head = Dropout(RATE, rngs=rngs), nnx.Linear(64, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.head(self.drop(self.rnn(x)[:, -1]))


def textbook(rngs: nnx.Rngs) -> nnx.Module:
    return dj.layers.MLP((784, 128, 64, CLASSES), rates=(0.0, 0.5, 0.5), rngs=rngs)


def keras_textbook(k: Any) -> list:
    hidden = [[k.layers.Dense(n, activation="relu"), k.layers.Dropout(0.5)] for n in (128, 64)]
    return [*sum(hidden, []), k.layers.Dense(CLASSES)]


def keras_rnn(k: Any) -> list:
    return [k.layers.LSTM(64), k.layers.Dropout(RATE), k.layers.Dense(CLASSES)]


WORKLOADS = {
    "MLP": Workload(32, (784,), textbook, keras_textbook, "textbook"),
    "convnet": Workload(64, (28, 28, 1), Convnet, keras_convnet, "Convnet"),
    "transformer": Workload(32, (32,), Transformer, keras_transformer, "Transformer"),
    "RNN": Workload(32, (32, 16), Recurrent, keras_rnn, "Recurrent"),
}
