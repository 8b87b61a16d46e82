"""A text as training data: characters as numbers, and a loop over windows at random places."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dropout_jax as dj
from dropout_jax import train
from dropout_jax.data import DataError
from dropout_jax.train.lives import as_subnetwork
from dropout_jax.train.units import plan_of
from dropout_jax.typing import Array

SHAKESPEARE = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


class Text(NamedTuple):
    """The first nine tenths of a text to train on, the rest to validate; uint8 numbers."""

    symbols: str
    train: np.ndarray
    val: np.ndarray
    sha256: str


def load_shakespeare(data_dir: Path | None = None) -> Text:
    """Tiny Shakespeare: 1 115 394 characters of 65 kinds, `shakespeare/input.txt` in `data_dir`.

    Args:
      data_dir: the folder of the data sets; not given: the one that DROPOUT_JAX_DATA names.

    Raises:
      DataError: the file is absent, or is another.
    """
    folder = Path(data_dir or os.environ.get("DROPOUT_JAX_DATA") or "data")
    path = folder / "shakespeare" / "input.txt"
    if not path.is_file():
        raise DataError(
            f"{path} is missing; put tiny Shakespeare there (of char-rnn, 1 115 394 bytes), or set "
            "DROPOUT_JAX_DATA to the folder that holds shakespeare/."
        )
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHAKESPEARE:
        raise DataError(f"{path} is another text: its SHA-256 is {digest}, not {SHAKESPEARE}.")
    return encoded(content.decode(), digest)


def encoded(text: str, digest: str) -> Text:
    symbols = "".join(sorted(set(text)))
    numbers = np.array([symbols.index(c) for c in symbols], np.uint8)
    table = np.zeros(max(map(ord, symbols)) + 1, np.uint8)
    table[[ord(c) for c in symbols]] = numbers
    numbers = table[np.frombuffer(text.encode("utf-32-le"), np.uint32)]
    split = int(0.9 * len(numbers))
    return Text(symbols, numbers[:split], numbers[split:], digest)


def windows(text: np.ndarray, context: int) -> train.Split:
    """The whole of a text in windows that do not overlap, and what follows each character."""
    count = (len(text) - 1) // context
    x, y = text[: count * context], text[1 : count * context + 1]
    return jnp.asarray(x.reshape(count, context)), jnp.asarray(y.reshape(count, context))


def text_loop(
    build: train.Build,
    optimizer: train.MakeOptimizer,
    *,
    batch_size: int,
    context: int,
    updates: int,
    metrics: dict[str, Callable] | None = None,
    thin: train.Thin | None = None,
) -> train.Loop:
    """A loop over windows of one long text at random places; an epoch is `updates` batches of them.

    The split "train" is two long arrays, the characters and those that follow them; the other
    splits are `windows`. With `thin` the updates train sub-networks.
    """
    metrics = metrics or {"loss": train.cross_entropy}
    loop = train.make_loop(build, optimizer, batch_size=batch_size, metrics=metrics)

    def epoch(state: train.State, data: train.Data) -> tuple[train.State, Array]:
        text, following = map(jnp.asarray, data["train"])
        plan = plan_of(state.model(), thin) if thin else None
        edit = (lambda model: as_subnetwork(model, plan)) if plan else lambda model: None
        step = train.make_step(optimizer(state.hyper), train.cross_entropy, edit)

        def update(state, _):
            key = jax.random.fold_in(dj.site_key(state.key, "order"), state.step)
            starts = jax.random.randint(key, (batch_size, 1), 0, len(text) - context + 1)
            rows = starts + jnp.arange(context)[None]
            return step(state, text[rows], following[rows])

        def stretch(state, numbers):
            return jax.lax.scan(update, state, numbers)

        if thin is None or plan is None:
            return stretch(state, jnp.arange(updates))
        return train.in_lives(stretch, plan, thin.steps, state, jnp.arange(updates))

    def evaluate(state: train.State, data: train.Data) -> dict[str, Array]:
        def measure(name: str) -> dict[str, Array]:
            """In batches as small as those of training, whose activities the caches hold."""

            def of_window(window):
                return loop.evaluate(state, {name: jax.tree.map(lambda a: a[None], window)})

            found = jax.lax.map(of_window, data[name], batch_size=batch_size)
            return jax.tree.map(jnp.mean, found)

        return {key: value for name in data for key, value in measure(name).items()}

    return loop._replace(epoch=epoch, evaluate=evaluate)
