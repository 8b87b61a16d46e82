"""Batch normalisation after dropout: estimate its statistics again, without noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dropout_jax._nnx import split
from dropout_jax.typing import Array


def recalibrate(model: nnx.Module, x: Array, *, batch_size: int = 1000) -> None:
    r"""Estimate the statistics of every batch normalisation again, on the network without noise.

    Dropout leaves the mean of a unit and raises its variance, from $s^2$ to
    $$(s^2 + \text{rate}\,\mu^2) / (1 - \text{rate}),$$
    so that a batch normalisation behind it learns a variance that does not occur at inference.
    Here each layer gets the moments of its inputs when all units are kept:
    $$\mu = \sum_c \frac{n_c}{n} \mu_c, \qquad v = \sum_c \frac{n_c}{n} v_c,$$
    over batches c of $n_c$ examples. A batch is normalised by its own statistics on its way to the
    next layer. One batch of all examples is exact; of smaller ones the variance comes out smaller
    by a share of about 1 / batch_size.

    Args:
      model: any `nnx.Module` with `model(x)` and `nnx.BatchNorm` layers; it is changed in place,
        its statistics alone. Its mode stays.
      x: training inputs (examples, ...), 2 or more.
      batch_size: examples a forward pass, 2 or more.

    Raises:
      TypeError: a model that is no `nnx.Module`.
      ValueError: a model without `nnx.BatchNorm`, or fewer than 2 examples a batch.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
      >>> model = nnx.Sequential(dj.layers.Dropout(0.5, rngs=nnx.Rngs(1)), norm)
      >>> x = 1 + 2 * jax.random.normal(jax.random.key(0), (512, 3))
      >>> dj.recalibrate(model, x)
      >>> bool(jnp.allclose(norm.var[...], x.var(0), rtol=1e-5))
      True

    Source: Li, Chen, Hu and Yang 2019, "Understanding the Disharmony between Dropout and Batch
    Normalization by Variance Shift", section 5.1, which moves the averages in evaluation mode.
    """
    structure, state = split(model)
    if not any(isinstance(m, nnx.BatchNorm) for _, m in nnx.iter_modules(model)):
        raise ValueError("the model has no nnx.BatchNorm, so that there is nothing to recalibrate.")

    @jax.jit
    def statistics(state, x):
        clean = structure.merge(state)
        clean.eval()
        for _, layer in nnx.iter_modules(clean):
            if isinstance(layer, nnx.BatchNorm):
                layer.use_running_average, layer.momentum = False, 0.0
        clean(x)
        return nnx.state(clean, nnx.BatchStat)

    nnx.update(model, _pooled(lambda batch: statistics(state, batch), x, batch_size))


def recalibrate_batch_stats(
    update: Callable[[Any, Array], Any], batch_stats: Any, x: Array, *, batch_size: int = 1000
) -> Any:
    r"""`recalibrate` for a Linen model: its collection `batch_stats` without the noise.

    A running average moves by $a' = m a + (1 - m) b$. From a start at 0 and another at 1 follow
    the momentum m and the statistics b of the batch, whatever the layer.

    Args:
      update: (batch_stats, x) -> the batch_stats after one training step without dropout, such as
        `lambda s, x: model.apply({"params": p, "batch_stats": s}, x, train=True,
        mutable=["batch_stats"], rngs=...)[1]["batch_stats"]` with rates of 0.
      batch_stats: the collection; its leaves come in dicts with "mean" and "var".
      x: training inputs (examples, ...).
      batch_size: examples a forward pass, 2 or more.

    Returns:
      The new collection.

    Raises:
      ValueError: an empty collection, or fewer than 2 examples a batch.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp
      >>> from dropout_jax.train import recalibrate_batch_stats
      >>> norm = nn.BatchNorm(use_running_average=False)
      >>> x = jax.random.normal(jax.random.key(0), (512, 3))
      >>> variables = norm.init(jax.random.key(1), x)
      >>> def update(stats, x):
      ...     moved = {**variables, "batch_stats": stats}
      ...     return norm.apply(moved, x, mutable=["batch_stats"])[1]["batch_stats"]
      >>> stats = recalibrate_batch_stats(update, variables["batch_stats"], x)
      >>> bool(jnp.allclose(stats["var"], x.var(0), rtol=1e-4))
      True

    Source: as `recalibrate`.
    """
    if not jax.tree.leaves(batch_stats):
        raise ValueError("batch_stats is empty: the model has no batch normalisation.")
    zeros, ones = (jax.tree.map(like, batch_stats) for like in (jnp.zeros_like, jnp.ones_like))

    @jax.jit
    def statistics(x):
        def of_batch(from_zero, from_one):
            momentum = from_one - from_zero
            return from_zero / (1 - momentum)

        return jax.tree.map(of_batch, update(zeros, x), update(ones, x))

    return _pooled(statistics, x, batch_size)


def _pooled(statistics: Callable[[Array], Any], x: Array, batch_size: int) -> Any:
    """The mean of the batches' statistics. Batches take every k-th row, as rows may be sorted."""
    if batch_size < 2 or len(x) < 2:
        raise ValueError(
            f"batch_size is {batch_size} and there are {len(x)} examples; a variance takes 2."
        )
    count = -(-len(x) // batch_size)
    batches = [x[start::count] for start in range(count)]

    def mean(*values):
        return sum(len(b) / len(x) * v for b, v in zip(batches, values, strict=True))

    return jax.tree.map(mean, *map(statistics, batches))
