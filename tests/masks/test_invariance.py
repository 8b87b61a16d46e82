"""A mask is a function of (key, rate, shape): not of jit, vmap, batching, devices or sharding."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import dropout_jax as dj
from dropout_jax.train import metrics

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
SHAPE = (256, 1024)
RATES = [0.5, 0.2, jnp.float32(0.2)]
COLLECTIVES = "all-reduce|all-gather|collective-permute|all-to-all|reduce-scatter"

rates = pytest.mark.parametrize("rate", RATES, ids=["0.5", "0.2", "traced"])
residuals = pytest.mark.parametrize("residual", ["packed", "key"])


def equal(a, b):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def mesh_of(rows, columns=1):
    needed = rows * columns
    if len(jax.devices("cpu")) < needed:
        pytest.skip(f"needs {needed} devices: XLA_FLAGS=--xla_force_host_platform_device_count=8")
    devices = np.array(jax.devices("cpu")[:needed]).reshape(rows, columns)
    return Mesh(devices, ("data", "model"))


# Transformations


@pytest.mark.parametrize("rate", [*RATES, jnp.full(64, 0.2)], ids=["0.5", "0.2", "traced", "array"])
def test_a_program_exported_without_the_batch_size_draws_the_same_mask(rate):
    batch = jax.export.symbolic_shape("batch, 8, 64")
    step = jax.jit(jax.grad(lambda x: jnp.sum(dj.dropout(KEY, x, rate, broadcast_dims=(1,)) ** 2)))
    exported = jax.export.export(step)(jax.ShapeDtypeStruct(batch, jnp.float32))
    for cases in (1, 5, 32):
        x = jnp.ones((cases, 8, 64))
        equal(exported.call(x), step(x))


@pytest.mark.parametrize("unknown", ["b, t, 64", "b, h, w, 3"])
@rates
def test_a_program_exported_without_several_sizes_draws_the_same_mask(rate, unknown):
    shape = jax.export.symbolic_shape(unknown)
    step = jax.jit(lambda x: dj.dropout(KEY, x, rate))
    exported = jax.export.export(step)(jax.ShapeDtypeStruct(shape, jnp.float32))
    for sides in (2, 5):
        x = jnp.ones((sides,) * (len(shape) - 1) + (shape[-1],))
        equal(exported.call(x), step(x))


@pytest.mark.parametrize("shape", [(), (33,), (3, 5, 7), (64, 128)])
@rates
def test_jit(rate, shape):
    mask = dj.bernoulli_mask(KEY, rate, shape)
    with jax.disable_jit():
        equal(dj.bernoulli_mask(KEY, rate, shape), mask)
    equal(jax.jit(lambda key, r: dj.bernoulli_mask(key, r, shape))(KEY, rate), mask)


@pytest.mark.parametrize("shape", [(), (33,), (3, 5, 7)])
@rates
def test_vmap_is_a_loop(rate, shape):
    keys = jax.random.split(KEY, 5)
    loop = np.stack([dj.bernoulli_mask(key, rate, shape) for key in keys])
    equal(jax.vmap(lambda key: dj.bernoulli_mask(key, rate, shape))(keys), loop)
    equal(jax.jit(jax.vmap(lambda key: dj.bernoulli_mask(key, rate, shape)))(keys), loop)
    equal(jax.lax.map(lambda key: dj.bernoulli_mask(key, rate, shape), keys), loop)


# Batches


@rates
def test_per_example_masks_do_not_depend_on_the_batch(rate):
    ids, order = jnp.arange(24) * 7, np.random.default_rng(0).permutation(24)

    @jax.jit
    def masks(ids):
        keys = dj.per_example_keys(dj.site_key(KEY, "hidden"), ids)
        return jax.vmap(lambda key: dj.bernoulli_mask(key, rate, (3, 50)))(keys)

    whole = np.asarray(masks(ids))
    equal(masks(ids[order]), whole[order])
    for size in (1, 8):
        parts = [masks(ids[start : start + size]) for start in range(0, 24, size)]
        equal(np.concatenate(parts), whole)
    assert len(np.unique(whole.reshape(24, -1), axis=0)) == 24


def test_gradients_accumulated_over_micro_batches_are_those_of_the_batch(x64):
    x = jax.random.normal(jax.random.key(1), (24, 20), jnp.float64)
    w = jax.random.normal(jax.random.key(2), (20,), jnp.float64)

    def gradient(ids):
        keys = dj.per_example_keys(KEY, ids)

        def loss(w):
            noisy = jax.vmap(dj.dropout, (0, 0, None))(keys, x[ids], 0.5)
            return (jnp.tanh(noisy @ w) ** 2).sum()

        return jax.grad(loss)(w)

    parts = sum(gradient(jnp.arange(start, start + 6)) for start in range(0, 24, 6))
    np.testing.assert_allclose(parts, gradient(jnp.arange(24)), rtol=1e-12)


# Devices

SHARDINGS = {
    "batch": lambda n: (mesh_of(n), P("data", None)),
    "feature": lambda n: (mesh_of(1, n), P(None, "model")),
    "both": lambda n: (mesh_of(n // 2, 2), P("data", "model")),
}
LAYOUTS = [(name, n) for n in (1, 2, 4, 8) for name in SHARDINGS if not (name == "both" and n < 4)]


def compiled(function, sharding, rate, shape=SHAPE):
    """`function(x, rate)` compiled for an x that is sharded, with a y that is sharded alike."""
    static = not isinstance(rate, jax.Array)
    wrapped = jax.jit(
        lambda x, r: function(x, rate if static else r),
        in_shardings=(sharding, NamedSharding(sharding.mesh, P())),
        out_shardings=sharding,
    )
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    return wrapped.lower(x, jax.ShapeDtypeStruct((), jnp.float32)).compile()


def forward(x, rate, residual="packed"):
    return dj.dropout(KEY, x, rate, residual=residual)


def backward(x, rate, residual="packed"):
    return jax.vjp(lambda x: forward(x, rate, residual), x)[1](x)[0]


def spread(x, sharding):
    return jax.make_array_from_callback(x.shape, sharding, lambda index: np.asarray(x)[index])


@rates
@pytest.mark.parametrize(("name", "n"), LAYOUTS)
def test_sharded_masks_are_those_of_one_device(name, n, rate):
    mesh, spec = SHARDINGS[name](n)
    sharding = NamedSharding(mesh, spec)
    x = jax.random.normal(jax.random.key(3), SHAPE)
    put = jax.device_put(jnp.float32(rate), NamedSharding(mesh, P()))
    y = compiled(forward, sharding, rate)(spread(x, sharding), put)
    assert y.sharding.is_equivalent_to(sharding, 2)
    equal(y, forward(x, rate))


@pytest.mark.parametrize("shape", [SHAPE[1:], SHAPE], ids=["row", "array"])
@pytest.mark.parametrize(("name", "n"), LAYOUTS[-3:])
def test_masks_at_rates_that_are_sharded_with_x(name, n, shape):
    mesh, spec = SHARDINGS[name](n)
    x = jax.random.normal(jax.random.key(3), SHAPE)
    rates = jax.random.uniform(jax.random.key(4), shape)
    parts = [NamedSharding(mesh, P(*spec[-a.ndim :])) for a in (x, rates)]
    y = jax.jit(lambda x, r: forward(x, r), out_shardings=parts[0])(*map(spread, (x, rates), parts))
    equal(y, forward(x, rates))


@residuals
@rates
def test_gradients_of_a_sharded_network(rate, residual):
    """Forward and backward masks agree, under remat and automatic partitioning of both axes."""
    mesh = mesh_of(4, 2)
    x = jax.random.normal(jax.random.key(4), SHAPE)
    w = jax.random.normal(jax.random.key(5), (1024, 64))

    def loss(x, w):
        @jax.checkpoint
        def layer(x):
            return forward(jnp.sin(x), rate, residual)

        return (layer(x) * (w @ w.T)[:1]).sum()

    shardings = tuple(NamedSharding(mesh, spec) for spec in (P("data", "model"), P("model", None)))
    gradient = jax.jit(jax.grad(loss), in_shardings=shardings)
    noise = forward(jnp.ones(SHAPE), rate)
    expected = noise * jnp.cos(x) * (w @ w.T)[:1]
    # Sums of 64 products in any order, and a transcendental or two, in float32.
    bound = 64 * np.finfo(np.float32).eps * np.asarray(noise * (jnp.abs(w) @ jnp.abs(w.T))[:1])
    found = np.asarray(gradient(x, w))
    equal(found == 0, np.asarray(noise) == 0)
    assert (np.abs(found - expected) <= bound).all()


@residuals
@pytest.mark.parametrize("function", [forward, backward])
@rates
def test_a_sharded_batch_needs_no_communication_and_divides_the_work(rate, function, residual):
    mesh, spec = SHARDINGS["batch"](8)
    sharding = NamedSharding(mesh, spec)
    program = compiled(lambda x, r: function(x, r, residual), sharding, rate).as_text()
    assert not re.findall(COLLECTIVES, program)
    shapes = {tuple(map(int, dims.split(","))) for dims in re.findall(r"u32\[([\d,]+)\]", program)}
    assert (32, 32) in shapes  # 256 rows / 8 devices, 1024 / 32 words
    assert max(shape[0] for shape in shapes) <= 32  # and nothing of the whole batch


def test_the_search_for_communication_finds_it():
    sharding = NamedSharding(mesh_of(8), P("data", None))
    program = compiled(lambda x, r: x - x.sum(0, keepdims=True), sharding, 0.5).as_text()
    assert re.findall(COLLECTIVES, program)


@pytest.mark.parametrize("shape", [(64, 10), (8, 7, 9), (8, 28, 28, 3)])
@rates
def test_shapes_that_pad_their_words_divide_along_the_batch_too(rate, shape):
    sharding = NamedSharding(mesh_of(8), P("data", *(None,) * (len(shape) - 1)))
    program = compiled(forward, sharding, rate, shape)
    assert not re.findall(COLLECTIVES, program.as_text())
    x = jax.random.normal(jax.random.key(6), shape)
    put = jax.device_put(jnp.float32(rate), NamedSharding(sharding.mesh, P()))
    equal(program(spread(x, sharding), put), forward(x, rate))


@residuals
@rates
def test_shardings_in_types(rate, residual):
    mesh_of(8)
    devices = jax.devices("cpu")[:8]
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,), devices=devices)
    x = jax.random.normal(jax.random.key(7), SHAPE)
    with jax.set_mesh(mesh):
        y = jax.jit(lambda x: forward(x, rate, residual))(jax.device_put(x, P("data", None)))
        dx = jax.jit(lambda x: backward(x, rate, residual))(jax.device_put(x, P("data", None)))
    assert y.sharding.spec == dx.sharding.spec == P("data", None)
    equal(y, forward(x, rate))
    equal(dx, backward(x, rate))


EXPLICIT = {
    "multi_sample": lambda x, model: x * dj.losses.multi_sample(
        3, features=lambda model, x: x, head=lambda model, x: model(x))(
            model, x, jnp.zeros(64, int)),
    "mc_predict": lambda x, model: dj.mc_predict(KEY, model, x, samples=2).mean,
    "geometric_mean_predict": lambda x, model: dj.geometric_mean_predict(
        KEY, model, x, samples=2),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPLICIT)
def test_what_else_takes_shardings_in_types(name):
    mesh_of(8)
    mesh = jax.make_mesh(
        (8,), ("data",), axis_types=(AxisType.Explicit,), devices=jax.devices("cpu")[:8]
    )
    x = jax.random.normal(jax.random.key(7), (64, 96))
    model = dj.layers.MLP((96, 32, 3), rates=0.5, rngs=nnx.Rngs(0))
    expected = EXPLICIT[name](x, model)
    with jax.set_mesh(mesh):
        model = dj.layers.MLP((96, 32, 3), rates=0.5, rngs=nnx.Rngs(0))
        y = EXPLICIT[name](jax.device_put(x, P("data", None)), model)
    assert y.sharding.spec == P("data", None)
    # Matrix products of 96 terms are summed in another order: within 96 roundings of 2^-24.
    np.testing.assert_allclose(y, expected, rtol=96 * 2**-24)


def test_fit_inside_a_mesh_is_fit():
    x, y = jax.random.normal(jax.random.key(7), (40, 8)), jnp.arange(40) % 2

    def losses():
        model = dj.layers.MLP((8, 16, 2), rates=0.5, rngs=nnx.Rngs(0))
        history = dj.fit(
            model, optax.sgd(0.1), x, y, key=KEY, epochs=1, batch_size=5, progress=False
        )
        return history["loss"]

    mesh_of(1)
    with jax.set_mesh(jax.make_mesh((1,), ("data",), devices=jax.devices("cpu")[:1])):
        inside = losses()
    np.testing.assert_allclose(inside, losses(), rtol=1e-6)


def fitted(x, y, **options):
    """The losses of a short run, and the metrics of the network that it leaves."""
    model = dj.layers.MLP((8, 16, 2), rates=0.5, rngs=nnx.Rngs(0))
    history = dj.fit(
        model, optax.sgd(0.1), x, y, key=KEY, epochs=2, batch_size=16, progress=False,
        validation_data=(x, y), **options,
    )  # fmt: skip
    return [*history["loss"], *history["val_loss"], *dj.evaluate(model, x, y).values()]


SPREAD = {
    "plain": (AxisType.Explicit, 2500, {}),
    "in chunks": (AxisType.Explicit, 20, {}),
    "automatic": (AxisType.Auto, 20, {}),
    "r_drop": (AxisType.Explicit, 2500, {"loss": dj.losses.r_drop(1.0)}),
    "thin": (AxisType.Explicit, 2500, {"thin": dj.Thin(2, block=4)}),
}


@pytest.mark.parametrize("name", [n if n == "in chunks" else pytest.param(n, marks=pytest.mark.slow)
                                  for n in SPREAD])  # fmt: skip
def test_fit_on_examples_that_are_spread_over_devices(name, monkeypatch):
    kind, chunk, options = SPREAD[name]
    mesh_of(8)
    monkeypatch.setattr(metrics, "CHUNK", chunk)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,), devices=jax.devices("cpu")[:8])
    x, y = jax.random.normal(jax.random.key(7), (72, 8)), jnp.arange(72) % 2
    spread_x, spread_y = (jax.device_put(a, NamedSharding(mesh, P("data"))) for a in (x, y))
    # 2 epochs of 4 updates: sums in another order, a few dozen roundings of 2^-24 each.
    np.testing.assert_allclose(
        fitted(spread_x, spread_y, **options), fitted(x, y, **options), rtol=1e-5
    )


def test_a_batch_that_does_not_divide_among_the_devices():
    mesh_of(8)
    mesh = jax.make_mesh(
        (8,), ("data",), axis_types=(AxisType.Explicit,), devices=jax.devices("cpu")[:8]
    )
    x, y = (jax.device_put(a, NamedSharding(mesh, P("data")))
            for a in (jnp.ones((72, 8)), jnp.zeros(72, int)))  # fmt: skip
    model = dj.layers.MLP((8, 2), rates=0.5, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="batch_size is 12, .* 8 devices; write a multiple of 8"):
        dj.fit(model, optax.sgd(0.1), x, y, key=KEY, epochs=1, batch_size=12, progress=False)


@residuals
@rates
def test_inside_shard_map_each_device_draws_by_its_own_key(rate, residual):
    mesh = mesh_of(8)
    x = jax.random.normal(jax.random.key(8), (64, 96))

    def local(x, rate):
        key = jax.random.fold_in(KEY, jax.lax.axis_index("data"))
        y, pull = jax.vjp(lambda x: dj.dropout(key, x, rate, residual=residual), x)
        return y, pull(x)[0]

    part, here = P("data", None), (rate,) if isinstance(rate, jax.Array) else ()
    mapped = jax.shard_map(
        lambda x, *r: local(x, r[0] if r else rate),
        mesh=mesh,
        in_specs=(part, *(P() for _ in here)),
        out_specs=(part, part),
    )
    y, dx = jax.jit(mapped)(x, *here)
    rows = [dj.dropout(jax.random.fold_in(KEY, i), x[8 * i : 8 * i + 8], rate) for i in range(8)]
    equal(y, np.concatenate(rows))
    equal(dx, np.concatenate(rows))


def test_inside_shard_map_with_a_rate_for_each_device():
    x, by_device = jnp.ones((64, 96)), jnp.linspace(0, 1, 8)
    local = lambda x, rate: dj.dropout(KEY, x, rate[0])  # noqa: E731
    specs = (P("data", None), P("data"))
    y = jax.shard_map(local, mesh=mesh_of(8), in_specs=specs, out_specs=specs[0])(x, by_device)
    equal(y, np.concatenate([dj.dropout(KEY, x[:8], rate) for rate in by_device]))
