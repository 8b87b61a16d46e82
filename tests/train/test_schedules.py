"""Schedules and the two momentum rules against plain loops.

The numbers are small integers and powers of two, so that every result is exact in float32 and the
comparisons are of equality.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dropout_jax import schedules

SCHEDULES = {
    "inverse_time_decay": (
        schedules.inverse_time_decay(8.0, 4),
        lambda t: 8.0 / (1 + t / 4),
        (0, 4, 12, 28),
    ),
    "epoch_decay": (
        schedules.epoch_decay(8.0, 0.5, 3),
        lambda t: 8.0 * 0.5 ** (t // 3),
        (0, 1, 2, 3, 5, 6, 29, 30),
    ),
    "linear_ramp": (
        schedules.linear_ramp(0.5, 1.0, 8),
        lambda t: 0.5 + 0.5 * t / 8 if t < 8 else 1.0,
        (0, 1, 4, 7, 8, 9, 1000),
    ),
    "linear_ramp down": (
        schedules.linear_ramp(1.0, 0.5, 8),
        lambda t: 1.0 - 0.5 * t / 8 if t < 8 else 0.5,
        (0, 3, 8, 80),
    ),
}


@pytest.mark.parametrize("kind", ["python", "numpy", "traced", "many"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_formula(name, kind):
    schedule, formula, steps = SCHEDULES[name]
    expected = [formula(t) for t in steps]
    if kind == "python":
        values = [schedule(t) for t in steps]
    elif kind == "numpy":
        values = [schedule(t) for t in np.array(steps)]
    elif kind == "traced":
        values = [jax.jit(schedule)(jnp.int32(t)) for t in steps]
    else:
        values = schedule(np.array(steps))
    np.testing.assert_array_equal(np.asarray(values, np.float32), np.float32(expected))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_traced_step_does_not_retrace(name):
    schedule, _, steps = SCHEDULES[name]
    traces = []
    traced = jax.jit(lambda t: traces.append(t) or schedule(t))
    for t in steps:
        assert traced(jnp.int32(t)).dtype == jnp.float32
    assert len(traces) == 1


@pytest.mark.parametrize("wrap", [float, jnp.float32, np.float32])
def test_an_exponential_ramp_makes_all_but_1_in_e_of_the_way(wrap):
    ramp = schedules.exponential_ramp(0.5, 0.99, 1000)
    for step, left in ((0, 1), (1000, 1 / np.e), (2000, np.exp(-2)), (10**6, 0)):
        # float32 exp is good to a few units in its last place.
        np.testing.assert_allclose(ramp(wrap(step)), 0.99 - 0.49 * left, rtol=1e-6)
    falling = schedules.exponential_ramp(1.0, 0.5, 10)
    assert falling(0) == 1 and falling(10) == pytest.approx(0.5 + 0.5 / np.e)


def test_hinton_settings_end_where_the_paper_says():
    ramp = jax.jit(schedules.linear_ramp(0.5, 0.99, 500 * 600))
    assert ramp(0) == 0.5 and ramp(500 * 600) == ramp(10**6) == np.float32(0.99)
    decay = jax.jit(schedules.epoch_decay(10.0, 0.998, 600))
    assert decay(599) == 10
    # float32 powers are good to a few units in the last place of y log f.
    np.testing.assert_allclose(decay(3000 * 600), 10 * 0.998**3000, rtol=3000 * 2**-23)


GRADS = [
    np.float32([[3, -8], [5, 0]]),
    np.float32([[1, 2], [-7, 4]]),
    np.float32([[0, 6], [2, -2]]),
]
START = np.float32([[16, 0], [-4, 1]])


def trajectory(optimizer):
    """The weights after each of GRADS."""
    params = {"w": jnp.array(START)}
    state = optimizer.init(params)
    weights = []
    for g in GRADS:
        updates, state = jax.jit(optimizer.update)({"w": jnp.array(g)}, state)
        params = optax.apply_updates(params, updates)
        weights.append(params["w"])
    return np.array(weights)


def plain_loop(epsilon, m, damped):
    w, v, weights = START.astype(np.float64), 0, []
    for t, g in enumerate(GRADS):
        if damped:
            v = m(t) * v - (1 - m(t)) * epsilon(t) * g
            w = w + v
        else:
            v = m(t) * v + g
            w = w - epsilon(t) * v
        weights.append(w)
    return np.array(weights)


@pytest.mark.parametrize("damped", [False, True], ids=["deepnet", "hinton"])
def test_momentum_sgd_follows_its_schedules(damped):
    epsilon, m = schedules.epoch_decay(0.5, 0.5, 1), schedules.linear_ramp(0.25, 0.75, 2)
    found = trajectory(schedules.momentum_sgd(epsilon, m, damped=damped))
    np.testing.assert_array_equal(found, plain_loop(epsilon, m, damped))


@pytest.mark.parametrize("damped", [False, True], ids=["deepnet", "hinton"])
def test_momentum_sgd_with_numbers(damped):
    found = trajectory(schedules.momentum_sgd(0.25, 0.5, damped=damped))
    np.testing.assert_array_equal(found, plain_loop(lambda t: 0.25, lambda t: 0.5, damped))


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_constant_momentum_is_optax_sgd(momentum):
    np.testing.assert_array_equal(
        trajectory(schedules.momentum_sgd(0.25, momentum)), trajectory(optax.sgd(0.25, momentum))
    )


def test_damped_with_a_constant_rate_is_optax_sgd_at_a_smaller_rate():
    np.testing.assert_array_equal(
        trajectory(schedules.momentum_sgd(0.5, 0.75, damped=True)),
        trajectory(optax.sgd(0.5 * 0.25, 0.75)),
    )


def test_a_vmapped_sweep_of_rates_and_momenta():
    rates, momenta = jnp.array([0.5, 0.25]), jnp.array([0.0, 0.5])
    run = jax.vmap(lambda e, m: trajectory_of_arrays(schedules.momentum_sgd(e, m)))
    for e, m, found in zip(rates, momenta, run(rates, momenta), strict=True):
        expected = plain_loop(lambda t, e=e: float(e), lambda t, m=m: float(m), False)[-1]
        np.testing.assert_array_equal(found, expected)


def trajectory_of_arrays(optimizer):
    """The last weights; unlike `trajectory`, inside a transformation."""
    params = jnp.array(START)
    state = optimizer.init(params)
    for g in GRADS:
        updates, state = optimizer.update(jnp.array(g), state)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtypes_and_the_step_carry_through_scan(dtype):
    optimizer = schedules.momentum_sgd(
        schedules.inverse_time_decay(0.5, 10), schedules.linear_ramp(0.5, 0.75, 2)
    )
    params = {"w": jnp.ones((2, 3), dtype), "b": jnp.ones(3, dtype)}

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(params, state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, state), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=5)
    assert state.step == 5
    assert {leaf.dtype for leaf in jax.tree.leaves((params, state.velocity))} == {jnp.dtype(dtype)}
