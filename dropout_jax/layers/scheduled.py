"""Scheduled dropout for Flax NNX: early, late, linear or curriculum dropout as a layer."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.tree_util import Partial

from dropout_jax._checks import check_dims, check_rate
from dropout_jax.layers.base import NoiseLayer, Setting
from dropout_jax.layers.dropout import Dropout
from dropout_jax.typing import Array, Key, Rate

ScheduleNumber = Setting
"""A number of a schedule: it tells runs apart, and training does not change it."""


class ScheduledDropout(Dropout):
    r"""`Dropout` whose rate is a function of the training calls it has had.

    $$y = m \odot x / (1 - \text{rate}_t), \qquad m_i \sim \text{Bernoulli}(1 - \text{rate}_t),$$
    where t = 0, 1, ... counts the calls that are not deterministic. With one call an update, t is
    the number of updates; a layer that is called k times an update needs a schedule k times as
    long. The count, the rate and the schedule's numbers are variables of the module, so that one
    program serves all rates, and a run that resumes goes on at the rate where it stopped.

    Attributes:
      step: t, the next training call, int32.
      rate: that of the last training call, float32; before the first one, rate_0.

    Args:
      schedule: a function of t that returns a rate in [0, 1], such as `rates.early(0.1, 1000)`.
        Wrap one of your own in `jax.tree_util.Partial` if its numbers are traced.
      broadcast_dims, deterministic, rng_collection, rngs: as for `Dropout`.

    Raises:
      TypeError: a schedule that is not a function, or `rngs` of another type.
      ValueError: a rate at step 0 outside [0, 1].

    Example:
      >>> from dropout_jax import rates
      >>> from dropout_jax.layers import MLP
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> model = MLP((784, 128, 10), rates=rates.late(0.5, steps=1), rngs=nnx.Rngs(0))
      >>> for _ in range(2):
      ...     logits = model(jnp.ones((32, 784)))
      ...     print(model.dropouts[1].rate)
      0.0
      0.5

    Source: Liu et al. 2023, "Dropout Reduces Underfitting"; Morerio et al. 2017, "Curriculum
    Dropout".
    """

    def __init__(
        self,
        schedule: Callable[[Array], Rate],
        *,
        broadcast_dims: Sequence[int] = (),
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ):
        if not callable(schedule):
            raise TypeError(
                f"schedule is {schedule!r}; write a function of the step, such as "
                f"rates.early(0.1, 1000), or Dropout({schedule!r}) for a rate that stays."
            )
        NoiseLayer.__init__(
            self, deterministic=deterministic, rng_collection=rng_collection, rngs=rngs
        )
        self.broadcast_dims = check_dims(broadcast_dims)
        first = jnp.asarray(schedule(jnp.zeros((), jnp.int32)), jnp.float32)
        # A variable, which every mode of nnx.jit brings back from a call; an array is not.
        self.last_rate = nnx.Variable(check_rate(first))
        schedule = schedule if isinstance(schedule, Partial) else Partial(schedule)
        numbers, self.form = jax.tree.flatten(schedule)
        # Of a known dtype and not weak, as they will be after a checkpoint.
        numbers = (jnp.asarray(number, jnp.result_type(number)) for number in numbers)
        self.numbers = nnx.List(ScheduleNumber(number) for number in numbers)
        self.step = nnx.Variable(jnp.zeros((), jnp.int32))

    @property
    def rate(self) -> Array:
        """That of the last training call."""
        return self.last_rate[...]

    def noise(self, key: Key, inputs: Array) -> Array:
        """Dropout at this step's rate; the next call has the next step's."""
        step = self.step[...]
        schedule = jax.tree.unflatten(self.form, [number[...] for number in self.numbers])
        self.last_rate[...] = jnp.asarray(schedule(step), jnp.float32)
        self.step[...] = step + 1
        return super().noise(key, inputs)
