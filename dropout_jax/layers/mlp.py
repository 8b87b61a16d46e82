"""A multilayer perceptron (MLP) with dropout on its input and hidden layers."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any, TypeAlias

import jax
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from dropout_jax._checks import check_floating
from dropout_jax._sharding import product_options
from dropout_jax.layers.base import check_rngs
from dropout_jax.layers.dropout import Dropout
from dropout_jax.layers.named import by_name, from_name
from dropout_jax.layers.scheduled import ScheduledDropout
from dropout_jax.typing import Array, Key, Rate

SiteRate: TypeAlias = Rate | Callable[[Any], Any]
"""The rate before one layer: a number, or a schedule of it."""
_HE_NORMAL = nnx.initializers.he_normal()


class MLP(nnx.Module):
    r"""A multilayer perceptron with dropout on its input and hidden layers, never on its output.

    $$h_0 = x, \qquad h_l = f(W_l^\top d_l(h_{l-1}) + b_l), \qquad
      \text{logits} = W_L^\top d_L(h_{L-1}) + b_L,$$
    where every d_l is a `Dropout` with a rate and a random stream of its own. It can be made inside
    `jit` and `vmap`, with traced rates, and through `nnx.eval_shape`.

    Attributes:
      linears: L `nnx.Linear` layers.
      dropouts: L `Dropout` layers; index i comes before `linears[i]`.

    Args:
      sizes: the number of units of each layer, input and output included: L + 1 of them.
      rates: L rates, one a site: the input's, then each hidden layer's; or one number, the rate of
        every hidden layer, with none on the input. A schedule of `dropout_jax.rates` is a rate too.
      activation: f.
      kernel_init: the initialiser of the weights; biases start at 0.
      rngs: `nnx.Rngs`; its streams "params" and "dropout", or the default one.

    Raises:
      TypeError: a rate that is not a number, an activation that is not a function, sizes that are
        not a sequence; `rngs` of another type.
      ValueError: fewer than two sizes, or one that is not a positive integer; the wrong number of
        rates, or a concrete one outside [0, 1].

    Example:
      >>> from dropout_jax.layers import MLP
      >>> from flax import nnx
      >>> import jax.numpy as jnp
      >>> model = MLP((784, 128, 64, 10), rates=(0, 0.5, 0.5), rngs=nnx.Rngs(0))
      >>> model(jnp.ones((32, 784))).shape
      (32, 10)

    Source: Srivastava et al. 2014, section 4 (the model) and appendix B.1 (its use on MNIST).
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rates: SiteRate | Sequence[SiteRate],
        activation: Callable[[Array], Array] = nnx.relu,
        kernel_init: nnx.Initializer = _HE_NORMAL,
        rngs: nnx.Rngs,
    ):
        check_rngs(rngs)
        sizes = _check_sizes(sizes)
        rates = _rate_of_each_site(rates, len(sizes) - 1)
        self.linears = nnx.List(
            nnx.Linear(n_in, n_out, kernel_init=kernel_init, rngs=rngs)
            for n_in, n_out in itertools.pairwise(sizes)
        )
        self.dropouts = nnx.List(
            ScheduledDropout(rate, rngs=rngs) if callable(rate) else Dropout(rate, rngs=rngs)
            for rate in rates
        )
        self.activation = _check_activation(activation)

    def __call__(
        self,
        x: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | Key | None = None,
    ) -> Array:
        """The logits.

        Args:
          x: (..., sizes[0]), floating-point.
          deterministic, rngs: as for `Dropout`; one key serves all sites, each with its own masks.

        Returns:
          (..., sizes[-1]).

        Raises:
          TypeError: x does not hold floating-point numbers.
          ValueError: its last axis is not sizes[0]; else as `Dropout`.
        """
        x, inputs = check_floating(x), self.linears[0].in_features
        if x.shape[-1:] != (inputs,):
            raise ValueError(
                f"x has shape {x.shape} and the model takes (..., {inputs}); to flatten examples "
                "write x.reshape(len(x), -1)."
            )
        if isinstance(rngs, jax.Array):
            rngs = nnx.Rngs(rngs)  # a stream, so that no two sites share a key
        for site, (linear, drop) in enumerate(zip(self.linears, self.dropouts, strict=True)):
            if site:
                x = self.activation(x)
            x = drop(x, deterministic=deterministic, rngs=rngs)
            # A layer that a user put in the place of one may have no such argument.
            is_linear = isinstance(linear, nnx.Linear)
            x = linear(x, **(product_options(x, linear.kernel[...]) if is_linear else {}))
        return x

    def __getstate__(self):
        return super().__getstate__() | {"activation": by_name(self.activation)}

    def __setstate__(self, state):
        super().__setstate__(state | {"activation": from_name(state["activation"])})


def _check_activation(activation: Callable[[Array], Array]) -> Callable[[Array], Array]:
    if not callable(activation):
        raise TypeError(
            f"activation is {activation!r}; write a function, such as nnx.relu or nnx.gelu."
        )
    return activation


def _check_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(sizes, Iterable) or isinstance(sizes, str):
        raise TypeError(
            f"sizes is {sizes!r}; write the size of every layer, input and output included, such "
            "as (784, 128, 10)."
        )
    sizes = tuple(sizes)
    if len(sizes) < 2:
        raise ValueError(
            f"sizes is {sizes}; write an input and an output size at least, such as (784, 128, 10)."
        )
    for size in sizes:
        if not isinstance(size, Integral) or size < 1:
            raise ValueError(f"sizes has {size!r}; write integers over 0, such as (784, 128, 10).")
    return sizes


def _rate_of_each_site(rates: SiteRate | Sequence[SiteRate], sites: int) -> tuple[SiteRate, ...]:
    if isinstance(rates, (np.ndarray, jax.Array)) and rates.ndim:
        rates = tuple(rates)
    if not isinstance(rates, Sequence):
        return (0.0,) + (rates,) * (sites - 1)
    if len(rates) != sites:
        raise ValueError(
            f"rates has {len(rates)} and {sites} are needed, the input's first and then one for "
            f"each hidden layer; write rates={(0,) + (0.5,) * (sites - 1)}, or rates=0.5 for every "
            "hidden layer and none on the input."
        )
    return tuple(rates)
