"""Schedules of the rate, and dropout that follows one: each step its rate, in one trace."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.tree_util import Partial

import dropout_jax as dj
from dropout_jax import rates, train
from dropout_jax.layers.scheduled import ScheduledDropout
from dropout_jax.train import runner

# In the fast loop the contract and the doctests stand for these: they compile much.
pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
STEPS = np.array([0, 1, 3, 50, 99, 100, 101, 10**6])

# The formula of each schedule in float64, and the schedule.
SCHEDULES = {
    "linear": (lambda t: 0.2 + 0.6 * np.minimum(t / 100, 1), rates.linear(0.2, 0.8, 100)),
    "early": (lambda t: 0.5 * np.maximum(1 - t / 100, 0), rates.early(0.5, 100)),
    "late": (lambda t: 0.5 * (t >= 100), rates.late(0.5, 100)),
    # Morerio et al. 2017, in its own terms: keep falls from 1 to theta.
    "curriculum": (
        lambda t: 1 - ((1 - 0.6) * np.exp(-0.01 * t) + 0.6),
        rates.curriculum(0.4, 0.01),
    ),
}
every_schedule = pytest.mark.parametrize(("formula", "schedule"), SCHEDULES.values(), ids=SCHEDULES)


# The schedules


@every_schedule
def test_values(formula, schedule):
    expected = [formula(step) for step in STEPS]
    for found in (
        [schedule(int(step)) for step in STEPS],
        jax.jit(jax.vmap(schedule))(jnp.asarray(STEPS)),
        jax.vmap(lambda step, schedule: schedule(step), (0, None))(jnp.asarray(STEPS), schedule),
    ):
        # The rounding of half a dozen operations on numbers of order one.
        np.testing.assert_allclose(found, expected, atol=8 * 2.0**-23)
        assert np.all((np.asarray(found) >= 0) & (np.asarray(found) <= 1))
    assert schedule(3).dtype == jnp.float32


def test_early_and_late_end_exactly():
    assert [float(rates.early(0.3, 7)(step)) for step in (7, 8)] == [0.0, 0.0]
    assert [rates.late(0.3, 7)(step) for step in (6, 7)] == [0.0, np.float32(0.3)]


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_ends_of_the_range(rate):
    for schedule in (rates.linear(rate, rate, 3), rates.curriculum(rate, 100.0)):
        assert float(schedule(5)) == rate


def test_a_schedule_may_be_made_of_traced_numbers():
    def values(rate, steps):
        made = rates.early(rate, steps), rates.late(rate, steps), rates.curriculum(rate, 1 / steps)
        return jnp.stack([schedule(3) for schedule in made])

    one = values(0.5, 10.0)
    many = jax.jit(jax.vmap(values))(jnp.array([0.5, 0.25]), jnp.array([10.0, 10.0]))
    np.testing.assert_allclose(many, [one, one / 2], rtol=8 * 2.0**-23)


@pytest.mark.parametrize(
    "make",
    [lambda r: rates.linear(r, 0, 9), lambda r: rates.linear(0, r, 9), lambda r: rates.early(r, 9),
     lambda r: rates.late(r, 9), lambda r: rates.curriculum(r, 9)],
)  # fmt: skip
def test_a_rate_outside_the_range_is_an_error(make):
    for bad in (-0.5, 1.5):
        with pytest.raises(ValueError, match=f"{bad}.*between 0 and 1"):
            make(bad)


def test_errors_of_the_other_numbers():
    for bad in (0, -1, float("nan")):
        for make in (rates.early, rates.late, functools.partial(rates.linear, 0.5)):
            with pytest.raises(ValueError, match=f"steps is {bad}.*over 0"):
                make(0.5, bad)
        with pytest.raises(ValueError, match=f"gamma is {bad}.*over 0"):
            rates.curriculum(0.5, bad)


# The layer


def scheduled(schedule, seed=0, **options):
    return ScheduledDropout(schedule, rngs=nnx.Rngs(seed), **options)


@every_schedule
def test_call_t_has_the_rate_of_step_t_and_the_masks_of_dropout(formula, schedule):
    layer, stream = scheduled(schedule), scheduled(schedule).rngs
    x = jnp.arange(1.0, 65.0)
    assert layer.rate == schedule(0)
    for step in range(4):
        y = layer(x)
        assert layer.rate == schedule(step) and layer.step[...] == step + 1
        np.testing.assert_array_equal(y, dj.dropout(stream(), x, schedule(step)))


def test_one_trace_for_all_rates():
    traces = []

    def schedule(step):
        traces.append(step)
        return step / 64

    layer = scheduled(schedule)
    made = len(traces)
    graphdef, state = nnx.split(layer)

    def call(state, _):
        layer = nnx.merge(graphdef, state, copy=True)
        layer(jnp.ones(64))
        return nnx.state(layer), layer.rate

    _, found = jax.jit(lambda state: jax.lax.scan(call, state, length=64))(state)
    np.testing.assert_array_equal(found, np.arange(64, dtype=np.float32) / 64)
    assert len(traces) == made + 1


def test_deterministic_calls_do_not_advance_it():
    layer, x = scheduled(rates.late(1.0, 2)), jnp.ones(8)
    before = nnx.state(layer, nnx.RngCount)
    layer(x, deterministic=True)
    layer.eval()
    np.testing.assert_array_equal(layer(x), x)
    nnx.view(layer, deterministic=True)(x)
    assert layer.step[...] == 0
    jax.tree.map(np.testing.assert_array_equal, nnx.state(layer, nnx.RngCount), before)
    layer.train()
    assert [float(layer(x).sum()) for _ in range(3)] == [8.0, 8.0, 0.0]
    assert layer.step[...] == 3


def test_it_takes_the_arguments_of_dropout():
    layer = scheduled(rates.linear(0.5, 0.5, 1), broadcast_dims=(1,), deterministic=None)
    x = jnp.ones((64, 3))
    y = layer(x, deterministic=False, rngs=KEY)
    np.testing.assert_array_equal(y, dj.dropout(KEY, x, 0.5, broadcast_dims=(1,)))
    with pytest.raises(ValueError, match="No `deterministic` argument .* ScheduledDropout"):
        layer(x)
    assert isinstance(layer, dj.layers.Dropout)


def test_a_function_of_ones_own():
    layer = scheduled(lambda step: 0.25)
    layer(jnp.ones(3))
    assert layer.rate == 0.25
    made = jax.jit(lambda rate: nnx.state(scheduled(Partial(lambda r, step: r / 2, rate))))(0.5)
    assert made["last_rate"][...] == 0.25


@pytest.mark.parametrize("graph", [True, False])
def test_the_rate_of_the_last_call_comes_back_from_jit(graph):
    model = dj.layers.MLP((32, 16, 3), rates=rates.linear(0.0, 0.9, 3), rngs=nnx.Rngs(0))
    call = nnx.jit(lambda model, x: model(x), graph=graph)
    for _ in range(3):
        call(model, jnp.ones((4, 32)))
    layer = model.dropouts[1]
    assert (layer.rate, layer.step[...]) == (rates.linear(0.0, 0.9, 3)(2), 3)


def test_errors_of_the_layer():
    with pytest.raises(TypeError, match=r"schedule is 0\.5.*rates\.early.*Dropout\(0\.5\)"):
        scheduled(0.5)
    with pytest.raises(ValueError, match="2.0.*between 0 and 1"):
        scheduled(lambda step: 2.0)


# In a run


def build(rngs, hyper):
    model = dj.layers.MLP((8, 32, 2), rates=0, rngs=rngs)
    model.dropouts[1] = ScheduledDropout(
        rates.linear(hyper["first"], hyper["last"], hyper["steps"]), rngs=rngs
    )
    return model


def problem(n=32):
    x = jax.random.normal(jax.random.key(99), (n, 8))
    return x, ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(jnp.int32)


def raw(tree):
    def data(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return [data(leaf) for leaf in jax.tree.leaves(tree)]


SWEEP = {
    "first": jnp.array([0.0, 0.5, 0.5]),
    "last": jnp.array([0.8, 0.5, 0.0]),
    "steps": jnp.array([8.0, 8.0, 16.0]),
}


def test_a_sweep_over_schedules_is_one_program():
    builds = []

    def counted(rngs, hyper):
        builds.append(1)
        return build(rngs, hyper)

    run = train.make_train(counted, lambda hyper: optax.sgd(0.5), epochs=3, batch_size=8)
    run = jax.jit(jax.vmap(run, (None, 0, None)))
    result = run(KEY, SWEEP, {"train": problem()})
    layer = result.state.rest["dropouts"][1]
    np.testing.assert_array_equal(layer["step"][...], 12)  # 3 epochs of 4 updates
    schedules = [rates.linear(*(SWEEP[name][i] for name in SWEEP)) for i in range(3)]
    np.testing.assert_allclose(
        layer["last_rate"][...], [s(11) for s in schedules], atol=4 * 2.0**-23
    )
    assert np.all(result.losses[0] != result.losses[1])
    assert np.any(result.losses[1] != result.losses[2])
    built = len(builds)
    run(KEY, jax.tree.map(lambda value: value / 2, SWEEP), {"train": problem()})
    assert len(builds) == built


@pytest.mark.slow
def test_fit_counts_on_and_evaluation_does_not_count():
    x, y = problem()
    model = build(nnx.Rngs(0), {"first": 0.5, "last": 0.0, "steps": 12})
    fit = functools.partial(dj.fit, key=KEY, batch_size=8, progress=False, validation_data=(x, y))
    fit(model, optax.sgd(0.1), x, y, epochs=2)
    assert model.dropouts[1].step[...] == 8
    assert model.dropouts[1].rate == rates.early(0.5, 12)(7)
    fit(model, optax.sgd(0.1), x, y, epochs=1)
    assert model.dropouts[1].step[...] == 12


@pytest.mark.slow
def test_a_resumed_run_is_the_same_bitwise(tmp_path):
    data, loop = (
        {"train": problem()},
        train.make_loop(build, lambda _: optax.sgd(0.1), batch_size=8),
    )
    hyper = {"first": 0.0, "last": 0.8, "steps": 12.0}

    def complete(epochs, folder):
        return runner.run(
            loop, loop.init(KEY, hyper, data), data, epochs=epochs, checkpoint_dir=folder,
            progress=False,
        )[0]  # fmt: skip

    complete(1, tmp_path)
    resumed, straight = complete(3, tmp_path), complete(3, None)
    for ours, theirs in zip(raw(resumed), raw(straight), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert straight.rest["dropouts"][1]["step"][...] == 12


def test_a_loss_of_two_masks_is_one_call():
    model = build(nnx.Rngs(0), {"first": 0.5, "last": 0.0, "steps": 12})
    dj.losses.r_drop()(model, *problem())
    assert model.dropouts[1].step[...] == 1


def test_inference_does_not_count():
    model = build(nnx.Rngs(0), {"first": 0.5, "last": 0.0, "steps": 12})
    dj.predict.mc_predict(KEY, model, problem()[0], samples=3)
    assert model.dropouts[1].step[...] == 0
