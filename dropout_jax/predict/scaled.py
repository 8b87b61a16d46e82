"""Weight scaling: predict with one pass of the whole network, which dropout has scaled in training.

The model's mode and its random streams do not change.
"""

import functools
from typing import Any

import jax
from flax import nnx

from dropout_jax._advice import advised
from dropout_jax._nnx import split
from dropout_jax.predict.networks import arrays, check_batch_size, in_batches
from dropout_jax.predict.other_names import SCALED
from dropout_jax.predict.outputs import Output, predicted_from
from dropout_jax.train.batches import are_batches
from dropout_jax.train.calls import with_rngs
from dropout_jax.train.examples import from_table
from dropout_jax.typing import Array


@advised("dj.predict_scaled(model, x)", SCALED)
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
        return predicted_from(output, called(x), x)

    return in_batches(predicted, key, x, batch_size=batch_size, consistent=True)
