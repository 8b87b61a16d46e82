"""DropConnect for Flax NNX: a linear layer whose weights are dropped in training."""

from typing import Literal

import jax.numpy as jnp
from flax import nnx

from dropout_jax._arrays import aligned
from dropout_jax._checks import check_choice, check_rate
from dropout_jax.layers.base import NoiseLayer, check_rngs, held, value_of
from dropout_jax.noise.connect import drop_connect_dense
from dropout_jax.typing import Array, Key, Rate

_KERNEL_INIT = nnx.initializers.lecun_normal()
_BIAS_INIT = nnx.initializers.zeros_init()


class DropConnectLinear(NoiseLayer, nnx.Linear):
    r"""`flax.nnx.Linear` whose weights are dropped in training.

    $$y_n = x_n\,(M_n \odot W) / (1 - \text{rate}) + b, \qquad
      M_{nij} \sim \text{Bernoulli}(1 - \text{rate}),$$
    and y = x W + b when deterministic: the mean. The bias is not dropped. What follows the layer is
    averaged by `dropout_jax.drop_connect_moments`, with its kernel: the paper's inference.

    Args:
      in_features, out_features: as for `flax.nnx.Linear`.
      rate: probability of dropping a weight, in [0, 1]: a Python number, a traced scalar, or an
        array that broadcasts against (in_features, out_features).
      per: "example", one mask for each of the leading indices of the inputs, as in the paper, at
        in_features * out_features bits each; or "batch", one for all, at the cost of the layer.
      use_bias, dtype, param_dtype, kernel_init, bias_init: as for `flax.nnx.Linear`.
      rngs: `nnx.Rngs`, for the weights and the noise.
      options: `deterministic` and `rng_collection`, as for `Dropout`.

    Raises:
      TypeError: a rate that is not a number; `rngs` of another type.
      ValueError: a concrete rate outside [0, 1]; an unknown `per`.

    Example:
      >>> from dropout_jax.layers import DropConnectLinear
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> layer = DropConnectLinear(8, 2, rate=0.5, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((4, 8))).shape
      (4, 2)

    Source: Wan et al. 2013; scaled in training.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        rate: Rate,
        per: Literal["example", "batch"] = "example",
        use_bias: bool = True,
        dtype: jnp.dtype | None = None,
        param_dtype: jnp.dtype = jnp.float32,
        kernel_init: nnx.Initializer = _KERNEL_INIT,
        bias_init: nnx.Initializer = _BIAS_INIT,
        rngs: nnx.Rngs,
        **options,
    ):
        check_rate(rate)
        check_rngs(rngs)
        check_choice("per", per, "example", "batch")
        nnx.Linear.__init__(
            self,
            in_features,
            out_features,
            use_bias=use_bias,
            dtype=dtype,
            param_dtype=param_dtype,
            kernel_init=kernel_init,
            bias_init=bias_init,
            rngs=rngs,
        )
        NoiseLayer.__init__(self, rngs=rngs, **options)
        self.rate = held(rate)
        self.per: Literal["example", "batch"] = per

    @property
    def amount(self) -> Rate:
        """The rate."""
        return value_of(self.rate)

    def mean(self, inputs: Array) -> Array:
        """The layer with all of its weights."""
        return nnx.Linear.__call__(self, inputs)

    def noise(self, key: Key, inputs: Array) -> Array:
        """The layer with weights dropped."""
        bias = None if self.bias is None else self.bias[...]
        arrays = (inputs, self.kernel[...], bias)
        x, kernel, bias = self.promote_dtype(arrays, dtype=self.dtype)
        y = drop_connect_dense(key, x, kernel, self.amount, per=self.per)
        return y if bias is None else y + aligned(bias, y.ndim)
