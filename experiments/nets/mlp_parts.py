"""What a run of the paper's MLP is made of: its network, its objective, its optimizer.

All in the scaled convention (activations are divided by keep in training), in which the paper's
max-norm c of a layer is keep c; `max_norms` is the map.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import dropout_jax as dj
from dropout_jax import schedules
from dropout_jax.train import cross_entropy
from dropout_jax.typing import Array
from experiments.nets import products as matrix_products


def network(
    sizes: Sequence[int],
    rates: Sequence[float],
    *,
    activation: str,
    pieces: int,
    noise: str,
    init_ranges: Sequence[float] | None = None,
    init_deviations: Sequence[float] | None = None,
    products: str = "float32",
    rngs: nnx.Rngs,
) -> dj.layers.MLP:
    """An MLP with the paper's units and noise.

    Args:
      sizes: units of each layer, input and output included.
      rates: the input's, then each hidden layer's.
      activation: "relu", "logistic", or "maxout": the largest of `pieces` linear functions.
      pieces: linear functions of a maxout unit.
      noise: "bernoulli" is dropout, "gaussian" its like of the same mean and variance.
      init_ranges: weights of layer i are uniform within +- init_ranges[i].
      init_deviations: without ranges, they are normal of these standard deviations. With neither
        they are He's normal, and for logistic units four times Glorot's uniform.
      products: "bfloat16" rounds the factors of matrix products, "float32" does not.
    """
    functions = {
        "relu": nnx.relu,
        "logistic": nnx.sigmoid,
        "maxout": lambda x: jnp.max(x.reshape(*x.shape[:-1], -1, pieces), axis=-1),
    }
    init = nnx.initializers.he_normal()
    if activation == "logistic":
        # A logistic unit has a quarter of the slope that Glorot and Bengio 2010 assume: with He's
        # weights, nets of three hidden layers do not learn at all.
        init = nnx.initializers.variance_scaling(16, "fan_avg", "uniform")
    model = dj.layers.MLP(
        sizes, rates=rates, activation=functions[activation], kernel_init=init, rngs=rngs
    )
    inits = [nnx.initializers.normal(deviation) for deviation in init_deviations or ()]
    inits = [within(bound) for bound in init_ranges or ()] or inits
    if activation == "maxout" or inits:
        outputs = [n * pieces if activation == "maxout" else n for n in sizes[1:-1]] + [sizes[-1]]
        inits = inits or [init] * len(outputs)
        model.linears = nnx.List(
            nnx.Linear(n_in, n_out, kernel_init=init, rngs=rngs)
            for n_in, n_out, init in zip(sizes[:-1], outputs, inits, strict=True)
        )
    if noise == "gaussian":
        model.dropouts = nnx.List(dj.layers.GaussianDropout(rate, rngs=rngs) for rate in rates)
    if products == "bfloat16":
        model.set_attributes(nnx.Linear, dot_general=matrix_products.bfloat16)
    return model


def within(bound: float) -> nnx.Initializer:
    """Uniform between -bound and bound."""
    return lambda key, shape, dtype=jnp.float32, **_: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


def activities(model: dj.layers.MLP, x: Array) -> list[Array]:
    """What every hidden layer puts out, then the logits: the steps of `model(x)`."""
    found = []
    for drop, linear in zip(model.dropouts, model.linears, strict=True):
        x = linear(drop(x if not found else model.activation(x)))
        found.append(x)
    return [*map(model.activation, found[:-1]), found[-1]]


def divergence(target: float, mean: Array) -> Array:
    r"""The Kullback-Leibler divergence of Poisson laws: $\rho \log(\rho / q) - \rho + q$.

    The usual sparsity penalty is that of Bernoulli laws, of which q would be a probability; a
    ReLU's mean activity q is any number over 0.
    """
    mean = jnp.maximum(mean, 1e-6)  # a unit that is always 0 has no gradient in any case
    return target * jnp.log(target / mean) - target + mean


def objective(weight: float, target: float) -> Callable[[dj.layers.MLP, Array, Array], Array]:
    """Cross-entropy, and `weight` times the divergence of each hidden unit's mean from `target`.

    The mean is over the batch; the divergences of all units are added.
    """
    if not weight:
        return cross_entropy

    def loss(model, x, y):
        *hidden, logits = activities(model, x)
        sparsity = sum(jnp.sum(divergence(target, jnp.mean(h, axis=0))) for h in hidden)
        return weight * sparsity + jnp.mean(
            optax.softmax_cross_entropy_with_integer_labels(logits, y)
        )

    return loss


def weight_penalty(l2: float, l1: float, l1_from: int) -> optax.GradientTransformation:
    """Adds l2 w to the gradient of every weight, and from update `l1_from` on l1 sign(w).

    Biases, which have one axis, are left alone.
    """

    def update(grads, step, params):
        late = l1 * (step >= l1_from)

        def add(g, w):
            return g if w.ndim < 2 else g + l2 * w + late * jnp.sign(w)

        return jax.tree.map(add, grads, params), step + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def scale_weights(factors: Sequence[float]) -> optax.GradientTransformation:
    """Multiply the updates of layer i's weights by factors[i], and leave its biases'."""
    prefix = nnx.State({"linears": dict(enumerate(factors))})

    def update(factor, updates):
        return jax.tree.map(lambda u: u if u.ndim < 2 else factor * u, updates)

    return optax.stateless(lambda updates, params: jax.tree.map(update, prefix, updates))


def decayed(
    learning_rate: float, decay: str, *, updates: int, to: float, warm_up: int
) -> schedules.Schedule:
    """A learning rate that falls to `to` times the first in `updates`, after a linear warm-up."""
    falling = {
        "cosine": lambda: optax.cosine_decay_schedule(learning_rate, updates, to),
        "linear": lambda: schedules.linear_ramp(learning_rate, learning_rate * to, updates),
        "inverse_time": lambda: schedules.inverse_time_decay(
            learning_rate, updates * to / (1 - to)
        ),
    }[decay]()
    if not warm_up:
        return falling
    return lambda step: falling(step) * jnp.minimum((step + 1) / warm_up, 1)


def optimizer(
    learning_rate: schedules.Schedule,
    momentum: float | schedules.Schedule,
    *,
    weight_factors: Sequence[float] | None = None,
    max_norm: Sequence[float] | None,
    l2: float,
    l1: float,
    l1_from: int,
) -> optax.GradientTransformation:
    """SGD with momentum, a penalty before it and the layers' factors and max-norm after it."""
    parts = [schedules.momentum_sgd(learning_rate, momentum)]
    if l2 or l1:
        parts.insert(0, weight_penalty(l2, l1, l1_from))
    if weight_factors:
        parts.append(scale_weights(weight_factors))
    if max_norm:
        parts.append(dj.max_norm(nnx.State({"linears": dict(enumerate(max_norm))})))
    return optax.chain(*parts)


def max_norms(c: float, rates: Sequence[float]) -> tuple[float, ...]:
    """The paper's one c for all layers, as each layer's in the scaled convention.

    >>> max_norms(2.0, (0.2, 0.5, 0.5))
    (1.6, 1.0, 1.0)
    """
    return tuple(
        round(dj.to_scaled_convention({"max_norm": c}, keep=1 - rate)["max_norm"], 10)
        for rate in rates
    )
