"""Monte Carlo dropout and the other ways to predict with a model that was trained with dropout.

Every rule is a pure function of the model: neither its mode nor its random streams change.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
from flax import nnx

from dropout_jax._arrays import safe_sqrt
from dropout_jax._checks import wide_dtype
from dropout_jax._nnx import split
from dropout_jax.predict.networks import (
    Model,
    arrays,
    check_batch_size,
    in_batches,
    ready,
    sub_networks,
)
from dropout_jax.train.batches import are_batches
from dropout_jax.train.calls import with_rngs
from dropout_jax.train.examples import from_table
from dropout_jax.typing import Array, Key

Output = Callable[[Any], Any]


class Prediction(NamedTuple):
    """A mean over sub-networks, and their standard deviation around it; of one shape.

    Each is an array, or a pytree of arrays where the prediction is one.
    """

    mean: Any
    stddev: Any


# So that a function that returns a Prediction can be exported.
jax.export.register_namedtuple_serialization(Prediction, serialized_name="dropout_jax.Prediction")


def predict_scaled(
    model: nnx.Module,
    x: Any,
    *,
    output: Output = jax.nn.softmax,
    batch_size: int | None = None,
) -> Array:
    r"""Weight scaling: one pass of the whole network, each unit at its mean.

    $$P(y | x) = \text{softmax}(f(x;\, \mathbb{E}[m])).$$
    The scaling was done in training, so that nothing is left to do but to keep all units.

    Args:
      model: any `nnx.Module` with `model(x)`.
      x: inputs (examples, ...).
      output: from the model's outputs to a prediction; `lambda y: y` for regression. By default
        the softmax of the outputs, or of each array in a pytree of outputs.
      batch_size: how many examples go through the model at a time; None for all.

    Returns:
      Predictions (examples, ...), probabilities by default; a pytree if `output` returns one.

    Raises:
      TypeError: a model that is not an `nnx.Module`; x that is a loader.
      ValueError: no `output`, and a model with a single output, whose softmax would be 1; a
        batch_size that is no whole number over 0, or x that is spread over devices with one.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> from flax import nnx
      >>> model = dj.layers.MLP((4, 8, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> dj.predict_scaled(model, jnp.ones((3, 4))).shape
      (3, 2)

    Source: Srivastava et al. 2014, section 4.
    """
    structure, state = split(model)
    if are_batches(x):
        raise TypeError(
            f"x is {type(x).__name__}, a loader of batches; write "
            "np.concatenate([dj.predict_scaled(model, x) for x, _ in loader])."
        )
    x = from_table(x)
    options = output, None
    if batch_size is not None:
        x = arrays(x)
        options = output, check_batch_size(batch_size, x)
    return _scaled(structure, options, state, x)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _scaled(structure, options, state, x):
    output, batch_size = options
    model = structure.merge(state)
    model.eval()
    key = jax.random.key(0)  # which draws nothing
    called = with_rngs(model, lambda: key)

    def predicted(_, x):
        return _predicted(output, called(x), x)

    return in_batches(predicted, key, x, batch_size=batch_size, consistent=True)


def _predicted(output, outputs, x):
    """`output(outputs)`; the default, the softmax, is that of every array in a pytree."""
    if output is not jax.nn.softmax:
        return output(outputs)
    return jax.tree.map(lambda logits: jax.nn.softmax(_check_classes(logits, x)), outputs)


def _check_classes(logits, x):
    """Raise for one number an example: its softmax is 1, or runs over the examples."""
    examples = {leaf.shape[0] for leaf in jax.tree.leaves(x) if jnp.ndim(leaf) > 1}
    shape = jnp.shape(logits)
    if shape[-1:] in ((), (1,)) or (len(shape) == 1 and shape[0] in examples):
        raise ValueError(
            f"the model's output has shape {shape}, one number an example, and the default "
            "output= is the softmax over classes; write output=lambda y: y for regression, or "
            "output=jax.nn.sigmoid for the logit of one class, in predict_scaled, mc_samples or "
            "mc_predict."
        )
    return logits


def mc_samples(
    key: Key, model: Model, x: Any, *, samples: int, output: Output = jax.nn.softmax
) -> Array:
    r"""The predictions of sub-networks drawn at random, one after the other.

    $$P_k(y | x) = \text{softmax}(f(x;\, m_k)), \qquad k = 1 \dots K.$$
    Their running mean is `jnp.cumsum(p, 0)[k - 1] / k`, the Monte Carlo estimate of k samples.

    Args:
      key, model, x, samples, output: as for `mc_predict`.

    Returns:
      Predictions (samples, examples, ...); a pytree if `output` returns one.

    Raises:
      TypeError, ValueError: as `mc_predict`.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> model = dj.layers.MLP((4, 8, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> p = dj.predict.mc_samples(jax.random.key(0), model, jnp.ones((3, 4)), samples=5)
      >>> p.shape
      (5, 3, 2)

    Source: Srivastava et al. 2014, section 7.5 and figure 11, the error as a function of k.
    """
    state = ready(key, model, samples)
    return _samples(*state, samples, output, key, from_table(x))


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _samples(structure, params, rest, samples, output, key, x):
    sub_network = _predictions((structure, params, rest), output, key, x)
    return jax.lax.map(sub_network, jnp.arange(samples, dtype=jnp.int32))


def mc_predict(
    key: Key,
    model: Model,
    x: Any,
    *,
    samples: int,
    output: Output = jax.nn.softmax,
    batch_size: int | None = None,
    consistent: bool = False,
) -> Prediction:
    r"""Monte Carlo: predictions averaged over sub-networks drawn at random.

    $$P(y | x) = \frac{1}{K} \sum_{k=1}^{K} P_k(y | x), \qquad
      s^2 = \frac{1}{K} \sum_{k=1}^{K} (P_k(y | x) - P(y | x))^2.$$
    Memory does not grow with the samples, nor, given a batch_size, does what the model holds grow
    with the examples. The standard deviation is that of a single sub-network; divided by sqrt(K) it
    is the standard error of the mean. Batch normalisation, if any, uses its
    running averages.

    Args:
      key: a typed key; all masks come from it, none from the model's own streams.
      model: any `nnx.Module` with `model(x)`; or a function (key, x) -> outputs, such as
        `lambda key, x: linen_model.apply(variables, x, rngs={"dropout": key})`.
      x: inputs (examples, ...).
      samples: K, 1 or more.
      output: from the model's outputs to a prediction; `lambda y: y` for regression. By default
        the softmax of the outputs, or of each array in a pytree of outputs. Each new function is
        compiled once.
      batch_size: how many examples go through the model at a time; None for all. The masks depend
        on it, unless they are consistent.
      consistent: draw one sub-network a sample for all examples, so that a curve is smooth.

    Returns:
      A `Prediction`: mean and stddev, both (examples, ...), probabilities by default; pytrees of
      such if `output` returns one.

    Raises:
      TypeError: `key` is missing or not a key; a model that is neither a module nor a function.
      ValueError: samples or a batch_size that are not a whole number over 0; no `output`, and a
        model with a single output, whose softmax would be 1.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> model = dj.layers.MLP((4, 8, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> mean, stddev = dj.mc_predict(jax.random.key(0), model, jnp.ones((3, 4)), samples=100)
      >>> mean.shape, stddev.shape
      ((3, 2), (3, 2))

    Source: Srivastava et al. 2014, section 7.5; Gal and Ghahramani 2016, "Dropout as a Bayesian
    Approximation", for the standard deviation.
    """
    structure, *state = ready(key, model, samples)
    x = from_table(x)
    if batch_size is not None or consistent:
        x = arrays(x)
    options = (samples, output, check_batch_size(batch_size, x), bool(consistent))
    return _predict(structure, options, state, key, x)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _predict(structure, options, state, key, x):
    samples, output, batch_size, consistent = options

    def reduce(key, x):
        sub_network = _predictions((structure, *state), output, key, x, consistent=consistent)

        def add(moments, k):  # Welford's recurrence, which does not cancel, as a sum of squares
            mean, squares = moments
            off = jax.tree.map(lambda y, m: y.astype(m.dtype) - m, sub_network(k), mean)
            mean = jax.tree.map(lambda m, d: m + d / (k + 1).astype(d.real.dtype), mean, off)
            squares = jax.tree.map(lambda s, d: s + _square(d) * _share(k, s.dtype), squares, off)
            return (mean, squares), None

        zeros = _zeros_like(sub_network)
        start = zeros, jax.tree.map(jnp.real, zeros)
        return jax.lax.scan(add, start, jnp.arange(samples, dtype=jnp.int32))[0]

    mean, squares = in_batches(reduce, key, x, batch_size=batch_size, consistent=consistent)
    return Prediction(mean, jax.tree.map(lambda s: safe_sqrt(s / samples), squares))


def _square(off):
    """|off|^2: real for complex predictions too."""
    return (off * off.conj()).real


def _share(k, dtype):
    """k / (k + 1), in a dtype that JAX's 64-bit mode does not widen."""
    return k.astype(dtype) / (k + 1).astype(dtype)


def _zeros_like(sub_network):
    return jax.tree.map(
        lambda like: jnp.zeros(like.shape, wide_dtype(like), out_sharding=like.sharding),
        jax.eval_shape(sub_network, jax.ShapeDtypeStruct((), jnp.int32)),
    )


def geometric_mean_predict(key: Key, model: Model, x: Any, *, samples: int) -> Array:
    r"""The normalised geometric mean of the distributions of sub-networks drawn at random.

    $$P(y | x) \propto \prod_{k=1}^{K} P_k(y | x)^{1 / K}
      = \text{softmax}\left(\frac{1}{K} \sum_{k=1}^{K} f(x;\, m_k)\right).$$
    Over all sub-networks, each with its probability, a network whose only dropout is before its
    last layer gives the prediction of `predict_scaled`, exactly.

    Args:
      key, model, x, samples: as for `mc_predict`; the model's outputs are logits.

    Returns:
      Probabilities (examples, classes); a pytree for a model that returns one.

    Raises:
      TypeError, ValueError: as `mc_predict`.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> model = dj.layers.MLP((4, 8, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> x = jnp.ones((3, 4))
      >>> dj.geometric_mean_predict(jax.random.key(0), model, x, samples=100).shape
      (3, 2)

    Source: Hinton et al. 2012 (arXiv:1207.0580), for the identity; Baldi and Sadowski 2013,
    "Understanding Dropout", for the name and for deeper networks.
    """
    state = ready(key, model, samples)
    return _geometric_mean(*state, samples, key, from_table(x))


@functools.partial(jax.jit, static_argnums=(0, 3))
def _geometric_mean(structure, params, rest, samples, key, x):
    outputs = sub_networks((structure, params, rest), key, x)

    def sub_network(k):
        return jax.tree.map(lambda logits: _check_classes(logits, x), outputs(k))

    def add(total, k):  # a logit of -inf, for a class that cannot be, stays one
        return jax.tree.map(lambda t, y: t + y.astype(t.dtype), total, sub_network(k)), None

    counter = jnp.arange(samples, dtype=jnp.int32)
    total, _ = jax.lax.scan(add, _zeros_like(sub_network), counter)
    return jax.tree.map(lambda t: jax.nn.softmax(t / samples), total)


def _predictions(parts, output, key, x, *, consistent=False):
    """k -> the prediction of the k-th sub-network."""
    sub_network = sub_networks(parts, key, x, consistent=consistent)
    return lambda k: _predicted(output, sub_network(k), x)
