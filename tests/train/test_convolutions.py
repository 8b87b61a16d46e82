"""Convolutions are rewritten to channels last, in every place of a program, and stay what they are.

What would make this wrong: an axis in another's place, a convolution that is overlooked in a branch
or a loop, a gradient that is another one, a slow path that comes back.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax

from dropout_jax import train
from dropout_jax.train.convolutions import _jaxprs, fast_convolutions

LAYOUTS = [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("CHWN", "IHWO", "HWNC")]
KINDS = {
    "plain": {},
    "strided": {"window_strides": (2, 1)},
    "dilated": {"rhs_dilation": (2, 1)},
    "transposed": {"lhs_dilation": (1, 2)},
    "grouped": {"feature_group_count": 2},
    "depthwise": {"feature_group_count": 4},
    "padded": {"padding": [(2, 0), (1, 1)]},
}


def conv(x, kernel, layout, **kind):
    options = {"window_strides": (1, 1), "padding": [(0, 0), (0, 0)]} | kind
    return lax.conv_general_dilated(x, kernel, dimension_numbers=layout, **options)


def inputs(layout, groups=1):
    sizes = dict(zip("NHWC", (3, 7, 6, 4), strict=True))
    kernel = dict(zip("HWIO", (3, 2, 4 // groups, 8), strict=True))
    shapes = [sizes[a] for a in layout[0]], [kernel[a] for a in layout[1]]
    return [jax.random.normal(jax.random.key(i), s) for i, s in enumerate(shapes)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS, ids="-".join)
def test_values_and_gradients_are_the_same(layout, kind):
    def loss(x, kernel):
        return jnp.sum(conv(x, kernel, layout, **KINDS[kind]) ** 2)

    given = inputs(layout, KINDS[kind].get("feature_group_count", 1))
    both = jax.value_and_grad(loss, (0, 1))
    for found, right in zip(
        jax.tree.leaves(jax.jit(fast_convolutions(both))(*given)),
        jax.tree.leaves(jax.jit(both)(*given)),
        strict=True,
    ):
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-4)


def layouts_in(jaxpr):
    """The dimension numbers of all convolutions, wherever they are."""
    for eqn in jaxpr.eqns:
        if eqn.primitive is lax.conv_general_dilated_p:
            yield eqn.params["dimension_numbers"]
        for inner in _jaxprs(tuple(eqn.params.values())):
            yield from layouts_in(inner)


def in_cond(x, k):
    return lax.cond(x[0, 0, 0, 0] > 0, one, lambda x, k: 2 * one(x, k), x, k)


def in_scan(x, k):
    return lax.scan(lambda c, _: (c + jnp.sum(one(x, k)), None), 0.0, length=2)[0]


def one(x, k):
    return conv(x, k, LAYOUTS[0])


PLACES = {
    "itself": one,
    "jit": jax.jit(one),
    "remat": jax.checkpoint(one),
    "vmap": jax.vmap(one, (None, 0)),
    "cond": in_cond,
    "scan": in_scan,
    "nested": jax.jit(jax.checkpoint(in_scan)),
}


@pytest.mark.parametrize("place", PLACES)
def test_no_convolution_is_overlooked(place):
    x, k = inputs(LAYOUTS[0])
    k = jnp.stack([k, 2 * k]) if place == "vmap" else k
    both = jax.value_and_grad(lambda x, k: jnp.sum(PLACES[place](x, k) ** 2), (0, 1))
    found = list(layouts_in(jax.make_jaxpr(fast_convolutions(both))(x, k).jaxpr))
    assert len(found) >= 3
    assert {layout.lhs_spec for layout in found} == {(0, 3, 1, 2)}
    assert {layout.rhs_spec for layout in found} == {(3, 2, 0, 1)}
    before = {layout.lhs_spec for layout in layouts_in(jax.make_jaxpr(both)(x, k).jaxpr)}
    assert before != {(0, 3, 1, 2)}  # so that the test can fail
    for a, b in zip(fast_convolutions(both)(x, k)[1], both(x, k)[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.second = nnx.Conv(16, 16, (3, 3), rngs=rngs)
        self.head = nnx.Linear(16, 2, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.second(nnx.relu(self.first(x))))
        return self.head(x.mean((1, 2)))


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="it is about XLA's CPU backend")
def test_an_epoch_of_a_convnet_is_as_fast_as_a_loop_of_steps():
    """A ratio of 17 and more without the rewriting; 4 leaves room for a busy machine."""
    loop = train.make_loop(lambda rngs, _: Net(rngs), lambda _: optax.sgd(0.1), batch_size=16)
    x, y = jnp.ones((128, 16, 16, 1)), jnp.arange(128) % 2
    state = loop.init(jax.random.key(0), {}, {"train": (x, y)})
    step = jax.jit(train.make_step(optax.sgd(0.1), train.cross_entropy))
    epoch = jax.jit(loop.epoch)

    def steps(state):
        for _ in range(8):
            state, _ = step(state, x[:16], y[:16])
        return state

    def best_time(f):
        times = []
        jax.block_until_ready(f())
        for _ in range(5):
            start = time.perf_counter()
            jax.block_until_ready(f())
            times.append(time.perf_counter() - start)
        return min(times)

    scanned = best_time(lambda: epoch(state, {"train": (x, y)})[0].params)
    assert scanned < 4 * best_time(lambda: steps(state).params)
