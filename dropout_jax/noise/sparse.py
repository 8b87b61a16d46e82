"""Sparse variational dropout: learn a variance for each weight, and prune the noisy weights."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropout_jax._checks import check_broadcasts, check_floating, check_key, wide_dtype
from dropout_jax._sharding import sharding_of_product, spread
from dropout_jax.noise.variational import check_noisy, draw_outputs
from dropout_jax.typing import Array, Key


def sparse_dense(key: Key, x: ArrayLike, kernel: ArrayLike, log_sigma2: Array) -> Array:
    r"""A dense layer without bias whose weights have variances of their own.

    $$u \sim N\!\left(x W,\; (x \odot x)\,\sigma^2\right),$$
    the law of x W' for W'_ij ~ N(W_ij, sigma_ij^2), drawn for each example at the outputs. The
    noise is added and does not scale with the weight, so that the gradient of W has a small
    variance where alpha = sigma^2 / W^2 is large.

    Args:
      key: from `jax.random.key`.
      x: floating-point (..., in).
      kernel: W, floating-point (in, out).
      log_sigma2: log sigma^2: a number, or an array that broadcasts against the kernel; -inf for no
        noise.

    Returns:
      An array (..., out).

    Raises:
      TypeError, ValueError: as `variational_dense`.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> x, kernel = jnp.ones((4, 8)), jnp.ones((8, 2))
      >>> dj.sparse_dense(jax.random.key(0), x, kernel, jnp.full((8, 2), -10.0)).shape
      (4, 2)

    Source: Molchanov, Ashukha and Vetrov 2017, "Variational Dropout Sparsifies Deep Neural
    Networks" (additive noise reparameterisation). Their code adds 1e-8 to the variance, for the
    derivative of the root at 0; ours is 0 there, and adds nothing.
    """
    key = check_key(key)
    x, kernel = check_noisy(x, kernel, log_sigma2, "log_sigma2")
    return spread(sharding_of_product(x, kernel), _sparse, key, x, kernel, log_sigma2)


@jax.jit
def _sparse(key, x, kernel, log_sigma2):
    variance = jnp.exp(jnp.asarray(log_sigma2, wide_dtype(kernel)))
    return draw_outputs(key, x, kernel, jnp.broadcast_to(variance, kernel.shape))


def sparse_log_alpha(kernel: ArrayLike, log_sigma2: Array) -> Array:
    r"""Log of the noise of each weight relative to its square: which weights are mostly noise.

    $$\log\alpha = \log\sigma^2 - \log W^2, \quad \text{clipped to } [-8, 8].$$

    Args:
      kernel: W, floating-point, any shape.
      log_sigma2: as for `sparse_dense`.

    Returns:
      An array of the kernel's shape, in float32 or wider; 8 for a weight of 0, with no gradient
      there or where it is clipped.

    Raises:
      TypeError: a kernel that does not hold floating-point numbers.
      ValueError: a log_sigma2 that does not broadcast against the kernel.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> dj.sparse_log_alpha(jnp.array([[1.0, 0.0]]), -2.0).tolist()
      [[-2.0, 8.0]]

    Source: Molchanov, Ashukha and Vetrov 2017, as `sparse_dense`, with the clipping of their code.
    """
    kernel = check_floating(kernel, "kernel")
    check_broadcasts("log_sigma2", jnp.shape(log_sigma2), kernel.shape)
    size = jnp.abs(kernel.astype(wide_dtype(kernel)))
    some = size >= jnp.finfo(size.dtype).tiny  # log has no finite derivative at 0
    log_sigma2 = jnp.broadcast_to(jnp.asarray(log_sigma2, size.dtype), kernel.shape)
    log_alpha = log_sigma2 - 2 * jnp.log(jnp.where(some, size, 1))
    return jnp.where(some, jnp.clip(log_alpha, -8, 8), 8)


def sparse_kl(log_alpha: ArrayLike) -> Array:
    r"""KL divergence to the log-uniform prior, of each weight, at any alpha.

    $$\text{KL} = k_1 - k_1 \sigma(k_2 + k_3 \log\alpha) + \tfrac12 \log(1 + \alpha^{-1}),$$
    k = (0.63576, 1.8732, 1.48695): positive, and 0 at alpha = infinity. Within 0.0094 of the
    exact divergence at every alpha. To the mean over N training examples of the negative log
    likelihood add its sum over N; the paper's code raises its weight from 0 to 1 in the first
    epochs.

    Args:
      log_alpha: any shape, such as `sparse_log_alpha` gives.

    Returns:
      An array of that shape, in float32 or wider.

    Raises:
      TypeError: a log_alpha that is not an array of numbers.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> [round(v, 3) for v in dj.sparse_kl(jnp.array([-8.0, 0.0, 8.0])).tolist()]
      [4.636, 0.431, 0.0]

    Source: Molchanov, Ashukha and Vetrov 2017, as `sparse_dense` (approximation of the KL
    divergence).
    """
    log_alpha = jnp.asarray(log_alpha, wide_dtype(log_alpha))
    rest = 0.63576 * jax.nn.sigmoid(-1.8732 - 1.48695 * log_alpha)  # k1 - k1 sigma(...)
    return rest + jax.nn.softplus(-log_alpha) / 2


def sparse_mask(log_alpha: ArrayLike, *, threshold: float = 3.0) -> Array:
    r"""Which weights to keep: those that are not mostly noise.

    $$m = [\log\alpha \le \text{threshold}].$$

    Args:
      log_alpha: any shape, such as `sparse_log_alpha` gives.
      threshold: in units of log alpha; at 3 a dropped weight's variance is 20 times its square.

    Returns:
      Booleans of log_alpha's shape, True = kept.

    Raises:
      TypeError: a log_alpha that is not an array of numbers.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> dj.sparse_mask(jnp.array([-5.0, 5.0])).tolist()
      [True, False]

    Source: Molchanov, Ashukha and Vetrov 2017, as `sparse_dense`: weights with log alpha over 3
    are set to 0.
    """
    return jnp.asarray(log_alpha) <= threshold
