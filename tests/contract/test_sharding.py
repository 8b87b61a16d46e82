"""Every function over eight devices: one device's values, an eighth of the work, no communication.

What would make this wrong: a mask that each device draws whole; a collective that moves activations
or masks; another mask than that of one device. Flops, temporaries and collectives a device are read
from the compiled program, forward and backward.
"""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import dropout_jax as dj
from contract.entries import ENTRIES, MATRICES

KEY = jax.random.key(0)
RATE = 0.2
COLLECTIVES = r" (all-reduce|all-gather|collective-permute|all-to-all|reduce-scatter)(?:-start)?\("
SHAPES = {2: (64, 512), 3: (16, 4, 512), 4: (16, 6, 6, 256)}
LAYOUTS = {"data": (8, 1), "feature": (1, 8), "both": (4, 2)}
KINDS = {"automatic": AxisType.Auto, "explicit": AxisType.Explicit, "shard_map": AxisType.Auto}
# Inside shard_map the layouts are one program for three block shapes: one of them is compiled.
CASES = [(kind, layout) for kind in KINDS for layout in LAYOUTS
         if kind != "shard_map" or layout == "both"]  # fmt: skip
QUICKLY = {"xla_backend_optimization_level": 0}  # of LLVM: XLA divides as ever
# The quick way of writing loops, which tests use elsewhere, computes its permutation several times.
FUSED = QUICKLY | {"xla_cpu_use_fusion_emitters": True}

# A function of (key, x) with the shape of x, divided along the first and the last axis.
ELEMENTWISE = {e.name: e for e in ENTRIES if e.shape != MATRICES["shape"]}
CALLS = {name: (e.call, SHAPES[len(e.shape)]) for name, e in ELEMENTWISE.items()}


def packed(key, x, rate):
    mask = dj.packed_mask(key, rate, x.shape, out_sharding=given(x))
    return dj.apply_mask(x, mask, rate)


def boolean(key, x, rate):
    mask = dj.bernoulli_mask(key, rate, x.shape, out_sharding=given(x))
    return dj.apply_mask(x, mask, rate)


def given(x):
    """What a user writes for a mask that no x is known for."""
    sharding = jax.typeof(x).sharding
    return sharding.spec if sharding.mesh.explicit_axes else None


def subset(key, x, rate):
    return dj.drop_path_subset(key, x, rate, lambda x: x, groups=groups_of(x))


def groups_of(x):
    """Inside shard_map a device's own, and otherwise as many as the test's mesh has rows."""
    return 1 if len(x) < SHAPES[2][0] else subset.groups


CALLS["apply_mask-packed"] = packed, SHAPES[3]
CALLS["apply_mask-boolean"] = boolean, SHAPES[3]
CALLS["drop_path_subset"] = subset, (64, 4096)
CALLS["rate of an element"] = (lambda key, x, rate: dj.dropout(key, x, jnp.abs(x) / 10)), SHAPES[2]

# A function of (key, x, kernel): rows of x and columns of the kernel are divided.
DENSE = {
    "drop_connect_dense": lambda key, x, w: dj.drop_connect_dense(key, x, w, RATE),
    "drop_connect_dense-batch": lambda key, x, w: dj.drop_connect_dense(
        key, x, w, RATE, per="batch"),
    "drop_connect_moments": lambda key, x, w: dj.drop_connect_moments(
        key, x, w, RATE, jax.nn.relu, 4),
    "variational_dense": lambda key, x, w: dj.variational_dense(key, x, w, -1.0),
    "sparse_dense": lambda key, x, w: dj.sparse_dense(key, x, w, jnp.log(w * w)),
}  # fmt: skip

# What devices share, each draws for itself: cheaper than sending it.
SHARED_DRAWS = {
    ("drop_path", "feature"),  # a draw a sample
    ("drop_path", "both"),
    ("attention_dropout-batch", "data"),  # one mask for all examples
    ("attention_dropout-batch", "both"),
    ("drop_path_subset", "feature"),  # one subset of the samples
    ("drop_path_subset", "both"),
    ("drop_connect_dense-batch", "data"),  # one kernel for all examples
    ("drop_connect_dense-batch", "both"),
}


def collectives_needed(name, kind, layout):
    """DropBlock's scale is that of the whole array: a count is summed, along each mesh axis."""
    if kind == "shard_map" or not name.startswith("drop_block"):
        return []
    return ["all-reduce"] * (2 if layout == "both" else 1)


def test_every_function_is_here():
    covered = set(DENSE) | set(CALLS)
    assert {e.name for e in ENTRIES} <= covered


def mesh_of(kind, layout):
    return jax.make_mesh(LAYOUTS[layout], ("data", "model"), axis_types=(KINDS[kind],) * 2)


@functools.cache
def arrays(name):
    """The arrays that are divided, and how."""
    if name in DENSE:
        rows, inner = (64, 96) if name == "drop_connect_dense" else (512, 16)
        x = jax.random.normal(jax.random.key(1), (rows, inner))
        w = jax.random.normal(jax.random.key(2), (inner, 512))
        return (x, w), (P("data", None), P(None, "model")), P("data", "model")
    shape = CALLS[name][1]
    spec = P("data", *(None,) * (len(shape) - 2), "model")
    return (jax.random.normal(jax.random.key(1), shape),), (spec,), spec


def program(name):
    """(key, arrays) -> outputs: the values, and where they have x's shape the gradients too."""
    if name in DENSE:
        return lambda key, x, w: [DENSE[name](key, x, w)]

    def both(key, x):
        y, pull = jax.vjp(lambda x: CALLS[name][0](key, x, RATE), x)
        return [y, *pull(y)]

    return both


@functools.cache
def on_one_device(name, groups):
    subset.groups = groups
    compiled = jax.jit(program(name)).lower(KEY, *arrays(name)[0]).compile(options(name))
    return compiled, compiled(KEY, *arrays(name)[0])


def divided(name, kind, layout):
    """The program for eight devices, and its outputs."""
    mesh, (given, specs, out) = mesh_of(kind, layout), arrays(name)
    subset.groups = mesh.shape["data"]
    f = program(name)
    if kind == "shard_map":
        f = functools.partial(jax.shard_map, mesh=mesh, in_specs=(P(), *specs), out_specs=out)(
            lambda key, *a: program(name)(jax.random.fold_in(key, place()), *a)
        )
    with jax.set_mesh(mesh):
        placed = [jax.device_put(a, s) for a, s in zip(given, specs, strict=True)]
        outputs = {} if kind == "explicit" else {"out_shardings": NamedSharding(mesh, out)}
        compiled = jax.jit(f, **outputs).lower(KEY, *placed).compile(options(name))
        return compiled, compiled(KEY, *placed)


def options(name):
    return FUSED if name == "drop_path_subset" else QUICKLY


def place():
    return jax.lax.axis_index("data") * 8 + jax.lax.axis_index("model")


def by_blocks(name, layout):
    """What shard_map should give: each block by the key of its place, on one device."""
    rows, columns = LAYOUTS[layout]
    subset.groups = 1
    f = None

    def block(i, j):
        nonlocal f
        cut = [split(a, spec, i, j) for a, spec in zip(*arrays(name)[:2], strict=True)]
        f = f or jax.jit(program(name)).lower(KEY, *cut).compile(QUICKLY)
        return f(jax.random.fold_in(KEY, i * 8 + j), *cut)

    def split(a, spec, i, j):
        for axis, part in enumerate(spec):
            if part:
                count, index = (rows, i) if part == "data" else (columns, j)
                a = np.split(a, count, axis)[index]
        return a

    grid = [[block(i, j) for j in range(columns)] for i in range(rows)]
    join = lambda k: np.concatenate(  # noqa: E731
        [np.concatenate([b[k] for b in row], axis=-1) for row in grid]
    )
    return [join(k) for k in range(len(grid[0][0]))]


def cost(compiled):
    return (
        compiled.cost_analysis()["flops"],
        compiled.memory_analysis().temp_size_in_bytes,
        re.findall(COLLECTIVES, compiled.as_text()),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "layout"), CASES)
@pytest.mark.parametrize("name", [*CALLS, *DENSE])
def test_eight_devices_do_the_work_of_one(name, kind, layout):
    compiled, outputs = divided(name, kind, layout)
    groups = LAYOUTS[layout][0] if name == "drop_path_subset" else 1  # else one program is enough
    alone, expected = on_one_device(name, groups)
    if kind == "shard_map":
        expected = by_blocks(name, layout)
    # Sums of 96 products in another order; all else is equal bit for bit.
    rounding = 96 * 2**-24 if name in DENSE else 0
    for ours, theirs in zip(outputs, expected, strict=True):
        assert ours.sharding.is_equivalent_to(
            NamedSharding(mesh_of(kind, layout), arrays(name)[2]), ours.ndim
        )
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=rounding, atol=rounding * scale)
    flops, temporaries, collectives = cost(compiled)
    assert collectives == collectives_needed(name, kind, layout)
    flops_alone, temporaries_alone, _ = cost(alone)
    shared = (name, layout) in SHARED_DRAWS
    assert flops <= (3 if shared else 1.3) / 8 * flops_alone + 100
    assert temporaries <= (8 if shared else 1.3) / 8 * temporaries_alone + 8192


@pytest.mark.slow
@pytest.mark.parametrize("per", ["head", "batch"])
def test_attention_in_blocks_is_divided_by_examples_and_heads(per):
    def program(x):
        def attend(q, k, v):
            return dj.dot_product_attention(
                KEY, q, k, v, RATE, is_causal=True, per=per, block=64)  # fmt: skip

        y, pull = jax.vjp(attend, x, 2 * x, x)
        return [y, *pull(y)]

    x, spec = jax.random.normal(jax.random.key(1), (8, 256, 8, 16)), P("data", None, "model", None)
    alone = jax.jit(program).lower(x).compile(QUICKLY)
    expected, (flops, temporaries, _) = alone(x), cost(alone)
    for kind in ("automatic", "explicit"):
        mesh = mesh_of(kind, "both")
        options = {} if kind == "explicit" else {"out_shardings": NamedSharding(mesh, spec)}
        with jax.set_mesh(mesh):
            placed = jax.device_put(x, spec)
            compiled = jax.jit(program, **options).lower(placed).compile(QUICKLY)
            found = compiled(placed)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.sharding.is_equivalent_to(NamedSharding(mesh, spec), 4)
            np.testing.assert_array_equal(ours, theirs)
        each = cost(compiled)
        assert each[0] <= 1.1 / 8 * flops and each[1] <= 1.2 / 8 * temporaries and each[2] == []


def test_the_search_for_communication_finds_it():
    mesh = mesh_of("automatic", "data")
    x = jax.ShapeDtypeStruct((64, 512), jnp.float32, sharding=NamedSharding(mesh, P("data")))
    compiled = jax.jit(lambda x: (x - x.sum(0, keepdims=True), x.max())).lower(x).compile()
    assert "all-reduce" in cost(compiled)[2]


def eight_layers(key, x):
    """The gradient of eight layers of noise, of which the backward pass keeps the masks."""

    def loss(x):
        for layer in range(8):
            x = dj.dropout(jax.random.fold_in(key, layer), jnp.sin(x), RATE)
        return x.sum()

    return jax.grad(loss)(x)


def costs_on_64_devices():
    """Printed by a process with 64 devices: flops and temporaries, on one and on each of 64."""
    mesh = jax.make_mesh((8, 8), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    subset.groups = 8

    def measured(f, given, specs):
        alone = jax.jit(f).lower(KEY, *given).compile(QUICKLY)
        with jax.set_mesh(mesh):
            placed = [
                jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=NamedSharding(mesh, spec))
                for a, spec in zip(given, specs, strict=True)
            ]
            return cost(alone), cost(jax.jit(f).lower(KEY, *placed).compile(QUICKLY))

    def larger(a, times):
        return jax.ShapeDtypeStruct((a.shape[0] * times, *a.shape[1:]), a.dtype)

    found = {}
    for name in [*CALLS, *DENSE]:
        given, specs, _ = arrays(name)
        given = (larger(given[0], 8), *given[1:])
        found[name] = measured(program(name), given, specs)
    x = jax.ShapeDtypeStruct((64 * 64, 8192), jnp.float32)  # 2 MiB a device
    found["eight layers"] = measured(eight_layers, [x], [P(("data", "model"), None)])
    print(json.dumps(found))


@pytest.mark.slow
def test_the_cost_of_a_device_falls_with_the_number_of_devices():
    script = "from contract.test_sharding import costs_on_64_devices as f; f()"
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=64")
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": f".{os.pathsep}tests"},
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    for name, (alone, each) in found.items():
        shared = (name, "both") in SHARED_DRAWS
        assert each[0] <= (8 if shared else 1.5) / 64 * alone[0] + 100, (name, alone, each)
        assert each[1] <= (64 if shared else 1.5) / 64 * alone[1] + 8192, (name, alone, each)
        assert each[2] == collectives_needed(name, "explicit", "both"), name
    flops, temporaries, _ = found["eight layers"][1]
    assert flops <= 1.3e8 and temporaries <= 3 * 2**20  # and 5.7e9 and 160 MiB with whole masks


# What is particular to explicit axes


@pytest.fixture
def explicit():
    """A mesh of eight rows of devices, as the surrounding context."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        yield mesh


@pytest.mark.parametrize(
    ("shape", "spec", "words"),
    [
        ((64, 96), P("data"), P("data", None)),
        ((3, 512), P(None, "data"), P(None, "data")),
        ((3, 96), P(None, "data"), P(None, None)),  # words of 32 would be cut
        ((16, 10, 3), P("data", None, None), P("data", None)),
        ((), P(), P(None)),
    ],
)
def test_a_mask_is_divided_as_it_is_told(shape, spec, words, explicit):
    packed = dj.packed_mask(KEY, RATE, shape, out_sharding=spec)
    assert packed.words.sharding.spec == words
    mask = dj.bernoulli_mask(KEY, RATE, shape, out_sharding=spec)
    assert mask.sharding.is_equivalent_to(NamedSharding(explicit, spec), len(shape))
    rates = jax.device_put(jnp.full(shape, RATE), spec)
    for ours in (packed.unpack(), mask, dj.bernoulli_mask(KEY, rates, shape)):
        np.testing.assert_array_equal(ours, dj.bernoulli_mask(KEY, RATE, shape))


def test_where_a_mask_cannot_be_divided(explicit):
    with pytest.raises(TypeError, match="out_sharding is 'data'; write a PartitionSpec"):
        dj.bernoulli_mask(KEY, RATE, (8, 4), out_sharding="data")
    with pytest.raises(ValueError, match="more axes than shape"):
        dj.packed_mask(KEY, RATE, (8,), out_sharding=P(None, "data"))
    automatic = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    with jax.set_mesh(automatic), pytest.raises(ValueError, match="leave out_sharding out"):
        dj.bernoulli_mask(KEY, RATE, (8, 4), out_sharding=P("data"))


def test_a_product_over_what_is_divided_is_summed(explicit):
    """Rows of the kernel and features of x divided alike, as in a row-parallel layer."""
    x, w = jnp.ones((4, 64)), jax.random.normal(jax.random.key(1), (64, 3))
    placed = jax.device_put(x, P(None, "data")), jax.device_put(w, P("data", None))
    for name, f in DENSE.items():
        ours = f(KEY, *placed)
        assert ours.sharding.spec == P(None, None), name
        np.testing.assert_allclose(ours, f(KEY, x, w), atol=64 * 2**-24 * 20)


def test_each_device_computes_a_subset_of_its_own_samples(explicit):
    x = jax.device_put(jnp.zeros((64, 3)), P("data", None))
    y = dj.drop_path_subset(KEY, x, 0.75, lambda x: x + 1)
    assert y.sharding.spec == P("data", None)
    of_device = np.asarray(y).reshape(8, 8, 3)[:, :, 0]
    assert sorted(np.unique(of_device)) == [0, 4] and (of_device.sum(1) == 8).all()
    with pytest.raises(ValueError, match="groups is 5, for a batch of 64; write a whole number"):
        dj.drop_path_subset(KEY, x, 0.75, lambda x: x, groups=5)


def test_keys_of_examples_are_divided_as_the_examples_are(explicit):
    x = jax.device_put(jnp.ones((64, 96)), P("data", None))
    ids = jax.device_put(jnp.arange(64), P("data"))

    @jax.jit
    def noisy(x, ids):
        return jax.vmap(dj.dropout, (0, 0, None))(dj.per_example_keys(KEY, ids), x, RATE)

    assert noisy(x, ids).sharding.spec == P("data", None)
    assert cost(noisy.lower(x, ids).compile())[2] == []
    np.testing.assert_array_equal(noisy(x, ids), noisy(jnp.ones((64, 96)), jnp.arange(64)))
