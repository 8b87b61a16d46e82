"""Multi-sample dropout and R-Drop: losses over several dropout masks of one batch.

Both repeat each example instead of calling the model again, so that each copy of an example has a
mask of its own. A mask that is shared by the examples of a batch is shared by the copies too.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from dropout_jax._checks import check_count, check_positive
from dropout_jax._sharding import repeated
from dropout_jax.losses.ready import check_classes
from dropout_jax.typing import Array

Loss = Callable[[nnx.Module, Array, Array], Array]


def multi_sample(
    samples: int,
    *,
    features: Callable[[nnx.Module, Array], Array],
    head: Callable[[nnx.Module, Array], Array],
    loss: Callable[[Array, Array], Array] = optax.softmax_cross_entropy_with_integer_labels,
) -> Loss:
    r"""Multi-sample dropout: the loss averaged over masks, with only the head computed again.

    $$L(x, y) = \frac{1}{M} \sum_{i=1}^{M} \ell(\text{head}(d_i(h)), y), \qquad
      h = \text{features}(x),$$
    where the d_i are the head's dropout with M masks.

    Args:
      samples: M, 1 or more; 1 is the plain loss.
      features: (model, x) -> h (examples, ...), computed once: all below the head's dropout.
      head: (model, h) -> outputs (examples, ...): the dropout and what follows.
      loss: (outputs, y) -> (examples,).

    Returns:
      (model, x, y) -> a scalar, the `loss` of `fit`, `make_train` and `make_loop`.

    Raises:
      ValueError: samples that are not a whole number over 0; one class, of the default loss.

    Example:
      >>> from dropout_jax import layers, losses
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> model = layers.MLP((4, 8, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> objective = losses.multi_sample(
      ...     8,
      ...     features=lambda model, x: nnx.relu(model.linears[0](x)),
      ...     head=lambda model, h: model.linears[1](model.dropouts[1](h)))
      >>> objective(model, jnp.ones((3, 4)), jnp.array([0, 1, 1])).shape
      ()

    Source: Inoue 2019, "Multi-Sample Dropout for Accelerated Training and Better Generalization".
    """
    check_count("samples", samples, 8)

    def objective(model, x, y):
        outputs = head(model, repeated(features(model, x), samples))
        if objective.takes_labels:
            check_classes(outputs)
        return jnp.mean(loss(outputs, repeated(y, samples)))

    objective.takes_labels = loss is optax.softmax_cross_entropy_with_integer_labels
    return objective


def r_drop(alpha: float | Array = 5.0) -> Loss:
    r"""R-Drop: two masks an example, and a penalty on the divergence of their predictions.

    $$L(x, y) = \frac{1}{2} \left[ -\log P_1(y | x) - \log P_2(y | x) + \frac{\alpha}{2}
      \left( KL(P_1 \| P_2) + KL(P_2 \| P_1) \right) \right],$$
    averaged over the batch; P_1 and P_2 are the softmax of the model's outputs under the two masks.
    It is half of the paper's, so that without dropout it is the cross-entropy; alpha means what it
    means there.

    Args:
      alpha: weight of the divergence, 0 or more, a number or a traced scalar; the paper chooses it
        by task, 5 for translation.

    Returns:
      (model, x, y) -> a scalar, the `loss` of `fit`, `make_train` and `make_loop`; y holds integer
      labels.

    Raises:
      ValueError: a concrete alpha below 0; a model with one output, whose softmax is 1.

    Example:
      >>> from dropout_jax import layers, losses
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> model = layers.MLP((4, 8, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> losses.r_drop(alpha=1.0)(model, jnp.ones((3, 4)), jnp.array([0, 1, 1])).shape
      ()

    Source: Wu et al. 2021, "R-Drop: Regularized Dropout for Neural Networks".
    """
    check_positive("alpha", alpha, 5.0, zero=True)

    def objective(model, x, y):
        logs = jax.nn.log_softmax(check_classes(model(repeated(x, 2))))
        pairs = logs.reshape(len(x), 2, *logs.shape[1:])
        first, second = pairs[:, 0], pairs[:, 1]
        labels = jnp.expand_dims(y, -1)
        chosen = jnp.take_along_axis((first + second) / 2, labels, axis=-1)
        # KL(P || Q) + KL(Q || P), in one sum whose terms are never negative. A class that cannot
        # be, with a logit of -inf under every mask, has no part in it.
        never = jnp.isneginf(first) & jnp.isneginf(second)
        first, second = jnp.where(never, 0, first), jnp.where(never, 0, second)
        divergence = jnp.sum((jnp.exp(first) - jnp.exp(second)) * (first - second), axis=-1)
        return jnp.mean(alpha / 4 * divergence) - jnp.mean(chosen)

    objective.takes_labels = True  # `fit` looks at them before it starts
    return objective
