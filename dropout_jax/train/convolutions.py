"""Convolutions in a loop on a CPU, as fast as outside of one.

XLA's CPU backend has fast kernels for convolutions with channels last. It transposes the inputs of
other ones, such as those of every backward pass, but only outside of loops: in the body of a
`lax.scan` they take a path that is 9 to 120 times slower. Here the transposes are written out.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun

from dropout_jax.typing import Array


def fast_convolutions(f: Callable) -> Callable:
    """`f`, of arrays, whose convolutions have channels last if the backend is a CPU.

    Every value is the same up to rounding. Functions that are called inside, with derivative rules
    of their own, loops and branches included, are looked through.
    """
    if jax.default_backend() != "cpu":
        return f

    def rewritten(*args):
        closed, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
        if not _any_convolution(closed.jaxpr):
            return _evaluate(closed.jaxpr, closed.consts, args, shapes)
        return _evaluate(_rewritten(closed.jaxpr), closed.consts, args, shapes)

    return rewritten


def _evaluate(jaxpr: Jaxpr, consts: list[Any], args: Any, shapes: Any) -> Any:
    out = jaxpr_as_fun(ClosedJaxpr(jaxpr, consts))(*jax.tree.leaves(args))
    return jax.tree.unflatten(jax.tree.structure(shapes), out)


def _any_convolution(jaxpr: Jaxpr) -> bool:
    def inside(value):
        return any(map(_any_convolution, _jaxprs(value)))

    return any(
        eqn.primitive is lax.conv_general_dilated_p or any(map(inside, eqn.params.values()))
        for eqn in jaxpr.eqns
    )


def _jaxprs(value: Any) -> list[Jaxpr]:
    if isinstance(value, ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, Jaxpr):
        return [value]
    return [jaxpr for one in value for jaxpr in _jaxprs(one)] if isinstance(value, tuple) else []


def _rewritten(jaxpr: Jaxpr) -> Jaxpr:
    return jaxpr.replace(eqns=list(map(_rewritten_eqn, jaxpr.eqns)))


def _rewritten_eqn(eqn: JaxprEqn) -> JaxprEqn:
    if eqn.primitive is not lax.conv_general_dilated_p:
        return eqn.replace(params={name: _within(value) for name, value in eqn.params.items()})
    call = jax.jit(lambda x, kernel: _channels_last(x, kernel, eqn.params))
    new = jax.make_jaxpr(call)(*(v.aval for v in eqn.invars)).jaxpr.eqns[0]
    return eqn.replace(primitive=new.primitive, params=new.params, effects=new.effects)


def _within(value: Any) -> Any:
    if isinstance(value, ClosedJaxpr):
        return value.replace(jaxpr=_rewritten(value.jaxpr))
    if isinstance(value, Jaxpr):
        return _rewritten(value)
    return tuple(map(_within, value)) if type(value) is tuple and _jaxprs(value) else value


def _channels_last(x: Array, kernel: Array, params: dict[str, Any]) -> Array:
    """The convolution of `params` as one of (batch, space, in) with (space, in, out)."""
    specs = params["dimension_numbers"]
    batch, features, *space = specs.lhs_spec
    x = x.transpose(batch, *space, features)
    outputs, inputs, *space = specs.rhs_spec
    kernel = kernel.transpose(*space, inputs, outputs)
    n = len(space)
    image = (0, n + 1, *range(1, n + 1))
    last = lax.ConvDimensionNumbers(image, (n + 1, n, *range(n)), image)
    y = lax.conv_general_dilated_p.bind(x, kernel, **(params | {"dimension_numbers": last}))
    batch, features, *space = specs.out_spec
    places = (batch, *space, features)
    return y.transpose([places.index(axis) for axis in range(n + 2)])
