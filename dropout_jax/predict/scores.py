"""Scores of probabilistic predictions: log-likelihood and CRPS, of Gaussians and of samples.

Both are proper: the mean over cases is best, in expectation, for the true distribution.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dropout_jax._checks import wide_dtype
from dropout_jax.predict.checks import (
    aligned,
    aligned_or_number,
    check_noise,
    check_targets,
)
from dropout_jax.typing import Array


def log_likelihood_gaussian(y: ArrayLike, mean: ArrayLike, stddev: ArrayLike) -> Array:
    r"""The logarithm of a Gaussian's density at each target, in nats; higher is better.

    $$\log \mathcal{N}(y;\, \mu, \sigma^2)
      = -\tfrac12 \left(\frac{y - \mu}{\sigma}\right)^2 - \log \sigma - \tfrac12 \log 2\pi.$$

    Args:
      y: targets (examples, targets), or (examples,) for one.
      mean: predictions (examples, targets) or (examples,).
      stddev: standard deviations over 0, a number or of the shape of the mean.

    Returns:
      One number a prediction, in the shape of the mean.

    Raises:
      TypeError: what is no real number.
      ValueError: shapes that differ; values that are not finite; a deviation that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from dropout_jax import predict
      >>> round(float(predict.log_likelihood_gaussian(jnp.zeros(1), jnp.zeros(1), 1.0)[0]), 4)
      -0.9189

    Source: Bishop 2006, "Pattern Recognition and Machine Learning", equation 1.46.
    """
    y, mean, stddev = _ready(y, mean, stddev)
    return jax.scipy.stats.norm.logpdf(y, mean, stddev)


def log_likelihood_samples(y: ArrayLike, samples: ArrayLike, noise: ArrayLike) -> Array:
    r"""The log-likelihood of each target under sub-networks' predictions and Gaussian noise.

    $$\log p(y) = \text{logsumexp}_k \log \mathcal{N}(y;\, f_k, \sigma^2) - \log K.$$

    Args:
      y: targets (examples, targets), or (examples,) for one.
      samples: predictions (samples, examples, targets) or (samples, examples), of sub-networks or
        of an ensemble.
      noise: the standard deviation of the targets' noise, over 0.

    Returns:
      One number a prediction, (examples, targets) or (examples,).

    Raises:
      TypeError, ValueError: as `log_likelihood_gaussian`.

    Example:
      >>> import jax.numpy as jnp
      >>> from dropout_jax import predict
      >>> samples = jnp.array([[0.0], [2.0]])
      >>> round(float(predict.log_likelihood_samples(jnp.ones(1), samples, 1.0)[0]), 4)
      -1.4189

    Source: Gal and Ghahramani 2016, "Dropout as a Bayesian Approximation", equation 8.
    """
    samples = _check_samples(samples)
    y = aligned(check_targets(y), samples[0])
    noise = check_noise(noise, positive=True).astype(samples.dtype)
    logs = jax.scipy.stats.norm.logpdf(y[None], samples, noise)
    return jax.nn.logsumexp(logs, axis=0) - np.log(len(samples)).astype(logs.dtype)


def crps_gaussian(y: ArrayLike, mean: ArrayLike, stddev: ArrayLike) -> Array:
    r"""The continuous ranked probability score of a Gaussian, in the targets' units.

    $$\text{CRPS} = \int (F(u) - 1[u \ge y])^2 du
      = \sigma \left[ z (2 \Phi(z) - 1) + 2 \phi(z) - \pi^{-1/2} \right],
      \quad z = (y - \mu) / \sigma.$$
    For a prediction without uncertainty it is the absolute error, its limit as sigma tends to 0.

    Args:
      y, mean, stddev: as for `log_likelihood_gaussian`.

    Returns:
      One number a prediction, in the shape of the mean.

    Raises:
      TypeError, ValueError: as `log_likelihood_gaussian`.

    Example:
      >>> import jax.numpy as jnp
      >>> from dropout_jax import predict
      >>> round(float(predict.crps_gaussian(jnp.zeros(1), jnp.zeros(1), 1.0)[0]), 4)
      0.2337

    Source: Gneiting and Raftery 2007, "Strictly Proper Scoring Rules, Prediction, and
    Estimation", section 4.2 (there with the sign turned).
    """
    y, mean, stddev = _ready(y, mean, stddev)
    z, norm = (y - mean) / stddev, jax.scipy.stats.norm
    return stddev * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - float(np.pi) ** -0.5)


def crps_samples(y: ArrayLike, samples: ArrayLike) -> Array:
    r"""The CRPS of the distribution of samples, such as draws of a new target; lower is better.

    $$\text{CRPS} = \frac{1}{K} \sum_k |f_k - y| - \frac{1}{2 K (K - 1)} \sum_{j, k} |f_j - f_k|,$$
    which estimates without bias the score of the distribution that the samples are drawn from. The
    double sum is computed from the sorted samples. The predictions of sub-networks leave the
    targets' noise out: add it, `samples + noise * jax.random.normal(key, samples.shape)`.

    Args:
      y: targets (examples, targets), or (examples,) for one.
      samples: (samples, examples, targets) or (samples, examples), two samples or more.

    Returns:
      One number a prediction.

    Raises:
      TypeError, ValueError: as `log_likelihood_gaussian`; fewer than two samples.

    Example:
      >>> import jax.numpy as jnp
      >>> from dropout_jax import predict
      >>> predict.crps_samples(jnp.zeros(1), jnp.array([[-1.0], [1.0]])).tolist()
      [0.0]

    Source: Gneiting and Raftery 2007, section 4.2; Zamo and Naveau 2018, "Estimation of the
    Continuous Ranked Probability Score with Limited Information", for the factor K - 1.
    """
    samples = _check_samples(samples)
    count = len(samples)
    if count < 2:
        raise ValueError(f"samples has {count} sample; write two or more, such as 100.")
    y = aligned(check_targets(y), samples[0])
    # The sum of |f_j - f_k| over pairs: the r-th smallest is greater than r - 1 and less than K - r
    ranks = 2 * np.arange(count) - count + 1
    ranks = ranks.reshape(-1, *(1,) * (samples.ndim - 1)).astype(samples.dtype)
    pairs = jnp.sum(ranks * jnp.sort(samples, axis=0), axis=0)
    return jnp.mean(jnp.abs(samples - y[None]), axis=0) - pairs / (count * (count - 1))


def _ready(y, mean, stddev):
    mean = check_targets(mean, "mean")
    mean = mean.astype(wide_dtype(mean))
    stddev = check_noise(stddev, positive=True).astype(mean.dtype)
    return aligned(check_targets(y), mean), mean, aligned_or_number(stddev, mean)


def _check_samples(samples):
    samples = check_targets(samples, "samples")
    if samples.ndim < 2:
        raise ValueError(
            f"samples has shape {samples.shape}; write (samples, examples, targets), as mc_samples "
            "gives them with output=lambda y: y."
        )
    return samples.astype(wide_dtype(samples))
