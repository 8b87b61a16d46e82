"""The geometric mean of the distributions that sub-networks predict."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from dropout_jax._advice import advised
from dropout_jax.predict.networks import Model, ready, sub_networks
from dropout_jax.predict.other_names import MC
from dropout_jax.predict.outputs import check_classes, zeros_like
from dropout_jax.train.examples import from_table
from dropout_jax.typing import Array, Key


@advised("dj.geometric_mean_predict(key, model, x, samples=100)", MC)
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
        return jax.tree.map(lambda logits: check_classes(logits, x), outputs(k))

    def add(total, k):  # a logit of -inf, for a class that cannot be, stays one
        return jax.tree.map(lambda t, y: t + y.astype(t.dtype), total, sub_network(k)), None

    counter = jnp.arange(samples, dtype=jnp.int32)
    total, _ = jax.lax.scan(add, zeros_like(sub_network), counter)
    return jax.tree.map(lambda t: jax.nn.softmax(t / samples), total)
