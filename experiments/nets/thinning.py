"""Networks and optimizer to compare thinned training with dropout: study and benchmark."""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import optax
from flax import nnx

import dropout_jax as dj

Method = Literal["none", "element", "flax", "thin"]
"""No dropout, ours element-wise, flax.nnx.Dropout, or thinned sub-networks."""


def network(
    method: Method, sizes: Sequence[int], rates: Sequence[float], rngs: nnx.Rngs
) -> dj.layers.MLP:
    """An MLP whose dropout is that of a method; `thin` takes ours away where it trains."""
    if method == "none":
        rates = [0] * len(rates)
    model = dj.layers.MLP(sizes, rates=rates, rngs=rngs)
    if method == "flax":
        model.dropouts = nnx.List(nnx.Dropout(rate, rngs=rngs) for rate in rates)
    return model


def optimizer(
    learning_rate: optax.ScalarOrSchedule, max_norm: float, hidden: int
) -> optax.GradientTransformation:
    """SGD with momentum 0.9, and max-norm on the hidden layers' incoming weights."""
    c = {layer: max_norm for layer in range(hidden)} | {hidden: jnp.inf}
    return optax.chain(optax.sgd(learning_rate, 0.9), dj.max_norm(nnx.State({"linears": c})))
