"""Zoneout for Flax NNX: a wrapper for LSTM, GRU and other recurrent cells."""

from typing import Any

import jax
from flax import nnx

from dropout_jax._checks import check_rate
from dropout_jax.layers.base import NoiseLayer, held, value_of
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
      TypeError: a rate that is not a number; `rngs` of another type.
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

    def __init__(
        self, cell: nnx.RNNCellBase, *, rate: Rate | tuple[Rate, ...] | list[float], **options
    ):
        super().__init__(**options)
        self.cell = cell
        if isinstance(rate, (tuple, list)):
            self.rate = tuple(map(check_rate, rate))
        else:
            self.rate = held(check_rate(rate))

    @property
    def amount(self) -> Any:
        """The rate, or the rates of the states."""
        return self.rate if isinstance(self.rate, tuple) else value_of(self.rate)

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
        off = self._is_off(deterministic)
        new_carry, output = self.cell(carry, inputs)
        new, structure = jax.tree.flatten(new_carry)
        old = structure.flatten_up_to(carry)
        index = next((i for i, state in enumerate(new) if state is output), None)
        if index is None:
            index = _output_index(self.cell, carry, inputs)
        rates = self.amount if isinstance(self.amount, tuple) else (self.amount,) * len(new)
        if len(rates) != len(new):
            raise ValueError(
                f"rate has {len(rates)} numbers for {len(new)} states; write one each."
            )
        if off:
            states = [zoneout_mean(*args) for args in zip(new, old, rates, strict=True)]
        else:
            keys = jax.random.split(self._next_key(rngs), len(new))
            states = [zoneout(*args) for args in zip(keys, new, old, rates, strict=True)]
        return structure.unflatten(states), states[index]

    def initialize_carry(self, *args, **kwargs) -> Any:
        """The cell's initial states."""
        return self.cell.initialize_carry(*args, **kwargs)

    @property
    def num_feature_axes(self) -> int:
        """The cell's."""
        return self.cell.num_feature_axes


def _output_index(cell: nnx.RNNCellBase, carry: Any, inputs: Array) -> int:
    """The index of the state that a cell returns as its output, for a cell inside jit or remat.

    There the two are different objects outside of the call, and one value inside.
    """
    graphdef, variables = nnx.split(cell)

    def step(variables, carry, inputs):
        return nnx.merge(graphdef, variables, copy=True)(carry, inputs)

    jaxpr = jax.make_jaxpr(step)(variables, carry, inputs).jaxpr
    *states, output = (_origin(jaxpr, var) for var in jaxpr.outvars)
    if output not in states:
        raise ValueError(
            "the cell's output is none of its states; zone out inside of the cell, with "
            "dropout_jax.zoneout(key, new, old, rate)."
        )
    return states.index(output)


def _origin(jaxpr: Any, var: Any) -> tuple[int, ...]:
    """Where a value is computed, looked up inside of jit and remat: equal for equal values."""
    for eqn in jaxpr.eqns:
        if any(var is out for out in eqn.outvars):
            inner = eqn.params.get("jaxpr")
            inner = getattr(inner, "jaxpr", inner)
            if inner is None or len(inner.outvars) != len(eqn.outvars):
                break
            place = next(i for i, out in enumerate(eqn.outvars) if var is out)
            return id(eqn), *_origin(inner, inner.outvars[place])
    return (id(var),)
