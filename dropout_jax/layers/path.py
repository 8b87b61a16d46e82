"""Stochastic depth (DropPath) for Flax NNX: drop whole residual branches."""

from collections.abc import Callable
from typing import Literal

from dropout_jax._checks import check_choice, check_rate, is_static
from dropout_jax.layers.base import NoiseLayer
from dropout_jax.layers.dropout import Dropout
from dropout_jax.noise.path import drop_path, drop_path_subset
from dropout_jax.typing import Array, Key, Rate


class DropPath(Dropout):
    r"""`dropout_jax.drop_path` as a layer: a residual branch dropped whole (stochastic depth).

    $$y = m\,x / (1 - \text{rate}), \qquad m \sim \text{Bernoulli}(1 - \text{rate}),$$
    with one m a sample, or one for all. A residual block is `skip + drop_path(branch)`.

    Args:
      rate: as for `Dropout`; an array broadcasts against (batch, 1, ..., 1).
      per: "sample", one draw a sample; or "batch", one draw for all, as in the paper.
      options: `deterministic`, `rng_collection` and `rngs`, as for `Dropout`.

    Raises:
      TypeError: as `Dropout`.
      ValueError: as `Dropout`; an unknown `per`; when called, inputs without a batch axis.

    Example:
      >>> from dropout_jax.layers import DropPath
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> y = DropPath(0.5, rngs=nnx.Rngs(0))(jnp.ones((100, 3)))
      >>> sorted(set(map(tuple, y.tolist())))
      [(0.0, 0.0, 0.0), (2.0, 2.0, 2.0)]

    Source: Huang et al. 2016, scaled in training.
    """

    def __init__(self, rate: Rate, *, per: Literal["sample", "batch"] = "sample", **options):
        super().__init__(rate, broadcast_dims=(), **options)
        self.per = check_choice("per", per, "sample", "batch")

    def noise(self, key: Key, inputs: Array) -> Array:
        """`dropout_jax.drop_path` of the inputs."""
        return drop_path(key, inputs, self.amount, per=self.per)


class DropPathSubset(NoiseLayer):
    r"""`dropout_jax.drop_path_subset` as a layer: a residual block that skips part of the batch.

    $$y_i = x_i + \begin{cases} \frac{n}{k} f(x)_i & i \in S \\ 0 & \text{otherwise,} \end{cases}
      \qquad S \text{ a uniform subset of } k \text{ of the } n \text{ samples,}$$
    and y = x + f(x) when deterministic. The branch f computes k = round(n (1 - rate)) samples of a
    batch of n, and saves the arithmetic of the others. It is to treat each sample alone: layer
    norm, not batch norm, whose statistics would be those of the subset.

    Attributes:
      branch: f.

    Args:
      branch: f, a module or a function that keeps the shape (n, ...).
      rate: share of the samples whose branch is skipped, in [0, 1]; a Python number, since shapes
        depend on it.
      groups: as for `dropout_jax.drop_path_subset`, for a batch that is divided over devices.
      options: `deterministic`, `rng_collection` and `rngs`, as for `Dropout`.

    Raises:
      TypeError: a branch that cannot be called, a rate that is an array or no number; `rngs` of
        another type.
      ValueError: a rate outside [0, 1]; when called, as `dropout_jax.drop_path_subset`.

    Example:
      >>> from dropout_jax.layers import DropPathSubset
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> block = DropPathSubset(lambda x: 3 * x, 0.5, rngs=nnx.Rngs(0))
      >>> sorted(block(jnp.ones((4, 1))).ravel().tolist())
      [1.0, 1.0, 7.0, 7.0]
      >>> block.eval()
      >>> block(jnp.ones((4, 1))).ravel().tolist()
      [4.0, 4.0, 4.0, 4.0]

    Source: the drop of Huang et al. 2016, section 3; a subset of the batch as in Oquab et al. 2023,
    "DINOv2", section 5 (efficient stochastic depth).
    """

    def __init__(
        self,
        branch: Callable[[Array], Array],
        rate: float,
        *,
        groups: int | None = None,
        **options,
    ):
        super().__init__(**options)
        if not callable(branch):
            raise TypeError(
                f"branch is {type(branch).__name__}; write a module, such as nnx.Linear(8, 8, "
                "rngs=rngs), and then the rate."
            )
        if not is_static(check_rate(rate)):
            raise TypeError(
                "rate is an array, and the number of samples computed depends on it; write a "
                "Python number, or use DropPath, which takes arrays."
            )
        self.branch, self.rate, self.groups = branch, rate, groups

    @property
    def amount(self) -> Rate:
        """The rate."""
        return self.rate

    def noise(self, key: Key, inputs: Array) -> Array:
        """The inputs, and for a subset of the samples the branch's output, scaled."""
        return drop_path_subset(key, inputs, self.rate, self.branch, groups=self.groups)

    def mean(self, inputs: Array) -> Array:
        """The inputs and the branch's output."""
        return inputs + self.branch(inputs)
