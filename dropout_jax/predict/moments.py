"""Fast dropout: the mean and variance of a network under dropout in one pass, without sampling."""

import functools
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
from flax import nnx

from dropout_jax._checks import check_floating, wide_dtype
from dropout_jax._nnx import split
from dropout_jax.layers.dropout import Dropout
from dropout_jax.layers.gaussian import GaussianDropout
from dropout_jax.layers.mlp import MLP
from dropout_jax.layers.scheduled import ScheduledDropout
from dropout_jax.masks import apply
from dropout_jax.typing import Array

WITH_MOMENTS = (Dropout, ScheduledDropout, GaussianDropout, nnx.Dropout)


class Moments(NamedTuple):
    """Mean and variance of a model's outputs under its dropout; of one shape."""

    mean: Array
    variance: Array


# So that a function that returns Moments can be exported.
jax.export.register_namedtuple_serialization(Moments, serialized_name="dropout_jax.Moments")


def moment_predict(model: MLP, x: Array) -> Array:
    r"""Fast dropout: the Monte Carlo mean without sampling, from Gaussian pre-activations.

    $$P(k | x) \propto \left[ \sum_j \exp \frac{\mu_j - \mu_k}{\sqrt{1 + \pi v_{jk} / 8}}
      \right]^{-1}, \qquad v_{jk} = \text{Var}(f_j - f_k),$$
    with the means of `moments`. For two classes it is the paper's sigmoid of a Gaussian,
    sigma(mu / sqrt(1 + pi s^2 / 8)), of the difference of the logits; each pair of classes is
    treated alike here, with classes^2 numbers an example, and the sum is brought to 1.

    Args:
      model, x: as for `moments`; the outputs are logits.

    Returns:
      Probabilities (..., classes).

    Raises:
      TypeError, ValueError: as `moments`; ValueError for a model with one output.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> from flax import nnx
      >>> model = dj.layers.MLP((4, 8, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> dj.moment_predict(model, jnp.ones((3, 4))).shape
      (3, 2)

    Source: Wang and Manning 2013, "Fast dropout training"; the sum over pairs is ours.
    """
    x = _check_moments(model, x)
    if model.linears[-1].out_features == 1:
        raise ValueError(
            "the model has one output, whose softmax is 1; for regression write "
            "predict.moments.moments(model, x), its mean and variance."
        )
    return _mean_softmax(*split(model), x)


@functools.partial(jax.jit, static_argnums=0)
def _mean_softmax(structure, state, x):
    mean, variance, last = _last_inputs(structure.merge(state), x)
    logits, kernel = last(mean), last.kernel[...].astype(mean.dtype)
    covariance = jnp.einsum("...i,ij,ik->...jk", variance, kernel, kernel)
    own = jnp.diagonal(covariance, axis1=-2, axis2=-1)
    spread = jnp.maximum(own[..., :, None] + own[..., None, :] - 2 * covariance, 0)
    gap = logits[..., None, :] - logits[..., :, None]
    return jax.nn.softmax(-jax.nn.logsumexp(gap / jnp.sqrt(1 + jnp.pi / 8 * spread), axis=-1))


def moments(model: MLP, x: Array) -> Moments:
    r"""Mean and variance of the outputs over all masks, carried from layer to layer.

    Dropout, a linear layer and ReLU take the mean and variance of a unit, mu and s^2, to
    $$\mu' = \mu, \quad s'^2 = \frac{s^2 + \text{rate}\,\mu^2}{1 - \text{rate}}; \qquad
      \mu' = W^\top \mu + b, \quad s'^2 = (W \odot W)^\top s^2; \qquad
      \mu' = \mu \Phi(z) + s\,\phi(z), \quad
      s'^2 = (\mu^2 + s^2)\,\Phi(z) + \mu s\,\phi(z) - \mu'^2, \quad z = \mu / s.$$
    Two things are approximate: that a hidden pre-activation is Gaussian, and that the units of a
    layer are independent. Up to the first pre-activation that is random, all is exact.

    Args:
      model: an `MLP` with ReLU.
      x: (..., sizes[0]), floating-point.

    Returns:
      `Moments`: mean and variance of the logits, both (..., sizes[-1]), in float32 or wider.

    Raises:
      TypeError: another model, or another noise in it; x that is not floating-point.
      ValueError: another activation.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> from dropout_jax.predict import moments
      >>> from flax import nnx
      >>> model = dj.layers.MLP((4, 8, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> mean, variance = moments.moments(model, jnp.ones((3, 4)))
      >>> mean.shape, variance.shape
      ((3, 2), (3, 2))

    Source: Wang and Manning 2013, "Fast dropout training".
    """
    x = _check_moments(model, x)
    return _moments(*split(model), x)


@functools.partial(jax.jit, static_argnums=0)
def _moments(structure, state, x):
    mean, variance, last = _last_inputs(structure.merge(state), x)
    return Moments(*_linear(last, mean, variance))


def _check_moments(model, x):
    if not isinstance(model, MLP) or type(model).__call__ is not MLP.__call__:
        raise TypeError(f"the model is {type(model).__name__}; moments are known for layers.MLP.")
    for drop in model.dropouts:
        if type(drop) not in WITH_MOMENTS:
            raise TypeError(
                f"the model has {type(drop).__name__}; moments are known for dropout, scheduled or "
                "not, and for GaussianDropout: write mc_predict."
            )
    if model.activation is not nnx.relu:
        raise ValueError(f"the activation is {model.activation}; moments are known for nnx.relu.")
    return check_floating(x)


def _last_inputs(model, x):
    """Mean and variance of what the last layer takes, dropout included, and that layer."""
    mean = x.astype(wide_dtype(x))
    variance = jnp.zeros_like(mean)
    for drop, linear in zip(model.dropouts[:-1], model.linears[:-1], strict=True):
        mean, variance = _relu(*_linear(linear, *_dropout(drop.rate, mean, variance)))
    return *_dropout(model.dropouts[-1].rate, mean, variance), model.linears[-1]


def _dropout(rate, mean, variance):
    rate = jnp.broadcast_to(jnp.asarray(rate, mean.dtype), mean.shape)
    scale = apply.scale_of(rate, mean.dtype)  # 1 / keep, and 0 at rate 1
    return jnp.where(scale > 0, mean, 0), scale * (variance + rate * mean**2)


def _linear(linear, mean, variance):
    return linear(mean), variance @ linear.kernel[...].astype(variance.dtype) ** 2


def _relu(mean, variance):
    random = variance > 0
    stddev = jnp.sqrt(jnp.where(random, variance, 1))  # the root has no derivative at 0
    z = mean / stddev
    above, density = jax.scipy.stats.norm.cdf(z), jax.scipy.stats.norm.pdf(z)
    half = z * above + density  # the mean, in units of stddev
    # E[relu^2] - E[relu]^2 multiplied out, for it would cancel at large z.
    spread = above + z * density * (1 - 2 * above) + z**2 * above * (1 - above) - density**2
    return (
        jnp.where(random, stddev * half, nnx.relu(mean)),
        jnp.where(random, variance * jnp.maximum(spread, 0), 0),
    )
