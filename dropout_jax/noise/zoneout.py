"""Zoneout for recurrent networks; and recurrent (variational) dropout, with one mask over time.

The dropout of Gal and Ghahramani (2016b) needs no function of its own. Draw one mask before the
scan and use it at every step:

>>> import dropout_jax as dj, jax, jax.numpy as jnp
>>> def rnn(key, weights, xs, rate):  # xs: (time, batch, units)
...     state = jnp.zeros(xs.shape[1:])
...     mask = dj.packed_mask(key, rate, state.shape)
...     def cell(state, x):
...         state = jnp.tanh(x + dj.apply_mask(state, mask, rate) @ weights)
...         return state, state
...     return jax.lax.scan(cell, state, xs)[1]
>>> rnn(jax.random.key(0), jnp.eye(3), jnp.ones((7, 2, 3)), 0.5).shape
(7, 2, 3)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from dropout_jax._arrays import aligned
from dropout_jax._checks import check_broadcasts, check_floating, check_rate, is_static, wide_dtype
from dropout_jax._sharding import sharding_of, spread
from dropout_jax._xla import recomputed
from dropout_jax.masks import packed
from dropout_jax.typing import Array, Key, Rate


def zoneout(
    key: Key, new: Array, old: Array, rate: Rate, *, broadcast_dims: Sequence[int] = ()
) -> Array:
    r"""Keep each unit's previous state with probability `rate`.

    $$h_t = d \odot h_{t-1} + (1 - d) \odot \tilde h_t, \qquad
      d_i \sim \text{Bernoulli}(\text{rate}).$$
    Nothing is scaled; at inference use the mean, `zoneout_mean`.

    Args:
      key: from `jax.random.key`; a new one for every time step.
      new: the state that the cell computed, floating-point, any shape.
      old: the state before, of the same shape and dtype.
      rate: probability of keeping the old state, in [0, 1]: a Python number, a traced scalar, or an
        array that broadcasts against the draw. Not differentiated.
      broadcast_dims: axes that share one draw.

    Returns:
      An array of the states' shape and dtype.

    Raises:
      TypeError, ValueError: as `dropout`; ValueError if the states differ in shape or dtype.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> state = dj.zoneout(jax.random.key(0), jnp.ones(100), -jnp.ones(100), 0.2)
      >>> sorted(set(state.tolist()))
      [-1.0, 1.0]

    Source: Krueger et al. 2017, "Zoneout: Regularizing RNNs by Randomly Preserving Hidden
    Activations".
    """
    new, old = _check_states(new, old)
    return spread(sharding_of(new), _zoned_out, key, new, old, rate, broadcast_dims)


def _zoned_out(key, new, old, rate, broadcast_dims):
    mask = packed.packed_mask(key, rate, new.shape, broadcast_dims=broadcast_dims)
    return _select(mask, new, old)


@jax.jit
@recomputed  # keeps the packed mask
def _select(mask, new, old):
    return jnp.where(mask.unpack(), new, old)


def zoneout_mean(new: Array, old: Array, rate: Rate) -> Array:
    r"""The mean of `zoneout`, for inference.

    $$h_t = \text{rate}\; h_{t-1} + (1 - \text{rate})\,\tilde h_t.$$

    Args:
      new, old: as `zoneout`.
      rate: the rate of training, in [0, 1]: a number, or an array that broadcasts against the
        states.

    Returns:
      An array of the states' shape and dtype.

    Raises:
      TypeError: states that do not hold floating-point numbers.
      ValueError: a concrete rate outside [0, 1], or one that does not broadcast against the states;
        states that differ in shape or dtype.

    Example:
      >>> import dropout_jax as dj, jax.numpy as jnp
      >>> dj.zoneout_mean(jnp.ones(2), -jnp.ones(2), 0.25).tolist()
      [0.5, 0.5]

    Source: Krueger et al. 2017, as `zoneout`: the expectation is taken at test time.
    """
    new, old = _check_states(new, old)
    check_rate(rate)
    check_broadcasts("rate", jnp.shape(rate), new.shape)
    if is_static(rate) and rate in (0, 1):
        return old if rate else new
    wide = wide_dtype(new)
    rate = jnp.asarray(rate, jnp.finfo(wide).dtype)
    rate = aligned(rate, new.ndim)
    return (rate * old.astype(wide) + (1 - rate) * new.astype(wide)).astype(new.dtype)


def _check_states(new, old):
    new, old = check_floating(new, "new"), check_floating(old, "old")
    if new.shape != old.shape or new.dtype != old.dtype:
        raise ValueError(
            f"new is {new.dtype}{new.shape} and old {old.dtype}{old.shape}; the states of two "
            "steps have one shape and dtype: write old.astype(new.dtype)."
        )
    return new, old
