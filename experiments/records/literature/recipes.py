"""Published numbers of runs whose code is public, and the settings of one of them."""

from typing import Any

from experiments.records.literature.number import rate_of, rows

PYLEARN2 = "pylearn2, papers/dropout"

_PYLEARN2 = rows(
    "pylearn2",
    PYLEARN2,
    "README and mnist.yaml",
    "C",
    {
        "60k": 1.05,
    },
    updates=264_000,
    note="784-898-1532-10 ReLU",
)

_KERAS = rows(
    "keras",
    "Keras, examples/mnist_mlp.py",
    "docstring",
    "C",
    {
        "mnist_mlp/test_accuracy": 98.40,
    },
    unit="test accuracy %",
    updates=20 * 469,
    note="784-512-512-10 ReLU, rate 0.2, 20 epochs",
)

_NANOGPT = rows(
    "nanogpt",
    "Karpathy, nanoGPT",
    "README",
    "C",
    {"cpu": 1.88, "gpu": 1.4697},
    unit="validation loss, nats a character",
    note="cpu of 20 batches, 2000 updates; gpu the best of 5000 updates",
)

PYLEARN2_RECIPE: dict[str, Any] = {
    "hidden": (898, 1532),
    "input_rate": rate_of(0.8),
    "rate": rate_of(0.5),
    "batch_size": 100,
    "epochs": 440,
    "learning_rate": (0.097259, 0.022292, 560),  # from, times, over so many epochs; linear
    "momentum": (0.5, 0.699, 698),  # from, to, over so many epochs; linear
    "max_norm": (4.378, 2.970, 4.627),  # a layer; for activations scaled in training
    "init_range": (0.0089, 0.0575, 0.0),  # uniform, a layer
}

PUBLISHED = _PYLEARN2 | _KERAS | _NANOGPT
