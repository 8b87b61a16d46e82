"""From the outputs of a model to a prediction: by default the softmax over classes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dropout_jax._checks import wide_dtype
from dropout_jax.predict.networks import sub_networks

Output = Callable[[Any], Any]


def predicted_from(output, outputs, x):
    """`output(outputs)`; the default, the softmax, is that of every array in a pytree."""
    if output is not jax.nn.softmax:
        return output(outputs)
    return jax.tree.map(lambda logits: jax.nn.softmax(check_classes(logits, x)), outputs)


def check_classes(logits, x):
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


def predictions(parts, output, key, x, *, consistent=False):
    """k -> the prediction of the k-th sub-network."""
    sub_network = sub_networks(parts, key, x, consistent=consistent)
    return lambda k: predicted_from(output, sub_network(k), x)


def zeros_like(sub_network):
    """Zeros of the shape of a sub-network's prediction, in float32 or wider, to add up in."""
    return jax.tree.map(
        lambda like: jnp.zeros(like.shape, wide_dtype(like), out_sharding=like.sharding),
        jax.eval_shape(sub_network, jax.ShapeDtypeStruct((), jnp.int32)),
    )
