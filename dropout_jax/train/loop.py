"""The optax loop. A run is a function: scan inside, vmap outside."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from dropout_jax._checks import check_key
from dropout_jax._sharding import rows_of
from dropout_jax.keys import site_key
from dropout_jax.losses.ready import loss_of
from dropout_jax.train.calls import in_evaluation
from dropout_jax.train.examples import Examples, count
from dropout_jax.train.lives import as_subnetwork, in_lives
from dropout_jax.train.metrics import (
    CLASSIFICATION,
    Metrics,
    cross_entropy,
    mean_in_chunks,
    measured,
)
from dropout_jax.train.named import metrics_of
from dropout_jax.train.state import State, start
from dropout_jax.train.step import make_step
from dropout_jax.train.thin import Thin
from dropout_jax.train.units import plan_of
from dropout_jax.typing import Array, Key

Split = tuple[Examples, Examples]
Data = Mapping[str, Any]
"""Named splits (x, y); "train" is trained on, all are evaluated. "train" may have weights too."""
Build = Callable[[nnx.Rngs, Any], nnx.Module]
MakeOptimizer = Callable[[Any], optax.GradientTransformation]


class Loop(NamedTuple):
    """The pure functions a run is made of; each can be jitted and vmapped."""

    batch_size: int
    init: Callable[[Key, Any, Data], State]
    epoch: Callable[[State, Data], tuple[State, Array]]
    evaluate: Callable[[State, Data], dict[str, Array]]
    step: Callable[..., tuple[State, Array]]


class Result(NamedTuple):
    """What `make_train`'s function returns: the last state, and metrics by epoch."""

    state: State
    losses: Array
    metrics: dict[str, Array]


def make_loop(
    build: Build | None,
    optimizer: MakeOptimizer,
    *,
    batch_size: int,
    loss: Callable[[nnx.Module, Array, Array], Array] | str = cross_entropy,
    metrics: Metrics | None = None,
    thin: Thin | None = None,
) -> Loop:
    """The pieces of a run: for `run`, `make_train`, or a loop of your own.

    An epoch is one `lax.scan` over a fresh permutation of the training data, in batches of
    `batch_size`; the examples that do not fill a last batch wait for another epoch. Dropout draws
    from the model's own streams, re-keyed at the start from the run's key and the stream's place.

    Args:
      build: (rngs, hyper) -> an NNX model; hyper may be traced. None for states that do not come
        from `init`.
      optimizer: hyper -> an optax transformation.
      batch_size: examples an update.
      loss: (model, x, y) -> a scalar, or its name, such as "mse"; the model is in training mode.
      metrics: name -> (model, x, y) -> a mean over the examples; the model is in evaluation mode.
        By default loss and error rate of labels; for a loss by name, what `fit` measures for it.
      thin: train sub-networks that are really smaller, in place of hidden dropout.

    Returns:
      A `Loop`.

    Raises:
      TypeError: an optimizer that is no function of hyper.
      ValueError: no loss of that name.
    """
    if isinstance(optimizer, optax.GradientTransformation) or not callable(optimizer):
        raise TypeError(
            "optimizer is no function of hyper; write one that returns an optax optimizer, such as "
            "lambda hyper: optax.adam(1e-3)."
        )
    metrics = metrics_of(metrics, loss_of(loss)) if isinstance(loss, str) else metrics
    metrics = CLASSIFICATION if metrics is None else metrics
    loss = loss_of(loss)

    def init(key, hyper, data):
        key = check_key(key)
        check_data(data, batch_size)
        # Of a known dtype and not weak, as they will be after a checkpoint.
        hyper = jax.tree.map(lambda value: jnp.asarray(value, jnp.result_type(value)), hyper)
        assert build is not None
        model = build(nnx.Rngs(site_key(key, "init")), hyper)
        return start(key, hyper, model, optimizer(hyper))

    def step(state, *batch):
        return make_step(optimizer(state.hyper), loss)(state, *batch)

    def epoch(state, data):
        data = jax.tree.map(jnp.asarray, tuple(data["train"]))
        examples = count(data)
        steps = examples // batch_size
        order_key = jax.random.fold_in(site_key(state.key, "order"), state.step // steps)
        order = jax.random.permutation(order_key, examples)[: steps * batch_size]
        plan = plan_of(state.model(), thin) if thin else None
        edit = (lambda model: as_subnetwork(model, plan)) if plan else None
        update = make_step(optimizer(state.hyper), loss, edit)

        def stretch(state, rows):
            def one(state, rows):
                return update(state, *jax.tree.map(lambda a: rows_of(a, rows), data))

            return jax.lax.scan(one, state, rows)

        batches = order.reshape(steps, batch_size)
        if thin is None or plan is None:
            return stretch(state, batches)
        return in_lives(stretch, plan, thin.steps, state, batches)

    def evaluate(state, data):
        def measure(x, y):  # of a model for each chunk: it may write variables as it evaluates
            model = state.model()
            return in_evaluation(model, lambda model: measured(metrics, model, x, y))

        return {
            f"{split}_{name}": value
            for split, (x, y) in data.items()
            for name, value in mean_in_chunks(measure, x, y).items()
        }

    return Loop(batch_size, init, epoch, evaluate, step)


def make_train(
    build: Build,
    optimizer: MakeOptimizer,
    *,
    epochs: int,
    batch_size: int,
    evaluate_every: int = 1,
    **options: Any,
) -> Callable[[Key, Any, Data], Result]:
    """A whole run as a pure function, to jit and to vmap over keys and hyperparameters.

    The data is an argument and not a constant of the program, which would take minutes to compile.

    Args:
      build: (rngs, hyper) -> an NNX model; hyper (any pytree of numbers) may be traced, so that
        one program sweeps over rates, learning rates and max-norms.
      optimizer: hyper -> an optax transformation.
      epochs: passes over the training data, a multiple of `evaluate_every`.
      batch_size: examples an update.
      evaluate_every: epochs between evaluations.
      **options: `loss`, `metrics` and `thin` of `make_loop`.

    Returns:
      (key, hyper, data) -> `Result`: losses (epochs, steps), metrics by evaluation, as
      "test_error".

    Raises:
      TypeError: data that is no dict; an optimizer that is no function of hyper.
      ValueError: no "train" split, lengths that differ, fewer examples than a batch; epochs that
        are not a multiple of `evaluate_every`.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp, optax
      >>> from dropout_jax import train
      >>> x, y = jnp.eye(8), jnp.arange(8) % 2
      >>> run = train.make_train(
      ...     lambda rngs, hyper: dj.layers.MLP((8, 16, 2), rates=hyper["rate"], rngs=rngs),
      ...     lambda hyper: optax.sgd(0.1), epochs=3, batch_size=4)
      >>> sweep = jax.jit(jax.vmap(run, (0, 0, None)))
      >>> rates = {"rate": jnp.array([0.0, 0.5])}
      >>> result = sweep(jax.random.split(jax.random.key(0), 2), rates, {"train": (x, y)})
      >>> result.metrics["train_error"].shape
      (2, 3)

    Source: the shape of a run as a function is PureJaxRL's.
    """
    if evaluate_every < 1 or epochs < 1 or epochs % evaluate_every:
        raise ValueError(
            f"epochs = {epochs} and evaluate_every = {evaluate_every}; write whole numbers, 1 or "
            "more, the first a multiple of the second."
        )
    loop = make_loop(build, optimizer, batch_size=batch_size, **options)

    def train(key, hyper, data):
        def stretch(state, _):
            state, losses = jax.lax.scan(
                lambda state, _: loop.epoch(state, data), state, length=evaluate_every
            )
            return state, (losses, loop.evaluate(state, data))

        state = loop.init(key, hyper, data)
        state, (losses, metrics) = jax.lax.scan(stretch, state, length=epochs // evaluate_every)
        return Result(state, losses.reshape(epochs, -1), metrics)

    return train


def check_data(data: Data, batch_size: int) -> None:
    """Raise unless there is a "train" split that fills a batch, and x and y belong together."""
    if not isinstance(data, Mapping):
        raise TypeError(f'data is {type(data).__name__}; write {{"train": (x, y), "val": (x, y)}}.')
    if "train" not in data:
        raise ValueError(f"data has splits {sorted(data)}; one must be 'train': (x, y).")
    for name, (x, y, *_) in data.items():
        if count(x) != count(y):
            raise ValueError(f"{name} has {count(x)} inputs and {count(y)} targets.")
        if not count(x):
            raise ValueError(f"the split {name!r} is empty; leave it out.")
    examples = count(data["train"])
    if not 1 <= batch_size <= examples:
        raise ValueError(f"batch_size is {batch_size} and there are {examples} training examples.")
