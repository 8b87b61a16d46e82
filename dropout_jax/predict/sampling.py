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
from dropout_jax._checks import check_count, check_key, wide_dtype
from dropout_jax._nnx import rekey, split
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


def predict_scaled(model: nnx.Module, x: Array, *, output: Output = jax.nn.softmax) -> Array:
    r"""Weight scaling: one pass of the whole network, each unit at its mean.

    $$P(y | x) = \text{softmax}(f(x;\, \mathbb{E}[m])).$$
    The scaling was done in training, so that nothing is left to do but to keep all units.

    Args:
      model: any `nnx.Module` with `model(x)`.
      x: inputs (examples, ...).
      output: from the model's outputs to a prediction; `lambda y: y` for regression. By default
        the softmax of the outputs, or of each array in a pytree of outputs.

    Returns:
      Predictions (examples, ...), probabilities by default; a pytree if `output` returns one.

    Raises:
      TypeError: a model that is not an `nnx.Module`.
      ValueError: no `output`, and a model with a single output, whose softmax would be 1.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> from flax import nnx
      >>> model = dj.layers.MLP((4, 8, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> dj.predict_scaled(model, jnp.ones((3, 4))).shape
      (3, 2)

    Source: Srivastava et al. 2014, section 4.
    """
    structure, state = split(model)
    return _scaled(structure, output, state, x)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _scaled(structure, output, state, x):
    model = structure.merge(state)
    model.eval()
    return _predicted(output, model(x), x)


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
    key: Key, model: nnx.Module, x: Array, *, samples: int, output: Output = jax.nn.softmax
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
    state = _ready(key, model, samples)
    return _samples(*state, samples, output, key, x)


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _samples(structure, params, rest, samples, output, key, x):
    sub_network = _sub_networks(structure, params, rest, output, key, x)
    return jax.lax.map(sub_network, jnp.arange(samples, dtype=jnp.int32))


def mc_predict(
    key: Key, model: nnx.Module, x: Array, *, samples: int, output: Output = jax.nn.softmax
) -> Prediction:
    r"""Monte Carlo: predictions averaged over sub-networks drawn at random.

    $$P(y | x) = \frac{1}{K} \sum_{k=1}^{K} P_k(y | x), \qquad
      s^2 = \frac{1}{K} \sum_{k=1}^{K} (P_k(y | x) - P(y | x))^2.$$
    Memory does not grow with the samples. The standard deviation is that of a single sub-network;
    divided by sqrt(K) it is the standard error of the mean. Batch normalisation, if any, uses its
    running averages.

    Args:
      key: a typed key; all masks come from it, none from the model's own streams.
      model: any `nnx.Module` with `model(x)`.
      x: inputs (examples, ...).
      samples: K, 1 or more.
      output: from the model's outputs to a prediction; `lambda y: y` for regression. By default
        the softmax of the outputs, or of each array in a pytree of outputs. Each new function is
        compiled once.

    Returns:
      A `Prediction`: mean and stddev, both (examples, ...), probabilities by default; pytrees of
      such if `output` returns one.

    Raises:
      TypeError: `key` is missing or not a key; a model that is not an `nnx.Module`.
      ValueError: samples that are not a whole number over 0; no `output`, and a model with a
        single output, whose softmax would be 1.

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
    state = _ready(key, model, samples)
    return _predict(*state, samples, output, key, x)


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _predict(structure, params, rest, samples, output, key, x):
    sub_network = _sub_networks(structure, params, rest, output, key, x)

    def add(moments, k):  # Welford's recurrence, which does not cancel, as a sum of squares
        mean, squares = moments
        off = jax.tree.map(lambda y, m: y.astype(m.dtype) - m, sub_network(k), mean)
        mean = jax.tree.map(lambda m, d: m + d / (k + 1).astype(d.real.dtype), mean, off)
        squares = jax.tree.map(lambda s, d: s + _square(d) * _share(k, s.dtype), squares, off)
        return (mean, squares), None

    zeros = _zeros_like(sub_network)
    start = zeros, jax.tree.map(jnp.real, zeros)
    (mean, squares), _ = jax.lax.scan(add, start, jnp.arange(samples, dtype=jnp.int32))
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


def geometric_mean_predict(key: Key, model: nnx.Module, x: Array, *, samples: int) -> Array:
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
    state = _ready(key, model, samples)
    return _geometric_mean(*state, samples, key, x)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _geometric_mean(structure, params, rest, samples, key, x):
    def logits(outputs):
        return jax.tree.map(lambda y: _check_classes(y, x), outputs)

    sub_network = _sub_networks(structure, params, rest, logits, key, x)

    def add(total, k):  # a logit of -inf, for a class that cannot be, stays one
        return jax.tree.map(lambda t, y: t + y.astype(t.dtype), total, sub_network(k)), None

    counter = jnp.arange(samples, dtype=jnp.int32)
    total, _ = jax.lax.scan(add, _zeros_like(sub_network), counter)
    return jax.tree.map(lambda t: jax.nn.softmax(t / samples), total)


def _ready(key, model, samples):
    check_key(key)
    check_count("samples", samples, 100)
    return split(model, nnx.Param, ...)


def _sub_networks(structure, params, rest, output, key, x):
    """k -> the prediction of the k-th sub-network."""

    def sub_network(k):
        masked = rekey(rest, jax.random.fold_in(key, k))
        model = structure.merge(params, masked)
        model.eval()
        model.set_attributes(deterministic=False, raise_if_not_found=False)
        return _predicted(output, model(x), x)

    return sub_network
