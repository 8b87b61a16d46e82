"""Zoneout as a Flax NNX layer, around a recurrent cell."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from dropout_jax._checks import check_rate
from dropout_jax.layers.base import NoiseLayer, held
from dropout_jax.noise.zoneout import zoneout, zoneout_mean
from dropout_jax.typing import Array, Key, Rate


class Zoneout(NoiseLayer, nnx.RNNCellBase):
    r"""A recurrent cell whose states keep some of their old values at every step.

    $$h_t = d \odot h_{t-1} + (1 - d) \odot \tilde h_t, \qquad
      d_i \sim \text{Bernoulli}(\text{rate}),$$
    where $\tilde h_t$ is what the cell computed; the mean of that when deterministic. It is a cell
    itself, for `nnx.RNN` too. Its output is the state which the cell returns as its output, after
    zoneout.

    Args:
      cell: a cell of Flax, or another whose output is one of its states.
      rate: probability that a unit keeps its old value, in [0, 1]: a Python number or a traced
        scalar, for every state; or a tuple or list of numbers, one a state: (0.5, 0.05) for the
        memory and the hidden state of `nnx.LSTMCell`.
      options: `deterministic`, `rng_collection` and `rngs`, as for `Dropout`.

    Raises:
      TypeError: a rate that is no number; `rngs` of another type.
      ValueError: a concrete rate outside [0, 1].

    Example:
      >>> from dropout_jax.layers import Zoneout
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> rngs = nnx.Rngs(0)
      >>> cell = Zoneout(nnx.LSTMCell(3, 4, rngs=rngs), rate=(0.5, 0.05), rngs=rngs)
      >>> nnx.RNN(cell)(jnp.ones((2, 7, 3))).shape
      (2, 7, 4)

    Source: Krueger et al. 2017.
    """

    def __init__(self, cell: nnx.RNNCellBase, *, rate: Rate | Sequence[float], **options):
        super().__init__(**options)
        rate = tuple(rate) if isinstance(rate, list) else rate
        check_rate(rate)
        self.cell = cell
        self.rate = rate if isinstance(rate, tuple) else held(rate)

    def __call__(
        self,
        carry: Any,
        inputs: Array,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | Key | None = None,
    ) -> tuple[Any, Array]:
        """One step.

        Args:
          carry: the cell's states.
          inputs: as the cell takes them.
          deterministic, rngs: as for `Dropout`.

        Returns:
          The new states and the output.

        Raises:
          TypeError, ValueError: as `Dropout`; ValueError if the output is none of the states, or
            for a tuple of another number of rates than states.
        """
        off = self._is_off(self.rate, deterministic)
        new_carry, output = self.cell(carry, inputs)
        new, structure = jax.tree.flatten(new_carry)
        old = structure.flatten_up_to(carry)
        which = [i for i, state in enumerate(new) if state is output]
        if not which:
            raise ValueError(
                "the cell's output is none of its states; zone out inside of the cell, with "
                "dropout_jax.zoneout(key, new, old, rate)."
            )
        rates = self.rate if isinstance(self.rate, tuple) else (self.rate,) * len(new)
        if len(rates) != len(new):
            raise ValueError(
                f"rate has {len(rates)} numbers for {len(new)} states; write one each."
            )
        if off:
            states = [zoneout_mean(*args) for args in zip(new, old, rates, strict=True)]
        else:
            keys = jax.random.split(self._next_key(rngs), len(new))
            states = [zoneout(*args) for args in zip(keys, new, old, rates, strict=True)]
        return structure.unflatten(states), states[which[0]]

    def initialize_carry(self, *args, **kwargs) -> Any:
        """The cell's initial states."""
        return self.cell.initialize_carry(*args, **kwargs)

    @property
    def num_feature_axes(self) -> int:
        """The cell's."""
        return self.cell.num_feature_axes
