"""The benchmark's machinery: its rows, its residual bits, and that it measures what it says."""

import itertools
import json
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import entries

from experiments.benchmark import attention, backward, family, libraries, suites, thin, transformer
from experiments.benchmark import gpt as gpt_step
from experiments.benchmark.__main__ import SUITES, Config, main, make_plan
from experiments.harness import timing
from experiments.nets import gpt, thinning
from experiments.report import benchmark, benchmark_attention, benchmark_more

PEERS = ("flax.nnx", "flax.linen", "haiku", "equinox", "keras")
TINY = suites.QUICK._replace(sizes=((2, 64),), batch=2, layers=(4, 4, 4), rounds=2, seconds=1e-5)
OTHER_ROWS = ("compiled", "fit", "gpt")  # suites with tests of their own
FUNCTIONS_ONLY = ("dropout_jax", "dropout_jax residual=key", "flax.nnx")


def library(name):
    found, missing = libraries.installed()
    if name in missing:
        pytest.skip(f"{name} is absent: {missing[name]}")
    return found[name]


def few():
    return {name: library(name) for name in FUNCTIONS_ONLY}


@pytest.mark.parametrize("name", ["dropout_jax", "dropout_jax residual=key", *PEERS])
def test_every_library_drops_at_the_rate_and_scales(name):
    key, x, rate = timing.key_of(3), jnp.ones((256, 256)), 0.25
    y = np.asarray(jax.jit(library(name).apply, static_argnums=2)(key, x, rate))
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)
    # A binomial count, at a false-alarm rate of 1e-6 shared among seven: 5.4 sigma.
    sigma = np.sqrt(rate * (1 - rate) * x.size)
    assert abs((y == 0).sum() - rate * x.size) < 5.4 * sigma
    other = np.asarray(library(name).apply(timing.key_of(4), x, rate))
    assert (other != y).any(), "the key does not reach the mask"


@pytest.mark.parametrize(
    ("name", "dtype", "bits"),
    [
        ("dropout_jax", "float32", 1),
        ("dropout_jax", "bfloat16", 1),
        ("dropout_jax residual=key", "float32", 0),
        ("dropout_jax residual=key", "bfloat16", 0),
        ("flax.nnx", "float32", 8),
        ("flax.linen", "bfloat16", 8),
        ("equinox", "float32", 8),
        ("keras", "float32", 8),
        ("haiku", "float32", 32),
        ("haiku", "bfloat16", 16),
    ],
)
def test_residual_bits_are_those_that_the_libraries_keep(name, dtype, bits):
    """8: a boolean. 16 and 32: a float mask. 0: the 64 bits of a key, over 2^18 elements."""
    measured = backward.residual_bits(library(name).apply, dtype, 0.2)
    assert bits <= measured <= bits + 64 / 2**18


def test_residual_bits_count_what_depends_on_x_too():
    def square(key, x, rate):
        return x * x

    assert backward.residual_bits(square, "float32", 0.5) == 32


def test_the_floor_is_a_multiplication_that_xla_keeps():
    x = jnp.ones((8, 128))
    signs = {float(libraries.floor(timing.key_of(i), x, 0.5)[0, 0]) for i in range(4)}
    assert signs == {1.0, -1.0}
    compiled = jax.jit(libraries.floor).lower(timing.key_of(0), x, 0.5).compile().as_text()
    assert "multiply" in compiled


@pytest.mark.parametrize(
    ("make", "drawn"), [(timing.chained, [0, 1, 2, 3, 4]), (timing.dispatched, [0, 0, 1, 1, 2])]
)
def test_a_program_applies_the_step_as_often_as_told_with_a_key_each(make, drawn):
    """In a chain no key returns; dispatched calls, which start from one array, have 64 in turn."""
    seen = []

    def step(key, carry):
        jax.debug.callback(lambda i: seen.append(int(i)), jax.random.key_data(key)[1])
        return carry + 1

    x = jnp.zeros(3)
    program = make(step, x)
    program.run(3)
    program.run(2)
    jax.effects_barrier()
    assert sorted(seen) == drawn
    assert not x.is_deleted(), "the program consumed an array that others start from"


@pytest.mark.slow
def test_on_a_gpu_calls_are_dispatched_and_a_copy_is_timed_beside_them(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    plan = make_plan(Config(quick=True))
    rows = list(suites.masks(few(), plan._replace(rounds=2, seconds=0.001)))
    dispatched = [row["library"] for row in rows if row["mode"] == "dispatched"]
    assert dispatched == ["x * c", *(n for n in FUNCTIONS_ONLY if "=" not in n), "copy"]
    assert {row["mode"] for row in rows} == {"dispatched", "single_call"}
    assert libraries.OURS_KERNEL in libraries.installed()[0]


@pytest.mark.slow
def test_a_kernel_with_a_draw_of_its_own_is_not_timed():
    other = {libraries.OURS_KERNEL: libraries.Library(lambda key, x, rate: x * 0)}
    with pytest.raises(ArithmeticError, match="numbers differ"):
        next(suites.masks(few() | other, TINY))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e-40])
def test_a_chain_that_leaves_the_normal_numbers_is_an_error(value, dtype):
    values = {"x": jnp.array([0.0, 1.0]), "labels": jnp.array([0])}
    timing.check_normal(values)
    with pytest.raises(ArithmeticError, match="normal"):
        timing.check_normal({**values, "y": np.array([1.0, value]).astype(dtype)})


class Clock:
    """Time that only the programs move."""

    def __init__(self):
        self.now = 0.0

    def program(self, cost):
        def run(count):
            self.now += cost * count

        return timing.Program(run)


def test_samples_are_seconds_an_application_and_slow_peers_sit_out_odd_rounds(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    costs = {"floor": 1e-5, "ours": 2e-5, "slow reference": 0.3, "slow": 0.4}
    samples = timing.measure(
        {name: clock.program(cost) for name, cost in costs.items()},
        rounds=20,
        seconds=0.025,
        references=("floor", "slow reference"),
    )
    for name, taken in samples.items():
        np.testing.assert_allclose(taken[np.isfinite(taken)], costs[name], rtol=1e-6)
    assert {n: int(np.isfinite(t).sum()) for n, t in samples.items()} == {
        "floor": 20, "ours": 20, "slow reference": 20, "slow": 10,
    }  # fmt: skip
    assert timing.median_and_iqr(samples["slow"] / samples["floor"])[0] == pytest.approx(4e4)


def test_median_and_iqr_leave_out_the_rounds_sat_out():
    assert timing.median_and_iqr(np.array([1, np.nan, 2, 3, np.nan, 4, 5])) == (3, 2)


def test_forward_and_backward_is_the_pullback_and_xla_keeps_the_passes_apart():
    dropout = library("dropout_jax").apply
    step = backward.forward_and_backward(lambda key, x: dropout(key, x, 0.5))
    x = jnp.full((4, 64), 3.0)
    compiled = jax.jit(step).lower(timing.key_of(5), x).compile()
    mask = dropout(timing.key_of(5), jnp.ones_like(x), 0.5)
    np.testing.assert_allclose(compiled(timing.key_of(5), x), mask * mask * x)
    apart = jax.jit(backward.forward_and_backward(lambda key, x: x * 2)).lower(timing.key_of(5), x)
    assert " conditional(" in apart.compile().as_text()


@pytest.mark.slow
def test_a_training_step_lowers_the_loss_without_dropout():
    carry = suites.mlp_carry(jax.random.key(0), 8, (16, 32, 4))
    step = jax.jit(lambda key, carry: suites.mlp_step(lambda key, x, rate: x, key, carry))

    def loss(carry):
        params, _, images, labels = carry
        h = jax.nn.relu(images @ params[0]["kernel"]) @ params[1]["kernel"]
        return -jnp.mean(jax.nn.log_softmax(h)[jnp.arange(8), labels])

    before = loss(carry)
    for i in range(5):
        carry = step(timing.key_of(i), carry)
    assert loss(carry) < before


def test_a_training_step_drops_inputs_and_hidden_units_at_the_papers_rates():
    calls = []

    def apply(key, x, rate):
        calls.append((x.shape[1], rate))
        return x

    key = jax.random.key(0)
    jax.eval_shape(lambda: suites.mlp_step(apply, key, suites.mlp_carry(key, 2, (6, 5, 4, 3))))
    assert calls == [(6, 0.2), (5, 0.5), (4, 0.5)]


ARMS = ("no dropout", "dropout_jax", "flax.nnx")
THINNED = (["thin 10/16"], ["thin 1/16", "thin 20/16", "thin 10/1"])


def test_the_arithmetic_of_a_sub_network_is_counted_by_hand():
    half = 784 * 512 + 512 * 512 + 512 * 10
    assert thin.arithmetic((784, 1024, 1024, 10)) == half / (784 * 1024 + 1024 * 1024 + 1024 * 10)


def test_the_arithmetic_of_a_thinned_gpt_is_counted_by_hand():
    size, symbols = gpt.Size(layers=2, heads=4, width=64, context=16), 10
    whole = 2 * (4 * 64 * 64 + 2 * 16 * 64 + 2 * 64 * 256) + 64 * 10
    half = 2 * (4 * 64 * 32 + 2 * 16 * 32 + 2 * 64 * 128) + 64 * 10
    assert thinning.gpt_arithmetic(symbols, size, 0.5) == half / whole


def test_the_table_of_the_thinned_gpt_has_a_line_a_net_and_rate():
    def row(library, ratio, arithmetic):
        case = {"library": library, "shape": [8, 2, 10, 320, 128], "rate": 0.5}
        ratios = {"ratio_to_floor": ratio, "ratio_to_floor_iqr": 0.5, "median_us": 2000 * ratio}
        return case | ratios | {"arithmetic": arithmetic}

    rows = [row("no dropout", 1, 1), row("dropout_jax", 1.25, 1), row("thin 10/16", 0.75, 0.5)]
    assert benchmark_more.thin_transformer(rows).splitlines()[2:] == [
        "| 2x320, 10, 128 | 8 | 0.5 | 1.25 | 0.75 | 0.50 | ≤ 0.65 | 0.50 | 2.0 | 1.5 |"
    ]


def in_group(group):
    return [family.DROPOUT, *[family.NORMAL] * group.gaussian, *group.members]


MEMBERS = [pytest.param(group, name, id=name) for group in family.GROUPS for name in group.members]


@pytest.mark.parametrize(("group", "name"), MEMBERS)
def test_members_of_the_family_keep_the_shape_and_depend_on_the_key(group, name):
    x = 1 + jnp.zeros(getattr(TINY, group.shape))
    function = jax.jit(group.members[name])
    y = function(timing.key_of(0), x)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    # One draw for all is equal to 199 others with a probability of at most 0.8 ** 199 = 5e-20.
    assert any((function(timing.key_of(i), x) != y).any() for i in range(1, 200))


def test_every_function_of_the_family_is_timed_or_has_its_reason():
    timed = {name.split()[0] for group in family.GROUPS for name in group.members}
    listed = {name for entry in entries.ENTRIES for name in entry.covers}
    masks = {"dropout", "packed_mask", "bernoulli_mask"}  # the suite masks
    assert timed | masks | set(family.NOT_TIMED) == listed


def test_the_input_of_the_family_alternates_so_that_nothing_leaves_the_loop():
    x = jnp.stack([jnp.full(4, 3.0), jnp.full(4, 5.0)])
    seen = []

    def function(key, x):
        jax.debug.callback(lambda x: seen.append(float(x[0])), x)
        return x

    family.chained(function, x).run(4)
    jax.effects_barrier()
    assert sorted(seen) == [3, 3, 5, 5]


def test_the_family_s_table_shows_members_and_no_floors():
    def row(library, dtype, floor, normal=None):
        ratios = {"ratio_to_floor": floor, "ratio_to_normal": normal}
        return {"library": library, "shape": [2, 3], "rate": 0.2, "dtype": dtype, **ratios}

    table = benchmark_more.family(
        [
            row("dropout", "float32", 1),
            row("zoneout", "float32", 1.125),
            row("zoneout", "bfloat16", 1.1),
            row("x * normal", "float32", 20, 1),
            row("gaussian_noise", "float32", 16, 0.8),
        ]
    )
    assert table.splitlines()[2:4] == [
        "| zoneout | 2x3 | 1.12 | 1.10 | – | – |",
        "| gaussian_noise | 2x3 | 16.00 | – | 0.80 | – |",
    ]
    assert "at most 1.2 times" in table


@pytest.mark.slow
def test_the_transformer_s_variants_differ_in_who_drops_and_in_nothing_else():
    x = jax.random.normal(jax.random.key(1), (2, 8, 16))
    blocks = {name: transformer.block(name, 16) for name in get_args(transformer.Variant)}
    trained = {name: block(x) for name, block in blocks.items()}
    assert all(jnp.any(trained[a] != trained[b]) for a, b in itertools.combinations(trained, 2))
    for block in blocks.values():
        block.eval()
        np.testing.assert_allclose(block(x), trained["no dropout"], rtol=1e-5, atol=1e-6)


def test_the_transformer_s_table_is_relative_to_flax():
    def row(library, floor, speedup):
        ratios = {"ratio_to_floor": floor, "ratio_to_floor_iqr": 0.5, "median_us": 2000}
        case = {"library": library, "shape": [2, 8, 16], "rate": 0.1}
        return case | ratios | {"speedup_over_flax_nnx": speedup}

    table = benchmark_more.transformer([row("flax.nnx", 2, 1), row("dropout_jax", 1, 2)])
    assert table.splitlines()[2:4] == [
        "| flax.nnx | 1.00 | 2.00 | 0.50 | 2.0 |",
        "| after `layers.replace_dropout(model)` | 0.50 | 1.00 | 0.50 | 2.0 |",
    ]
    assert "width 16" in table


@pytest.mark.slow
def test_the_variants_of_attention_differ_in_the_mask_and_in_nothing_else():
    arrays = [jax.random.normal(jax.random.key(i), (1, 40, 4, 64)) for i in range(3)]
    found = [attend(jax.random.key(1), *arrays) for attend in attention.VARIANTS.values()]
    assert all(jnp.any(a != b) for a, b in itertools.combinations(found[:3], 2))
    np.testing.assert_allclose(found[2], found[3], rtol=1e-4, atol=1e-5)  # one mask
    # The last query of a causal mask sees all.
    np.testing.assert_allclose(found[4][:, -1], found[3][:, -1], rtol=1e-4, atol=1e-5)


def test_the_table_of_attention_has_a_line_a_length():
    def row(library, length, ratio):
        ratios = {"ratio_to_floor": ratio, "ratio_to_floor_iqr": 0.5}
        ratios["median_us"] = ratio and 2000
        case = {"library": library, "shape": [1, length, 4, 64], "rate": 0.1}
        return case | ratios | {"temporaries_mib": length / 4}

    rows = [row("no dropout", 8, 1), row("dropout_jax", 8, 0.4), row("dropout_jax", 16, None)]
    lines = benchmark_attention.attention(rows).splitlines()
    assert lines[2:4] == ["| 8 | 2 | – | – | 2 | – |", "| 16 | – | – | – | 4 | – |"]
    assert lines[7:9] == ["| 8 | 1.00 (0.50), 2 | – | – | 0.40 (0.50), 2 | – |", ""]


def test_a_gpu_s_table_is_relative_to_the_copy(tmp_path):
    def row(library, rate, us, speedup=None):
        case = {"library": library, "shape": [8192, 8192], "dtype": "bfloat16", "rate": rate}
        return case | {"mode": "dispatched", "median_us": us, "speedup_over_flax_nnx": speedup}

    rows = [
        row("x * c", 0.5, 70), row("dropout_jax", 0.5, 100, 2.5), row("flax.nnx", 0.5, 250, 1.0),
        row("copy", 0.5, 80), row("x * c", 0.3, 75), row("dropout_jax", 0.3, 160, 2),
        row("flax.nnx", 0.3, 320, 1.0), row("copy", 0.3, 80),
    ]  # fmt: skip
    (tmp_path / "benchmark").mkdir()
    source = {"device": {"platform": "gpu", "kind": "H200"}, "cpu": "", "versions": {"jax": "1"}}
    content = {"suite": "masks", "provenance": source, "rows": rows}
    (tmp_path / "benchmark" / "masks_gpu.json").write_text(json.dumps(content))
    lines = benchmark.table(tmp_path).splitlines()
    assert "dispatched one behind the other, medians (H200, jax 1, [masks_gpu.json]" in lines[0]
    assert lines[4:6] == [
        "| 8192x8192 bfloat16 | 0.5 | 80 | 114 | 80 | 32 | 2.50 |",
        "| 8192x8192 bfloat16 | 0.3 | 80 | 107 | 50 | 25 | 2.00 |",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("suite", [name for name in SUITES if name not in OTHER_ROWS])
def test_a_suite_has_a_row_for_every_library_and_case(suite):
    rows = list(SUITES[suite](few(), TINY))
    floor = rows[0]["library"]
    names = [floor, *FUNCTIONS_ONLY]
    expected = {
        "masks": [(n, mode) for mode in ("chained", "single_call") for n in names if "=" not in n],
        "grad": [(n, "chained") for n in names],
        "train_step": [(n, "chained") for n in names],
        "thin": [(n, "chained") for more in THINNED for n in (*ARMS, *more)],
        "thin_transformer": [(n, "chained") for n in ("no dropout", "dropout_jax", "thin 10/16")],
        "family": [(n, "chained") for group in family.GROUPS for n in in_group(group)],
        "transformer": [(n, "chained") for n in get_args(transformer.Variant)],
        "attention": [(n, "in_turn") for n in (*attention.VARIANTS, *attention.LINEAR)],
    }[suite]
    assert [(row["library"], row["mode"]) for row in rows] == expected
    for row in rows:
        assert row["suite"] == suite
        if row["median_us"] is None:  # a length whose memory alone is measured
            assert suite == "attention" and row["shape"][1] in TINY.long_lengths
            continue
        assert row["repeats"] == TINY.rounds
        assert row["median_us"] > 0 and row["ratio_to_floor"] > 0
        if row["library"] == "x * normal":
            assert row["ratio_to_normal"] == 1
        assert (row["residual_bits"] is None) == (suite != "grad")
        if row["library"] == floor:
            assert (row["ratio_to_floor"], row["ratio_to_floor_iqr"]) == (1, 0)
        if row["library"] == "flax.nnx":
            assert row["speedup_over_flax_nnx"] == 1


@pytest.mark.slow
def test_a_small_gpt_is_timed_beside_pytorch_a_seed(monkeypatch):
    pytest.importorskip("torch", reason="torch is not installed: extra torch")
    monkeypatch.setattr(gpt_step, "CASES", gpt_step.CASES[0:4:3])
    monkeypatch.setattr(gpt_step, "RATES", (0.2,))
    theirs, ours = gpt_step.gpt_step(few(), TINY)
    assert (theirs["library"], theirs["seeds"], theirs["how"]) == ("torch", 1, "alone")
    assert (ours["library"], ours["seeds"], ours["how"]) == ("dropout_jax", 5, "in turn")
    assert theirs["ratio_to_torch"] == 1 and ours["ratio_to_torch"] > 0
    assert ours["median_ms"] > 0 and ours["repeats"] == TINY.epoch_rounds
    assert len(gpt_step.table([theirs, ours]).splitlines()) == 3


@pytest.mark.slow
def test_the_command_writes_strict_json_and_a_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suites, "QUICK", TINY)
    found = few()
    monkeypatch.setattr(libraries, "installed", lambda: (found, {"keras": "gone"}))
    main(["--quick", "--suites", "grad", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "keras is left out: gone" in printed and "x * c" in printed
    assert sorted(path.name for path in (tmp_path / "benchmark").iterdir()) == [
        "grad.json",
        "grad.png",
    ]
    content = json.loads(
        (tmp_path / "benchmark" / "grad.json").read_text(), parse_constant=pytest.fail
    )
    assert content["suite"] == "grad" and len(content["rows"]) == 4
    assert {"commit", "dirty", "versions", "device", "cpu", "utc"} <= set(content["provenance"])
    assert content["provenance"]["missing"] == {"keras": "gone"}
    assert str(tmp_path) not in (tmp_path / "benchmark" / "grad.json").read_text()


def test_sizes_are_read_and_a_bad_one_is_named():
    assert make_plan(Config(sizes=("2x3", "40x50"))).sizes == ((2, 3), (40, 50))
    with pytest.raises(ValueError, match="'1024'; write rows x columns"):
        make_plan(Config(sizes=("1024",)))
