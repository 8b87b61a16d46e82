"""Classification with MC dropout: predictive entropy and mutual information (BALD)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from dropout_jax._advice import advised
from dropout_jax._checks import wide_dtype
from dropout_jax.predict.networks import (
    Model,
    arrays,
    check_batch_size,
    in_batches,
    ready,
    sub_networks,
)
from dropout_jax.predict.other_names import MC
from dropout_jax.typing import Array, Key


class Classification(NamedTuple):
    """Predictive probabilities, and how uncertain they are, in nats.

    `entropy` is that of the probabilities; `mutual_information` is the part of it that comes from
    sub-networks that disagree, which more data would mend, and the rest is the noise of the labels.
    """

    probabilities: Array
    entropy: Array
    mutual_information: Array


# So that a function that returns a Classification can be exported.
jax.export.register_namedtuple_serialization(
    Classification, serialized_name="dropout_jax.Classification"
)


@advised("dj.mc_classify(key, model, x, samples=100)", MC)
def mc_classify(
    key: Key,
    model: Model,
    x: Any,
    *,
    samples: int,
    batch_size: int | None = None,
    consistent: bool = False,
) -> Classification:
    r"""MC dropout for classification: probabilities, entropy, and what the model does not know.

    With the probabilities $P_k(y | x)$ of K sub-networks and H the entropy,
    $$P = \frac{1}{K} \sum_k P_k, \qquad
      \text{entropy} = H(P), \qquad
      \text{mutual information} = H(P) - \frac{1}{K} \sum_k H(P_k) \ge 0.$$
    A sample of K sub-networks makes the mutual information about (classes - 1) / (2 K) too small,
    or less; write 100 samples and more where it is small.

    Args:
      key, x, samples, batch_size, consistent: as for `mc_regress`.
      model: an `nnx.Module` with `model(x)`, or a function (key, x) -> logits; its outputs are
        logits (examples, ..., classes), two classes or more.

    Returns:
      A `Classification`: probabilities (examples, ..., classes), entropy and mutual information
      (examples, ...), in nats.

    Raises:
      TypeError, ValueError: as `mc_regress`; outputs with fewer than two classes.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> model = dj.layers.MLP((4, 8, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> found = dj.mc_classify(jax.random.key(0), model, jnp.ones((3, 4)), samples=100)
      >>> bool((found.mutual_information <= found.entropy).all())
      True

    Source: Houlsby et al. 2011 (arXiv:1112.5745), equation 2; Gal 2016, "Uncertainty in Deep
    Learning", section 3.3.1.
    """
    x = arrays(x)
    parts = ready(key, model, samples, spread=True)
    options = (samples, check_batch_size(batch_size, x), bool(consistent))
    return _classify(parts[0], options, parts[1:], key, x)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _classify(static, options, state, key, x):
    samples, batch_size, consistent = options

    def reduce(key, x):
        sub_network = sub_networks((static, *state), key, x, consistent=consistent)

        def one(k):
            logits = check_logits(sub_network(k))
            probabilities = jax.nn.softmax(logits)
            return probabilities, entropy(probabilities)

        def add(totals, k):
            return jax.tree.map(jnp.add, totals, one(k)), None

        totals, _ = jax.lax.scan(add, one(0), jnp.arange(1, samples, dtype=jnp.int32))
        return jax.tree.map(lambda total: total / samples, totals)

    probabilities, within = in_batches(reduce, key, x, batch_size=batch_size, consistent=consistent)
    total = entropy(probabilities)
    return Classification(probabilities, total, jnp.maximum(total - within, 0))


def entropy(probabilities: Array | np.ndarray) -> Array:
    r"""The entropy of distributions over classes, in nats.

    $$H(p) = -\sum_c p_c \log p_c, \qquad 0 \log 0 = 0.$$

    Args:
      probabilities: (..., classes).

    Returns:
      (...,), from 0 for a sure prediction to log(classes).

    Example:
      >>> import jax.numpy as jnp
      >>> from dropout_jax import predict
      >>> round(float(predict.entropy(jnp.array([0.5, 0.5]))), 4)
      0.6931

    Source: Shannon 1948, "A Mathematical Theory of Communication", section 6.
    """
    positive = probabilities > 0
    logs = jnp.log(jnp.where(positive, probabilities, 1))
    return -jnp.sum(jnp.where(positive, probabilities * logs, 0), axis=-1)


def check_logits(outputs: Array) -> Array:
    """The outputs as logits in float32 or wider; raise where they cannot be."""
    if not isinstance(outputs, jax.Array) or not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise TypeError(
            f"the model's outputs are {jax.tree.map(jnp.shape, outputs)}, and a classifier gives "
            "one array of logits (examples, classes)."
        )
    if outputs.ndim < 2 or outputs.shape[-1] < 2:
        raise ValueError(
            f"the model's outputs have shape {outputs.shape}, and a classifier gives logits "
            "(examples, classes) of two classes or more: write mc_regress for a regression, and "
            "two outputs for two classes."
        )
    return outputs.astype(wide_dtype(outputs))
