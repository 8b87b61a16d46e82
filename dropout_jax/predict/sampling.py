"""Monte Carlo dropout: predict with many sub-networks of a model that was trained with dropout.

The model's mode and its random streams do not change.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp

from dropout_jax._advice import advised
from dropout_jax._arrays import safe_sqrt
from dropout_jax.predict.networks import Model, arrays, check_batch_size, in_batches, ready
from dropout_jax.predict.other_names import MC
from dropout_jax.predict.outputs import Output, predictions, zeros_like
from dropout_jax.train.examples import from_table
from dropout_jax.typing import Array, Key


class Prediction(NamedTuple):
    """A mean over sub-networks, and their standard deviation around it; of one shape.

    Each is an array, or a pytree of arrays where the prediction is one.
    """

    mean: Any
    stddev: Any


# So that a function that returns a Prediction can be exported.
jax.export.register_namedtuple_serialization(Prediction, serialized_name="dropout_jax.Prediction")


@advised("dj.predict.mc_samples(key, model, x, samples=100)", MC)
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
    sub_network = predictions((structure, params, rest), output, key, x)
    return jax.lax.map(sub_network, jnp.arange(samples, dtype=jnp.int32))


@advised("dj.mc_predict(key, model, x, samples=100)", MC)
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
        sub_network = predictions((structure, *state), output, key, x, consistent=consistent)

        def add(moments, k):  # Welford's recurrence, which does not cancel, as a sum of squares
            mean, squares = moments
            off = jax.tree.map(lambda y, m: y.astype(m.dtype) - m, sub_network(k), mean)
            mean = jax.tree.map(lambda m, d: m + d / (k + 1).astype(d.real.dtype), mean, off)
            squares = jax.tree.map(lambda s, d: s + _square(d) * _share(k, s.dtype), squares, off)
            return (mean, squares), None

        zeros = zeros_like(sub_network)
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
