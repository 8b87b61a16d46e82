"""The experiments on the paper's tables and figures. What would make this wrong: a retention taken
for a rate, settings of another row, a choice made on the test set, a record that is not of its
config, a table that puts a number beside the wrong one."""

import base64
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from test_experiments import images
from test_tables import rows

from dropout_jax import data, losses
from dropout_jax.runs import NonFiniteLossError
from experiments import (
    architectures_figure4,
    dataset_size_figure10,
    features_figures7_8,
    gaussian_table10,
    mlp_parts,
    mlp_run,
    mnist_table2,
    monte_carlo_figure11,
    paper,
    paper_figures,
    paper_rows,
    paper_tables,
    past_the_paper,
    pylearn2_recipe,
    rate_advice,
    rate_figure9,
    record,
    regularizers_table9,
    rerun,
    study,
    trials,
)

GRIDS = [
    mnist_table2, pylearn2_recipe, regularizers_table9, gaussian_table10, rate_figure9,
    dataset_size_figure10, architectures_figure4, monte_carlo_figure11, past_the_paper,
]  # fmt: skip
NAMES = {module: module.__name__.removeprefix("experiments.") for module in GRIDS}


def by_row(module, budget="paper"):
    found = {config.row: config for config in module.grid(budget)}
    assert len(found) == len(module.grid(budget))
    return found


# The grids.


@pytest.mark.parametrize("module", GRIDS, ids=NAMES.get)
@pytest.mark.parametrize("budget", ["cpu", "paper"])
def test_a_grid_has_a_max_norm_a_layer_and_its_budget_names_its_rows(module, budget):
    found = by_row(module, budget)
    assert set(module.BUDGETS[budget].rows) <= set(found)
    for config in found.values():
        assert config.max_norm is None or len(config.max_norm) == len(config.hidden) + 1
        assert config.validation == 0
        for trial in module.tried(config):
            same = dataclasses.replace(trial, **trials.tuned(vars(config)))
            assert same == config  # a trial varies what may be tuned, and nothing else


def test_table_2_has_every_published_net_with_dropout_and_without():
    found = by_row(mnist_table2)
    theirs = {n.removeprefix("table2/") for n in paper.PUBLISHED if n.startswith("table2/dropout")}
    assert {row for row in found if row.startswith("dropout")} == theirs
    wide = found["dropout_relu_maxnorm_2x8192"]
    assert (wide.hidden, wide.rates) == ((8192, 8192), (0.2, 0.5, 0.5))
    assert wide.max_norm == (1.6, 1.0, 1.0)  # the paper's 2, times 0.8 and 0.5
    plain = found["standard_relu_maxnorm_2x8192"]
    assert (plain.rates, plain.max_norm) == ((0.0, 0.0, 0.0), (2.0, 2.0, 2.0))
    assert found["dropout_relu_3x1024"].max_norm is None
    assert found["dropout_logistic_3x1024"].activation == "logistic"
    assert mnist_table2.BUDGETS["paper"].updates == 1_000_000


def test_the_recipe_is_that_of_pylearn2():
    config, plain = pylearn2_recipe.grid("cpu")  # the row that was published comes first
    assert (config.hidden, config.rates) == ((898, 1532), (0.2, 0.5, 0.5))
    at = mlp_parts.decayed(
        config.learning_rate, config.decay, updates=config.decay_updates, to=config.decay_to,
        warm_up=0,
    )  # fmt: skip
    assert at(0) == 0.097259
    assert at(560 * 600) == pytest.approx(0.097259 * 0.022292)  # a factor, not a learning rate
    assert at(440 * 600) == pytest.approx(0.097259 * (1 - 440 / 560 * (1 - 0.022292)))
    assert (config.momentum_start, config.momentum, config.momentum_updates) == (
        0.5,
        0.699,
        418_800,
    )
    assert pylearn2_recipe.BUDGETS["cpu"].updates == 264_000
    assert plain.rates == (0, 0, 0)
    same = dict(row=config.row, rate=config.rate, input_rate=config.input_rate)
    assert dataclasses.replace(plain, **same) == config


def test_table_9_has_one_penalty_a_row():
    def penalties(c):
        return {n for n in ("l2", "l1", "kl_sparsity", "max_norm", "rate") if getattr(c, n)}

    assert {row: penalties(c) for row, c in by_row(regularizers_table9).items()} == {
        "l2": {"l2"},
        "l2_l1": {"l2", "l1"},
        "l2_kl_sparsity": {"l2", "kl_sparsity"},
        "maxnorm": {"max_norm"},
        "dropout_l2": {"l2", "rate"},
        "dropout_maxnorm": {"max_norm", "rate"},
    }


@pytest.mark.parametrize("budget", ["cpu", "paper"])
def test_what_table_9_tries_holds_the_row_s_own_setting(budget):
    for config in regularizers_table9.grid(budget):
        assert config in regularizers_table9.tried(config)


def test_l1_has_an_effect_in_the_updates_of_the_cpu_budget():
    """It moves a weight by a tenth of He's standard deviation or more; 1e-6 moved none by 1e-4."""
    config = by_row(regularizers_table9, "cpu")["l2_l1"]
    updates = regularizers_table9.BUDGETS["cpu"].updates
    at = mlp_parts.decayed(config.learning_rate, "cosine", updates=updates, to=0.0, warm_up=0)
    first = round((1 - config.l1_share) * updates)
    moved = config.l1 * float(jnp.sum(at(jnp.arange(first, updates)))) / (1 - config.momentum)
    assert moved > 0.1 * math.sqrt(2 / 1024)


@pytest.mark.parametrize("module", [architectures_figure4, gaussian_table10])
@pytest.mark.parametrize("budget", ["cpu", "paper"])
def test_one_setting_for_all_is_not_chosen(module, budget):
    found = module.grid(budget)
    assert len({config.learning_rate for config in found}) == 1
    assert all(module.tried(config) == [config] for config in found)


@pytest.mark.parametrize("budget", ["cpu", "paper"])
def test_figure_9_compares_the_same_learning_rates_times_keep(budget):
    for config in rate_figure9.grid(budget):
        tried = [c.learning_rate / (1 - config.rate) for c in rate_figure9.tried(config)]
        assert tried == pytest.approx(rate_figure9.LEARNING_RATES)
        assert config in rate_figure9.tried(config)


def test_table_10_changes_the_noise_alone():
    bernoulli, gaussian = gaussian_table10.grid("paper")
    assert dataclasses.replace(bernoulli, noise="gaussian", row=gaussian.row) == gaussian
    assert gaussian_table10.BUDGETS["cpu"].seeds == 10


def test_figure_9_is_by_rate_and_keeps_as_many_units():
    found = by_row(rate_figure9)
    assert len(found) == 20
    high = found["n_fixed_0.9"]  # the paper's p = 0.1: most units are dropped
    assert high.rates == (0.0, 0.9, 0.9, 0.9) and high.hidden == (2048,) * 3
    assert high.max_norm == (2.0, 0.2, 0.2, 0.2)
    assert found["pn_fixed_0.9"].hidden == (2560, 2560, 5120)
    assert found["pn_fixed_0.5"].hidden == (512, 512, 1024)
    assert found["pn_fixed_0"].hidden == (256, 256, 512)


def test_figures_4_and_10_pair_their_arms():
    sizes = by_row(dataset_size_figure10)
    assert {c.training_cases for c in sizes.values()} == {100, 500, 1000, 5000, 10000, 50000}
    nets = by_row(architectures_figure4, "cpu")
    assert nets.keys() == by_row(architectures_figure4).keys()
    assert {c.hidden for c in nets.values()} == {(w,) * n for w in (1024, 2048) for n in (2, 3, 4)}
    for found in (sizes, nets):
        for row, config in found.items():
            dropped = "dropout_" in row
            assert config.rates[:2] == ((0.2, 0.5) if dropped else (0, 0))
            assert row.replace("dropout_", "standard_") in found


def test_the_hot_rows_of_figure_10_change_the_heat_alone():
    found = by_row(dataset_size_figure10, "cpu")
    hot = {row.removeprefix("hot_"): c for row, c in found.items() if row.startswith("hot_")}
    assert len(hot) == 4
    for row, config in hot.items():
        plain = found[row]
        assert dataclasses.replace(plain, row=config.row, **dataset_size_figure10.HOT) == config
        assert dataset_size_figure10.tried(config) == [config]
        at = mlp_parts.decayed(
            config.learning_rate, config.decay, updates=6000, to=config.decay_to, warm_up=0
        )
        assert at(0) == at(6000) == 0.1 and config.momentum == 0.95


def test_the_rows_of_deepnet_have_its_settings_in_the_scaled_convention():
    found = by_row(dataset_size_figure10)
    config, plain = found["deepnet_dropout_100"], found["deepnet_standard_100"]
    assert config.max_norm == (3 * 0.8, 1.5, 1.5, 1.5)
    np.testing.assert_allclose(config.weight_factors, (0.64, 0.25, 0.25, 0.25))
    std = (0.8e-3 / 32, 0.5 / 32, 0.5 / math.sqrt(2048), 0.5 / math.sqrt(10))
    np.testing.assert_allclose(config.init_deviations, std)
    at = mlp_parts.decayed(
        config.learning_rate, config.decay, updates=1_000_000, to=config.decay_to, warm_up=0
    )
    assert at(0) == 1 and at(10_000) == pytest.approx(0.5) and at(90_000) == pytest.approx(0.1)
    assert (config.momentum_start, config.momentum, config.momentum_share) == (0.5, 0.99, 0.1)
    curved = found["deepnet_exp_dropout_100"]
    assert (curved.momentum_ramp, config.momentum_ramp) == ("exponential", "linear")
    assert dataclasses.replace(curved, momentum_ramp="linear", row=config.row) == config
    assert plain.max_norm == (3, 3, 3, 3) and plain.weight_factors == (1, 1, 1, 1)
    of_arm = ("row", "rate", "input_rate", "max_norm", "weight_factors", "init_deviations")
    assert dataclasses.replace(plain, **{name: getattr(config, name) for name in of_arm}) == config


@pytest.mark.parametrize("kept", [(0.8, 0.5), (1.0, 1.0)])
def test_settings_of_both_conventions_follow_one_trajectory(kept):
    """Deepnet's rows, beside a net that is not scaled in training, with deepnet's own numbers."""
    config = dataset_size_figure10.as_in_deepnet(
        mlp_run.Config(hidden=(8,), input_rate=1 - kept[0], rate=1 - kept[1], updates=10),
        "linear",
    )
    key = jax.random.key(0)
    x, y = jax.random.uniform(key, (32, 5)), jnp.arange(32) % 10
    masks = [jax.random.bernoulli(jax.random.fold_in(key, i), keep, (32, n))
             for i, (keep, n) in enumerate(zip(kept, (5, 8), strict=True))]  # fmt: skip

    def loss(params, scales):
        h = x
        for i, layer in params["linears"].items():
            h = jnp.where(masks[i], (nnx.relu(h) if i else h) * scales[i], 0)
            h = h @ layer["kernel"] + layer["bias"][None]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(h, y)), h

    def logits(optimizer, deviations, scales):
        params = nnx.State({"linears": {
            i: {"kernel": deviations[i] * jax.random.normal(jax.random.fold_in(key, n), (n, m)),
                "bias": jnp.zeros(m)} for i, (n, m) in enumerate(((5, 8), (8, 10)))}})  # fmt: skip
        state = optimizer.init(params)
        for _ in range(10):
            grads, found = jax.grad(loss, has_aux=True)(params, scales)
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return found

    ours = dict(l2=0, l1=0, l1_from=0, max_norm=config.max_norm)
    found = logits(
        mlp_parts.optimizer(1.0, 0.9, weight_factors=config.weight_factors, **ours),
        config.init_deviations, [1 / keep for keep in kept],
    )  # fmt: skip
    theirs = logits(
        mlp_parts.optimizer(1.0, 0.9, **{**ours, "max_norm": (3.0, 3.0)}),
        (0.001 / math.sqrt(8), 1 / math.sqrt(10)), [1, 1],
    )  # fmt: skip
    assert np.ptp(theirs) > 0.1  # it has moved
    np.testing.assert_allclose(found, theirs, atol=1e-4)


def test_r_drop_s_weight_is_the_loss_s(monkeypatch):
    monkeypatch.setattr(losses, "r_drop", lambda alpha: f"r_drop({alpha})")
    monkeypatch.setattr(mlp_run, "run", lambda config, folder, loss: loss)
    found = by_row(past_the_paper, "cpu")
    assert past_the_paper.run(found["dropout"]) is None  # the cross-entropy
    assert past_the_paper.run(found["dropout_r_drop"]) == "r_drop(1.0)"
    fields = dict(row="gaussian_r_drop", noise="gaussian")
    assert dataclasses.replace(found["dropout_r_drop"], **fields) == found["gaussian_r_drop"]
    assert [c.alpha for c in past_the_paper.tried(found["dropout"])] == [0]


# The parts, against sums by hand.


def test_the_divergence_is_that_of_poisson_laws():
    k = np.arange(60)
    logs = np.array([math.lgamma(n + 1) for n in k])

    def law(mean):
        return np.exp(k * math.log(mean) - mean - logs)

    for target, mean in ((0.1, 0.1), (0.1, 2.0), (1.5, 0.5)):
        by_hand = np.sum(law(target) * np.log(law(target) / law(mean)))
        assert float(mlp_parts.divergence(target, jnp.float32(mean))) == pytest.approx(
            by_hand, abs=1e-5
        )
    assert np.isfinite(mlp_parts.divergence(0.1, jnp.zeros(3))).all()


def network(activation="relu", **options):
    settings = dict(pieces=2, noise="bernoulli", init_ranges=None) | options
    return mlp_parts.network(
        (4, 6, 3), (0.0, 0.0), activation=activation, rngs=nnx.Rngs(0), **settings
    )


@pytest.mark.slow
def test_sparsity_adds_the_divergence_of_every_hidden_unit():
    model, x, y = network(), jnp.arange(20.0).reshape(5, 4) / 10, jnp.array([0, 1, 2, 0, 1])
    hidden, logits = mlp_parts.activities(model, x)
    assert jnp.array_equal(logits, model(x))
    assert jnp.array_equal(hidden, nnx.relu(model.linears[0](x)))
    plain = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))
    q = np.maximum(np.asarray(hidden).mean(axis=0), 1e-6)
    by_hand = float(plain) + 0.3 * np.sum(0.2 * np.log(0.2 / q) - 0.2 + q)
    assert float(mlp_parts.objective(0.3, 0.2)(model, x, y)) == pytest.approx(by_hand, rel=1e-5)
    assert float(mlp_parts.objective(0.0, 0.2)(model, x, y)) == pytest.approx(float(plain))


def test_a_maxout_unit_is_the_largest_of_its_pieces():
    model, x = network("maxout"), jnp.arange(8.0).reshape(2, 4)
    w, b = (np.asarray(a[...]) for a in (model.linears[0].kernel, model.linears[0].bias))
    assert w.shape == (4, 12)
    pieces = np.asarray(x) @ w + b
    by_hand = np.stack([pieces[:, 2 * i : 2 * i + 2].max(axis=1) for i in range(6)], axis=1)
    assert np.allclose(mlp_parts.activities(model, x)[0], by_hand, rtol=1e-6)


def test_initial_weights_are_within_their_ranges():
    model = network(init_ranges=(0.01, 0.0))
    first, last = (np.abs(linear.kernel[...]) for linear in model.linears)
    assert 0 < first.max() <= 0.01 and last.max() == 0


def test_initial_weights_have_their_deviations():
    kernels = [
        linear.kernel[...]
        for linear in mlp_parts.network(
            (300, 200, 10), (0.2, 0.5), activation="relu", pieces=1, noise="bernoulli",
            init_deviations=(0.5, 2.0), rngs=nnx.Rngs(0),
        ).linears
    ]  # fmt: skip
    for kernel, deviation in zip(kernels, (0.5, 2.0), strict=True):
        # The sum of squares is chi-squared; normal to within its sixth standard deviation here.
        n = kernel.size
        z = (float(jnp.sum((kernel / deviation) ** 2)) - n) / math.sqrt(2 * n)
        assert abs(z) < 7  # false alarm: 1e-9 or less


def test_a_run_that_cannot_be_thinned_says_so_before_any_is_made(tmp_path, monkeypatch, capsys):
    wrong = ({"noise": "gaussian"}, {"activation": "maxout"}, {"rate": 0.0}, {"hidden": (64, 71)})
    for fields in wrong:
        with pytest.raises(ValueError, match="cannot be thinned"):
            mlp_run.check(mlp_run.Config(**fields, life=2))
        mlp_run.check(mlp_run.Config(**fields))
    with pytest.raises(ValueError, match="two masks"):
        past_the_paper.check(past_the_paper.Config(alpha=1.0, life=2))
    monkeypatch.setattr(mnist_table2, "run", lambda *_: pytest.fail("a row was trained"))
    rows = ["dropout_relu_3x1024", "standard_relu_3x1024"]
    with pytest.raises(SystemExit) as stop:
        mnist_table2.main(["--life", "10", "--out", str(tmp_path), "--rows", *rows])
    assert stop.value.code == 2 and "standard_relu_3x1024 cannot" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "at_40"),
    [
        ({"momentum_share": 0.1, "momentum_updates": 7}, 0.99),  # of 400 updates
        ({"momentum_updates": 80}, 0.745),
        ({"momentum_share": 0.1, "momentum_ramp": "exponential"}, 0.99 - 0.49 / math.e),
    ],
)
def test_momentum_rises_over_a_share_of_the_run_or_so_many_updates(monkeypatch, fields, at_40):
    seen = []
    monkeypatch.setattr(mlp_parts, "optimizer", lambda rate, momentum, **_: seen.append(momentum))
    monkeypatch.setattr(mlp_run.train, "make_loop", lambda build, optimizer, **_: optimizer({}))
    mlp_run.loop_of(mlp_run.Config(momentum=0.99, momentum_start=0.5, **fields), 4, 400)
    assert seen[0](40) == pytest.approx(at_40) and seen[0](0) == pytest.approx(0.5)


def test_the_rates_of_deepnet_s_weights_are_those_that_they_have(tmp_path):
    write(tmp_path, dataset_size_figure10, "deepnet_dropout_100", [25.0])
    found = {r["row"]: r for r in rows(paper_tables.dataset_size_figure10(tmp_path))}
    settings = found["deepnet_dropout_100"]["settings"]
    assert settings.startswith("lr 0.64/0.25/0.25/0.25, of biases 1, c 2.4/1.5/1.5/1.5")
    assert "momentum 0.5 to 0.99, initial" in settings
    write(tmp_path, dataset_size_figure10, "deepnet_exp_dropout_100", [25.0])
    found = {r["row"]: r for r in rows(paper_tables.dataset_size_figure10(tmp_path))}
    assert "0.99 exponentially, initial" in found["deepnet_exp_dropout_100"]["settings"]


@pytest.mark.slow
def test_how_a_run_is_asked_for_is_how_it_is_made(small_images, tmp_path, capsys):
    """The flags reach the network, the loop and the record, which runs again."""
    flags = ["--quick", "--seeds", "2", "--out", str(tmp_path), "--rows", "dropout_relu_3x1024"]
    how = {"--life": "2", "--products": "bfloat16", "--in-turn": None}
    finals = set()
    for flag, value in [(None, None), *how.items()]:
        more = [part for part in (flag, value) if part]
        before = set(tmp_path.glob("mnist_table2/*.json"))
        mnist_table2.main([*flags, *more])
        (path,) = set(tmp_path.glob("mnist_table2/*.json")) - before
        found = record.read(path)
        if flag:
            assert str(found.config[flag[2:].replace("-", "_")]) == (value or "True")
        if flag != "--in-turn":  # which sums in another order at most
            finals.add(str(found.by_epoch) + str(found.extra["evaluated_at"]) + str(found.final))
    assert len(finals) == 3
    with pytest.raises(SystemExit) as stop:
        rerun.main([str(path)])
    assert stop.value.code == 0


def test_the_network_of_a_config_rounds_and_thins_as_it_says(monkeypatch):
    def text(**fields):
        config = mlp_run.Config(hidden=(32, 32), batch_size=4, **fields)
        _, loop = mlp_run.loop_of(config, 8, 2)
        data = {"train": (jnp.ones((8, 8)), jnp.zeros(8, int))}
        state = jax.eval_shape(loop.init, jax.random.key(0), {}, data)
        return str(jax.make_jaxpr(loop.epoch)(state, data))

    assert "bf16[32,32]" not in text() and "f32[16,16]" not in text()
    assert "bf16[32,32]" in text(products="bfloat16")
    assert "f32[16,16]" in text(life=2)


def test_how_a_run_was_made_is_in_its_record_where_it_is_not_the_usual_way():
    plain = record.recorded_config(mlp_run.Config())
    assert not {"life", "products", "in_turn", "weight_factors", "init_deviations"} & set(plain)
    how = {"life": 3, "products": "bfloat16", "in_turn": True}
    assert record.recorded_config(mlp_run.Config(**how)) == {**plain, **how}


@pytest.mark.parametrize("activation", ["relu", "logistic"])
def test_deep_units_tell_examples_apart_from_the_start(activation):
    sizes = (784, *[1024] * 3, 10)
    model = mlp_parts.network(
        sizes, [0.0] * 4, activation=activation, pieces=1, noise="bernoulli", init_ranges=None,
        rngs=nnx.Rngs(0),
    )  # fmt: skip
    x = jax.random.bernoulli(jax.random.key(0), 0.2, (64, 784)).astype(jnp.float32)
    last = mlp_parts.activities(model, x)[2]
    spread, size = jnp.std(last, axis=0).mean(), jnp.abs(last - last.mean()).mean()
    assert spread > 0.2 * size


def test_gaussian_noise_takes_the_place_of_every_dropout():
    model = network(noise="gaussian")
    assert [type(d).__name__ for d in model.dropouts] == ["GaussianDropout"] * 2


def test_penalties_reach_the_weights_alone_and_l1_comes_late():
    penalty = mlp_parts.weight_penalty(l2=0.5, l1=0.25, l1_from=1)
    params = {"kernel": jnp.array([[2.0, -4.0]]), "bias": jnp.array([8.0])}
    grads = jax.tree.map(jnp.ones_like, params)
    state = penalty.init(params)
    first, state = penalty.update(grads, state, params)
    second, _ = penalty.update(grads, state, params)
    assert first["kernel"].tolist() == [[2.0, -1.0]] and first["bias"].tolist() == [1.0]
    assert second["kernel"].tolist() == [[2.25, -1.25]] and second["bias"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("decay", "middle"), [("cosine", 0.505), ("linear", 0.505), ("inverse_time", 1 / 50.5)]
)
def test_a_learning_rate_ends_where_it_is_to(decay, middle):
    at = mlp_parts.decayed(2.0, decay, updates=100, to=0.01, warm_up=0)
    assert [float(at(n)) for n in (0, 50, 100)] == pytest.approx([2, 2 * middle, 0.02])
    warm = mlp_parts.decayed(2.0, decay, updates=100, to=0.01, warm_up=10)
    assert float(warm(0)) == pytest.approx(0.2) and float(warm(50)) == pytest.approx(float(at(50)))


def test_max_norm_is_a_layer_each():
    model = network()
    params = nnx.state(model, nnx.Param)
    optimizer = mlp_parts.optimizer(0.1, 0.9, max_norm=(0.5, 0.25), l2=0, l1=0, l1_from=0)
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    after = optax.apply_updates(params, updates)
    for layer, c in ((0, 0.5), (1, 0.25)):
        lengths = jnp.linalg.norm(after["linears"][layer]["kernel"][...], axis=0)
        assert float(lengths.max()) == pytest.approx(c, rel=1e-5)


@pytest.mark.slow
def test_errors_of_averages_are_those_of_every_draw():
    """Two passes of three are right on a case: an average of all is right, a single one 2 in 3."""
    right, wrong = jnp.array([[0.9, 0.1]]), jnp.array([[0.2, 0.8]])
    samples, y = jnp.stack([right, right, wrong]), jnp.array([0])
    key = jax.random.key(0)
    assert monte_carlo_figure11.draw_errors(key, samples, y, 3, 5).tolist() == [0] * 5
    single = monte_carlo_figure11.draw_errors(key, samples, y, 1, 40)
    assert set(single.tolist()) == {0.0, 100.0}  # 40 draws miss one of them once in 1e7


@pytest.mark.slow
def test_averages_of_any_number_of_passes_are_one_program():
    """The pool is an argument of it: as a constant it would be compiled for every k and network."""
    y, compiled = jnp.array([0, 1, 1, 0, 1]), monte_carlo_figure11.weighted_errors._cache_size()
    for seed in (0, 1):
        samples = jax.random.uniform(jax.random.key(seed), (4, 5, 2))
        for k in (1, 2, 4):
            monte_carlo_figure11.draw_errors(jax.random.key(k), samples, y, k, 7)
    assert monte_carlo_figure11.weighted_errors._cache_size() == compiled + 1


def test_own_rows_are_all_that_a_run_sees():
    x, y = jnp.arange(12.0).reshape(6, 2), jnp.arange(6)
    seen = {}

    class Loop:
        def _replace(self, **functions):
            seen.update(functions)

        def epoch(self, state, data):
            return data

        evaluate = epoch

    mlp_run.on_own_rows(Loop())
    state = dataclasses.make_dataclass("State", ["hyper"])({"rows": jnp.array([4, 1])})
    for function in seen.values():
        found = function(state, {"train": (x, y), "test": (x, y)})
        assert found["train"][1].tolist() == [4, 1] and len(found["test"][1]) == 6


@pytest.mark.slow
@pytest.mark.parametrize("batch", [100, 50])
def test_epochs_that_share_a_call_change_nothing(small_images, monkeypatch, batch):
    config = mlp_run.Config(
        seeds=2, hidden=(8,), training_cases=100, batch_size=batch, updates=24, evaluations=3
    )
    together = mlp_run.run(config)
    monkeypatch.setattr(mlp_run, "CALL_UPDATES", 1)
    calls = []
    monkeypatch.setattr(mlp_run, "in_passes", lambda *a: calls.append(a))
    apart = mlp_run.run(config)
    assert not calls
    assert together["extra"]["evaluated_at"].tolist() == [8, 16, 24]
    for part in ("final", "by_epoch"):
        for name, values in apart[part].items():
            np.testing.assert_array_equal(together[part][name], values, err_msg=name)


@pytest.mark.parametrize(
    ("epochs", "every", "per_epoch", "passes"),
    [(1_000_000, 50_000, 1, 400), (12, 4, 2, 4), (100, 5, 600, 1), (7, 7, 1, 7), (21, 4, 1, 1)],
)
def test_a_call_holds_few_updates_and_evaluations_fall_between_calls(
    epochs, every, per_epoch, passes
):
    assert mlp_run.passes_of_a_call(epochs, every, per_epoch) == passes
    assert epochs % passes == every % passes == 0
    assert passes == 1 or passes * per_epoch <= mlp_run.CALL_UPDATES


# Advice.

CLEAR = {0.0: [5.0, 5.2], 0.5: [3.0, 3.2], 0.8: [7.0, 7.2]}


def test_advice_names_the_best_rate_and_its_ties():
    train = {0.0: [0.0, 0.0], 0.5: [0.0, 0.0], 0.8: [1.0, 1.2]}
    assert rate_advice.advice(CLEAR, train, (10,)) == [
        "use a rate of 0.5: validation error 3.10 ± 0.10 %"
    ]
    tied = {0.0: [3.0, 3.3], 0.5: [3.0, 3.2]}
    lines = rate_advice.advice(tied, {r: [0.0, 0.0] for r in tied}, (10,))
    assert "not told apart from it by 2 standard errors: 0" in lines
    assert any("not shown to help: without it 3.15" in line for line in lines)


def test_advice_warns_of_a_net_that_underfits_or_is_narrow():
    train = {0.0: [0.0, 0.0], 0.5: [2.9, 3.0], 0.8: [7.0, 7.0]}
    text = " ".join(rate_advice.advice(CLEAR, train, (100, 50)))
    assert "underfits with dropout: training error 2.95" in text
    assert "try 200-100 units" in text
    train = {0.0: [5.0, 5.1], 0.5: [5.0, 5.0], 0.8: [7.0, 7.0]}
    text = " ".join(rate_advice.advice(CLEAR, train, (100,)))
    assert "does not overfit" in text and "units" not in text


def test_own_data_are_checked(tmp_path):
    def cases(**arrays):
        path = tmp_path / "own.npz"
        np.savez(path, **arrays)
        return rate_advice.cases(rate_advice.Config(data="own", file=path))

    x, y, _ = cases(x=np.zeros((6, 2, 3)), y=np.arange(6))
    assert x.shape == (6, 6) and x.dtype == np.float32 and y.dtype == np.int32
    for arrays, message in [
        ({"x": np.zeros((6, 2))}, "needs x and y"),
        ({"x": np.zeros((6, 2)), "y": np.arange(5)}, "a number of y a case"),
        ({"x": np.zeros((2, 2)), "y": np.array([0.0, 1.0])}, "whole numbers"),
        ({"x": np.zeros((2, 2)), "y": np.array([-1, 1])}, "whole numbers"),
        ({"x": np.full((2, 2), np.nan), "y": np.arange(2)}, "not finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            cases(**arrays)
    with pytest.raises(ValueError, match="not here"):
        rate_advice.cases(rate_advice.Config(data="own"))
    array = tmp_path / "own.npy"
    np.save(array, np.zeros(3))
    for path in (array, tmp_path / "absent.npz"):
        with pytest.raises(ValueError, match="np.savez"):
            rate_advice.cases(rate_advice.Config(data="own", file=path))


def test_advice_needs_all_classes_in_training_and_two_seeds(tmp_path):
    path = tmp_path / "sorted.npz"
    np.savez(path, x=np.zeros((100, 2)), y=np.arange(100) // 20)
    config = rate_advice.Config(data="own", file=path)
    with pytest.raises(ValueError, match=r"classes \[4\].*random order"):
        rate_advice.run(config)
    with pytest.raises(ValueError, match="2 or more"):
        rate_advice.run(dataclasses.replace(config, seeds=1))


# Choice on validation data, tables and figures, on made-up records.


def write(
    folder, module, row, errors, *, budget="paper", own=False, updates=100_000, extra=None, **fields
):
    """A record of a row, as if it had been run; `own`: at a length that is not the budget's."""
    config = by_row(module, budget)[row]
    named = "own" if own else budget
    config = dataclasses.replace(
        config, budget=named, updates=updates, seeds=len(errors), out=folder, **fields
    )
    held_out = "val_error" if config.validation else "test_error"
    final = {held_out: errors, "train_error": [0.1] * len(errors), **(extra or {}).pop("final", {})}
    result = {
        "final": final,
        "by_epoch": {held_out: [[2 * e, e] for e in errors]},
        "extra": {"updates": updates, "evaluated_at": [updates // 2, updates], **(extra or {})},
    }
    name = NAMES[module]
    return record.write(name, config, result, data_sha256="ab", wall_seconds=1, folder=folder)


def test_a_run_with_settings_chosen_later_takes_the_place_of_an_earlier_one(tmp_path):
    row, other = "dropout_100", "standard_100"
    write(tmp_path, dataset_size_figure10, row, [26.0, 25.0], max_norm=(3.2, 2, 2, 2))
    write(tmp_path, dataset_size_figure10, other, [27.0, 26.0])
    last = write(tmp_path, dataset_size_figure10, row, [24.0, 23.0, 22.0], learning_rate=0.03)
    write(tmp_path, dataset_size_figure10, row, [1.0], validation=10_000)
    write(tmp_path, dataset_size_figure10, row, [2.0], quick=True)
    longer = write(tmp_path, dataset_size_figure10, row, [20.0], updates=200_000)
    found = paper_rows.reported(tmp_path, "dataset_size_figure10")
    assert [r.path for r in found if r.config["row"] == row] == [last, longer]
    assert len(found) == 3


def test_a_row_takes_the_best_of_its_own_trials(tmp_path):
    row = "dropout_relu_maxnorm_3x1024"
    config = dataclasses.replace(by_row(mnist_table2)[row], budget="paper", updates=7, out=tmp_path)
    assert study.chosen("mnist_table2", config) == config
    more = dict(updates=7, validation=10_000)
    write(tmp_path, mnist_table2, row, [1.3], learning_rate=0.2, **more)
    write(tmp_path, mnist_table2, row, [1.1], learning_rate=0.05, max_norm=(3.2, 2, 2, 2), **more)
    write(tmp_path, mnist_table2, row, [math.nan], learning_rate=0.4, **more)
    write(tmp_path, mnist_table2, row, [0.1], learning_rate=0.3, updates=7)  # read the test set
    write(tmp_path, mnist_table2, row, [0.2], learning_rate=0.3, updates=8, validation=10_000)
    other = "dropout_relu_3x1024"
    write(tmp_path, mnist_table2, other, [0.2], learning_rate=0.3, **more)
    chosen = study.chosen("mnist_table2", config)
    assert (chosen.learning_rate, chosen.max_norm) == (0.05, (3.2, 2, 2, 2))
    assert dataclasses.replace(chosen, learning_rate=0.1, max_norm=config.max_norm) == config


@pytest.mark.parametrize("own", [True, False])
def test_settings_may_come_from_shorter_trials_and_the_table_says_so(tmp_path, own):
    """Those of the length that is asked for, whether or not a budget has it."""
    row = "dropout_relu_maxnorm_3x1024"
    config = dataclasses.replace(
        by_row(mnist_table2)[row], budget="own", updates=900, tuned_at=7, out=tmp_path
    )
    for rate, error in ((0.05, 1.3), (0.2, 1.1)):
        more = dict(updates=7, validation=10_000, own=own, learning_rate=rate)
        write(tmp_path, mnist_table2, row, [error], **more)
    write(tmp_path, mnist_table2, row, [0.1], learning_rate=0.4, updates=900, validation=10_000)
    assert study.chosen("mnist_table2", config).learning_rate == 0.2
    write(tmp_path, mnist_table2, row, [1.2], learning_rate=0.2, updates=900, own=True, tuned_at=7)
    (found,) = (r for r in rows(paper_tables.mnist_table2(tmp_path)) if r["row"] == row)
    assert found["settings"].endswith("; best of 2 on validation, after 7 updates")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tuned-at", "7"], "with --tune --updates 7"),
        (["--tuned-at", "7", "--tune"], "leave out --tune and --quick"),
        (["--tuned-at", "7", "--quick"], "leave out --tune and --quick"),
        (["--tuned-at", "900"], "of other length"),
        (["--tuned-at", "-3"], "of other length"),
    ],
)
def test_settings_of_no_trials_are_refused_before_anything_runs(tmp_path, capsys, flags, message):
    rows = ["--rows", "standard_relu_3x1024", "dropout_relu_maxnorm_3x1024"]
    with pytest.raises(SystemExit) as stop:
        mnist_table2.main(["--updates", "900", "--out", str(tmp_path), *rows, *flags])
    printed = capsys.readouterr().err
    assert stop.value.code == 2 and message in printed and len(printed.splitlines()) == 1


def test_flags_go_before_the_budget_and_an_unknown_row_is_named(tmp_path):
    ours = study.Study(out=tmp_path)
    budget, grid = mnist_table2.BUDGETS["cpu"], mnist_table2.grid("cpu")
    planned = study.planned(ours, budget, grid)
    assert {c.row for c in planned} == set(budget.rows)
    assert {(c.seeds, c.updates, c.budget) for c in planned} == {(3, 12_000, "cpu")}
    ours = study.Study(seeds=1, updates=5, rows=("dropout_relu_3x1024",))
    (one,) = study.planned(ours, budget, grid)
    assert (one.seeds, one.updates) == (1, 5)
    assert one.budget == "own"  # not to be compared with numbers at the budget's updates
    with pytest.raises(ValueError, match="no row is called 'x'"):
        study.planned(study.Study(rows=("x",)), budget, grid)


@pytest.mark.parametrize("name", paper_tables.TABLES)
def test_without_records_a_table_says_so(tmp_path, name):
    assert paper_tables.TABLES[name](tmp_path) == "*Not run yet.*"


def test_a_table_puts_each_run_beside_its_published_number(tmp_path):
    row, plain = "dropout_relu_maxnorm_3x1024", "standard_relu_maxnorm_3x1024"
    path = write(tmp_path, mnist_table2, row, [1.1, 1.3])
    write(tmp_path, mnist_table2, plain, [1.6, 1.8])
    text = paper_tables.mnist_table2(tmp_path)
    found = {r["row"]: r for r in rows(text)}
    assert found[row]["published %"] == "1.06; 1.21 to 1.43 at 100k (Figure 4)"
    assert found[row]["ours %"] == "1.20 ± 0.10"
    assert found[row]["difference, s.e."] == "+0.14, +1.4"
    assert found[row]["updates"] == "100 000" and found[row]["seeds"] == "2"
    assert found[row]["settings"] == "lr 0.1, c 1.6/1/1/1, momentum 0.95; set beforehand"
    assert path.stem in found[row]["run"]
    assert found["dropout_relu_maxnorm_2x8192"]["ours %"] == "not run"
    assert found["dropout_relu_maxnorm_2x8192"]["published %"] == "0.95"
    spread = math.hypot(0.1, 0.1)
    assert f"0.50 ± {spread:.2f} ({0.5 / spread:.1f} standard errors) points lower" in text


def test_arms_that_draw_the_same_images_are_compared_seed_by_seed(tmp_path):
    write(tmp_path, dataset_size_figure10, "dropout_100", [20.0, 30.0])
    write(tmp_path, dataset_size_figure10, "standard_100", [20.4, 30.6])
    text = paper_tables.dataset_size_figure10(tmp_path)
    assert "0.50 ± 0.10 (5.0 standard errors) points lower" in text


def test_deepnet_s_dropout_is_compared_on_the_draws_that_both_had(tmp_path):
    write(tmp_path, dataset_size_figure10, "deepnet_dropout_100", [20.0, 30.0])
    write(tmp_path, dataset_size_figure10, "standard_100", [20.4, 30.6, 99.0])
    write(tmp_path, dataset_size_figure10, "deepnet_dropout_500", [9.0])  # beside nothing
    text = paper_tables.dataset_size_figure10(tmp_path)
    assert "0.50 ± 0.10 points lower than standard_100 (" in text and "over 2 draws" in text
    write(tmp_path, dataset_size_figure10, "deepnet_dropout_100", [10.0, 20.0], updates=200_000)
    text = paper_tables.dataset_size_figure10(tmp_path)
    assert "0.50 ± 0.10 points lower" in text and "10.50 ± 0.10 points lower" in text
    assert "standard_500" not in text.split("Settings:")[1]


def test_in_short_the_longest_run_stands_beside_what_was_published(tmp_path):
    row = "dropout_relu_maxnorm_3x1024"
    path = write(tmp_path, mnist_table2, row, [1.1, 1.3])
    write(tmp_path, mnist_table2, row, [2.0, 2.2], updates=10_000, budget="cpu")
    write(tmp_path, pylearn2_recipe, "dropout_60k", [1.0, 1.2], updates=264_000)
    found = {r["row"]: r for r in rows(paper_tables.in_short(tmp_path))}
    assert found[row]["published %"] == "1.06" and found[row]["ours %"] == "1.20 ± 0.10"
    assert found[row]["updates (of theirs)"] == "100 000 (10.0%)" and path.stem in found[row]["run"]
    assert found["dropout_60k"]["updates (of theirs)"] == "264 000 (100.0%)"
    assert found["l2_l1"]["ours %"] == "not run"
    assert not [row for row in found if row.startswith("standard")]  # of which nothing is published


@pytest.mark.parametrize("seeds", [1, 2, 3])  # another name of the file, so another place of it
def test_in_short_prefers_a_usual_run_to_another_of_its_length(tmp_path, seeds):
    row = "dropout_relu_maxnorm_3x1024"
    write(tmp_path, mnist_table2, row, [1.5] * seeds, life=3, products="bfloat16")
    write(tmp_path, mnist_table2, row, [1.2])
    found = {r["row"]: r for r in rows(paper_tables.in_short(tmp_path))}
    assert found[row]["ours %"] == "1.20"
    write(tmp_path, mnist_table2, row, [1.1], updates=200_000, products="bfloat16")
    found = {r["row"]: r for r in rows(paper_tables.in_short(tmp_path))}
    assert found[row]["updates (of theirs)"] == "200 000 (20.0%), bfloat16 products"


def test_how_a_run_was_made_is_among_its_settings_and_arms_differ_in_dropout_alone(tmp_path):
    how = {"life": 10, "products": "bfloat16"}
    write(tmp_path, mnist_table2, "dropout_relu_3x1024", [1.0], **how)
    write(tmp_path, mnist_table2, "standard_relu_3x1024", [1.5])
    text = paper_tables.mnist_table2(tmp_path)
    found = {r["row"]: r for r in rows(text)}
    settings = found["dropout_relu_3x1024"]["settings"]
    assert "thinned, life 10, bfloat16 products" in settings
    assert "points lower" not in text


def test_settings_were_chosen_where_they_are_those_of_the_best_trial(tmp_path):
    row = "dropout_relu_maxnorm_3x1024"
    for rate, error in ((0.05, 1.0), (0.1, 1.2), (0.2, math.nan)):
        write(tmp_path, mnist_table2, row, [error], learning_rate=rate, validation=10_000)
    write(tmp_path, mnist_table2, row, [1.1, 1.3], learning_rate=0.05)
    other = "dropout_relu_3x1024"
    write(tmp_path, mnist_table2, other, [1.0], validation=10_000)  # alone, so nothing was chosen
    write(tmp_path, mnist_table2, other, [1.2, 1.3])
    late = {"learning_rate": 0.05, "validation": 10_000}
    write(tmp_path, mnist_table2, row, [0.9, 0.9], **late)  # no other setting
    write(tmp_path, mnist_table2, row, [0.1], **late | {"learning_rate": 0.4})  # after the run

    def settings():
        return {r["row"]: r["settings"] for r in rows(paper_tables.mnist_table2(tmp_path))}

    c = "c 1.6/1/1/1, momentum 0.95"
    assert settings()[row] == f"lr 0.05, {c}; best of 3 on validation"
    assert settings()[other] == "lr 0.1, momentum 0.95; set beforehand"
    write(tmp_path, mnist_table2, row, [1.4, 1.3], learning_rate=0.1)  # not the best trial's
    assert settings()[row] == f"lr 0.1, {c}; set beforehand"


def test_a_row_s_penalties_are_among_its_settings(tmp_path):
    write(tmp_path, regularizers_table9, "l2_l1", [1.5, 1.6])
    write(tmp_path, pylearn2_recipe, "dropout_60k", [1.0, 1.1])
    (found,) = (r for r in rows(paper_tables.regularizers_table9(tmp_path)) if r["seeds"] == "2")
    assert found["settings"] == "lr 0.1, momentum 0.95, L2 0.0001, L1 1e-06; set beforehand"
    found = rows(paper_tables.pylearn2_recipe(tmp_path))[0]["settings"]
    assert found.startswith("lr 0.097259, c 4.378/2.97/4.627, momentum 0.5 to 0.699; ")


@pytest.mark.parametrize(("budget", "difference"), [("paper", "+0.14, +1.4"), ("cpu", "–")])
def test_a_difference_is_given_where_the_protocol_is_the_published_one(
    tmp_path, budget, difference
):
    row = "dropout_relu_maxnorm_3x1024"
    write(tmp_path, mnist_table2, row, [1.1, 1.3], budget=budget)
    found = {r["row"]: r["difference, s.e."] for r in rows(paper_tables.mnist_table2(tmp_path))}
    assert found[row] == difference
    write(tmp_path, pylearn2_recipe, "dropout_60k", [1.0, 1.2], budget=budget)
    found = rows(paper_tables.pylearn2_recipe(tmp_path))[0]
    assert found["difference, s.e."] == "+0.05, +0.5"  # at either budget


def test_the_range_of_figure_4_is_beside_nets_of_relus_alone(tmp_path):
    for net in ("logistic_3x1024", "relu_3x1024", "maxnorm_maxout_2x5x240"):
        write(tmp_path, mnist_table2, f"dropout_{net}", [1.1, 1.3])
    found = {r["row"]: r["published %"] for r in rows(paper_tables.mnist_table2(tmp_path))}
    assert found["dropout_relu_3x1024"] == "1.25; 1.21 to 1.43 at 100k (Figure 4)"
    assert found["dropout_logistic_3x1024"] == "1.35"
    assert found["dropout_maxnorm_maxout_2x5x240"] == "0.94"


def test_the_recipe_is_compared_with_itself_without_dropout(tmp_path):
    write(tmp_path, pylearn2_recipe, "dropout_60k", [1.0, 1.1], budget="cpu")
    write(tmp_path, pylearn2_recipe, "standard_60k", [1.5, 1.6], budget="cpu")
    text = paper_tables.pylearn2_recipe(tmp_path)
    assert "60k, 100 000 updates: with dropout the test error is 0.50 ± 0.07" in text
    assert [r["published %"] for r in rows(text)] == ["1.05", "–"]


def test_gaussian_noise_is_compared_with_bernoulli_s(tmp_path):
    write(tmp_path, gaussian_table10, "mnist_bernoulli", [1.4, 1.6], budget="cpu")
    write(tmp_path, gaussian_table10, "mnist_gaussian", [1.2, 1.4], budget="cpu")
    text = paper_tables.gaussian_table10(tmp_path)
    assert "mnist, 100 000 updates: with Gaussian noise the test error is 0.20 ± 0.14" in text
    assert text.count("points lower") == 1


def test_r_drop_is_compared_with_dropout_alone(tmp_path):
    write(tmp_path, past_the_paper, "dropout", [1.4, 1.6], budget="cpu")
    write(tmp_path, past_the_paper, "dropout_r_drop", [1.2, 1.4], budget="cpu")
    write(tmp_path, past_the_paper, "gaussian_r_drop", [1.2, 1.4], budget="cpu")
    text = paper_tables.past_the_paper(tmp_path)
    assert "\ndropout, 100 000 updates: with R-Drop the test error is 0.20 ± 0.14" in text
    assert text.count("points lower") == 1
    settings = {r["row"]: r["settings"] for r in rows(text)}
    assert "alpha 1" in settings["dropout_r_drop"] and "alpha" not in settings["dropout"]
    assert "0.95 % (Table 2), 0.87 % (Ma et al. 2017)" in text


def test_r_drop_s_weight_is_chosen_among_trials_of_as_many_updates(tmp_path):
    for alpha, error in ((0.3, 1.3), (1.0, 1.2)):
        write(tmp_path, past_the_paper, "dropout_r_drop", [error], budget="cpu", alpha=alpha,
              validation=10_000)  # fmt: skip
    write(tmp_path, past_the_paper, "dropout_r_drop", [1.0], budget="cpu", alpha=0.3,
          validation=10_000, updates=50_000)  # fmt: skip
    write(tmp_path, past_the_paper, "dropout_r_drop", [1.1, 1.1], budget="cpu", alpha=1.0)
    found = {r["row"]: r for r in rows(paper_tables.past_the_paper(tmp_path))}
    assert "alpha 1; best of 2 on validation" in found["dropout_r_drop"]["settings"]


def test_the_curves_of_figures_9_and_10_stand_at_their_points(tmp_path):
    write(tmp_path, rate_figure9, "n_fixed_0.9", [3.0, 3.2])
    found = {r["row"]: r for r in rows(paper_tables.rate_figure9(tmp_path))}
    assert found["n_fixed_0.9"]["published %"] == "3.19 ± 0.09"  # p = 0.1
    assert found["pn_fixed_0"]["published %"] == "1.70 ± 0.12"
    write(tmp_path, dataset_size_figure10, "dropout_100", [26.0, 27.0])
    found = {r["row"]: r for r in rows(paper_tables.dataset_size_figure10(tmp_path))}
    assert found["dropout_100"]["published %"] == "26.62 ± 2.72"
    assert found["standard_100"]["published %"] == "22.84 ± 2.04"
    assert found["dropout_100"]["network"] == "1024-1024-2048, 100 images"


def test_figure_11_has_a_row_a_number_of_passes(tmp_path):
    final = {"mc_error_1": [2.0, 2.2], "mc_error_3": [1.2, 1.4]}
    extra = {"final": final, "sd_over_draws": {"1": [0.2, 0.2], "3": [0.1, 0.1]}}
    row = "dropout_relu_maxnorm_3x1024"
    write(tmp_path, monte_carlo_figure11, row, [1.0, 1.2], extra=extra)
    scaling, one, three = rows(paper_tables.monte_carlo_figure11(tmp_path))
    assert scaling["published %"] == "1.050" and scaling["ours %"] == "1.100 ± 0.100"
    assert one["published %"] == "–" and three["published %"] == "1.281"


def made_up(folder):
    """A few records for every figure."""
    for module, prefix in ((architectures_figure4, ""), (rate_figure9, ""),
                           (dataset_size_figure10, "")):  # fmt: skip
        for row in list(by_row(module))[:4]:
            write(folder, module, prefix + row, [1.0, 1.2])
    sds = {"1": [0.2, 0.2], "3": [0.1, 0.1]}
    extra = {"final": {f"mc_error_{k}": [1.5, 1.6] for k in sds}, "sd_over_draws": sds}
    write(folder, monte_carlo_figure11, "dropout_relu_maxnorm_3x1024", [1.0, 1.2], extra=extra)
    packed = base64.b64encode(np.arange(64 * 16, dtype=np.int64).astype(np.int8).tobytes()).decode()
    shown = {"filters": packed, **features_figures7_8.histograms(np.ones((3, 4)))}
    for row, rate in (("standard", 0.0), ("dropout", 0.5)):
        names = ("test_reconstruction", "mean_activity", "zero_percent")
        result = {"final": dict.fromkeys(names, [1.0, 1.2, 1.4]), "extra": {"updates": 5, **shown}}
        config = features_figures7_8.Config(row=row, rate=rate)
        record.write("features_figures7_8", config, result, data_sha256="ab", wall_seconds=1,
                     folder=folder)  # fmt: skip


def test_figures_are_drawn_and_know_their_records(tmp_path):
    made_up(tmp_path)
    for name, drawing in paper_figures.FIGURES.items():
        path = tmp_path / "figures" / name
        drawing.draw(tmp_path, path)
        assert path.stat().st_size > 5000
        assert drawing.sources(tmp_path)
    found = rows(paper_tables.features_figures7_8(tmp_path))
    assert [r["mean activity, published"] for r in found] == ["2.0", "0.7"]


def test_ours_and_the_paper_s_points_are_where_they_belong(tmp_path):
    write(tmp_path, rate_figure9, "n_fixed_0.9", [3.0, 3.2])
    write(tmp_path, rate_figure9, "n_fixed_0", [1.6, 1.8])
    figure = Figure()
    paper_figures.figure_9(paper_rows.reported(tmp_path, "rate_figure9"), figure)
    lines = [container.lines[0] for container in figure.axes[0].containers]
    theirs, ours = lines[0].get_xydata(), lines[1].get_xydata()
    assert dict(theirs.tolist())[0.9] == 3.19
    assert ours == pytest.approx(np.array([[0, 1.7], [0.9, 3.1]]))
    assert len(figure.axes[1].containers) == 1  # no record with pn fixed
    assert not figure.axes[0].texts
    write(tmp_path, rate_figure9, "n_fixed_0.8", [15.0, 15.4])  # off the axis
    paper_figures.figure_9(paper_rows.reported(tmp_path, "rate_figure9"), again := Figure())
    assert [text.get_text() for text in again.axes[0].texts] == ["15 %"]


def labels(axis):
    return " ".join(axis.get_legend_handles_labels()[1])


def test_the_legends_of_figures_9_and_10_name_the_nets(tmp_path):
    """Ours at the CPU budget are smaller than the paper's."""
    for row in ("n_fixed_0", "n_fixed_0.9", "pn_fixed_0", "pn_fixed_0.3", "pn_fixed_0.9"):
        write(tmp_path, rate_figure9, row, [1.0, 1.2], budget="cpu")
    figure = Figure()
    paper_figures.figure_9(paper_rows.reported(tmp_path, "rate_figure9"), figure)
    n_fixed, pn_fixed = map(labels, figure.axes)
    assert "9a, 2048-2048-2048" in n_fixed and "512-512-512, 10000 images" in n_fixed
    assert "9b, pn = 256-256-512" in pn_fixed and "pn = 64-64-128, 10000 images" in pn_fixed
    write(tmp_path, dataset_size_figure10, "dropout_100", [26.0, 27.0], budget="cpu")
    figure = Figure()
    paper_figures.figure_10(paper_rows.reported(tmp_path, "dataset_size_figure10"), figure)
    found = labels(figure.axes[0])
    assert "paper, dropout, 1024-1024-2048" in found and "512-512-1024" in found


def test_the_arms_of_figure_8_share_their_axes(tmp_path):
    made_up(tmp_path)
    figure, records = Figure(), paper_rows.reported(tmp_path, "features_figures7_8")
    paper_figures.figures_7_8(records, figure)
    for left, right in (figure.axes[2:4], figure.axes[4:6]):
        assert 1 < left.get_xlim()[1] <= 1.1  # all activities are 1: to the end of their bin
        left.set_xlim(0, 7)
        assert right.get_xlim() == (0, 7)
    assert "factor of 0.5" in paper_tables.features_figures7_8(tmp_path)


@pytest.mark.parametrize(("updates", "points"), [(6_000, 0), (12_000, 1), (24_000, 2)])
def test_the_range_of_figure_4_shows_at_few_points(tmp_path, updates, points):
    write(tmp_path, architectures_figure4, "dropout_2x1024", [1.4, 1.6], updates=updates)
    figure = Figure()
    paper_figures.figure_4(paper_rows.reported(tmp_path, "architectures_figure4"), figure)
    bars = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    dropout, standard = ([s.tolist() for s in c.get_segments()] for c in bars)
    assert len(dropout) == len(standard) == points
    if points:
        assert dropout[0] == [[10_000, 1.69], [10_000, 2.04]]
        assert standard[0] == [[10_000, 1.73], [10_000, 2.62]]


# Quick runs.


@pytest.fixture
def small_images(monkeypatch):
    monkeypatch.setattr(data, "load", lambda name, data_dir=None: images())
    monkeypatch.setattr(study, "VALIDATION", 100)


def launched(module, folder, *argv):
    module.main(["--quick", "--seeds", "2", "--out", str(folder), *argv])
    return record.read_all(module.__name__.removeprefix("experiments."), folder)


def is_of(found, module, row):
    """The record is of the row of the CPU grid, at the CPU budget."""
    budget = module.BUDGETS["cpu"]
    plan = {"budget": "cpu", "updates": budget.updates, "seeds": 2, "quick": True}
    config = dataclasses.replace(by_row(module, "cpu")[row], **plan)
    return found.config == record.recorded_config(config)


@pytest.mark.parametrize("module", GRIDS, ids=NAMES.get)
def test_a_command_runs_its_rows_once(small_images, tmp_path, monkeypatch, module):
    """With training left out."""
    seen = []

    def run(config, checkpoint_dir):
        seen.append(config)
        return {"final": {"test_error": [1.0] * 2, "train_error": [0.5] * 2},
                "extra": {"updates": 1}}  # fmt: skip

    monkeypatch.setattr(module, "run", run)
    row = list(by_row(module, "cpu"))[0]
    (found,) = launched(module, tmp_path, "--rows", row)
    assert is_of(found, module, row) and len(seen) == 1
    launched(module, tmp_path, "--rows", row)
    assert len(seen) == 1  # the record is there


def test_tuning_reads_validation_images_with_one_seed(small_images, tmp_path, monkeypatch):
    def run(config, checkpoint_dir):
        return {"final": {"val_error": [config.learning_rate], "train_error": [0.5]},
                "extra": {"updates": 1}}  # fmt: skip

    monkeypatch.setattr(mnist_table2, "run", run)
    mnist_table2.main(["--tune", "--rows", "dropout_relu_3x1024", "--out", str(tmp_path)])
    found = record.read_all("mnist_table2", tmp_path)
    assert {r.config["learning_rate"] for r in found} == {0.05, 0.1, 0.2}
    assert {(r.config["validation"], r.config["seeds"]) for r in found} == {(100, 1)}


@pytest.fixture
def high_rates_diverge(monkeypatch):
    """Training left out; the list of the learning rates that it was asked for."""
    asked = []

    def run(config, checkpoint_dir):
        asked.append(config.learning_rate)
        if config.learning_rate > 0.15:
            raise NonFiniteLossError("the loss is not finite at step 3")
        held_out = "val_error" if config.validation else "test_error"
        errors = [1.0 + config.learning_rate] * config.seeds
        return {"final": {held_out: errors, "train_error": errors}, "extra": {"updates": 1}}

    monkeypatch.setattr(mnist_table2, "run", run)
    return asked


def test_a_trial_that_diverges_has_a_record_and_is_not_chosen(
    small_images, tmp_path, high_rates_diverge
):
    row, asked = "dropout_relu_3x1024", high_rates_diverge  # learning rates 0.05, 0.1 and 0.2
    command = ["--rows", row, "--tune", "--seeds", "2", "--out", str(tmp_path)]
    mnist_table2.main(command)
    found = {r.config["learning_rate"]: r for r in record.read_all("mnist_table2", tmp_path)}
    assert all(map(math.isnan, found[0.2].final["val_error"] + found[0.2].final["train_error"]))
    assert found[0.2].extra == {"updates": 0}
    mnist_table2.main(command)
    assert len(asked) == 3  # none is made again
    config = by_row(mnist_table2, "cpu")[row]
    config = dataclasses.replace(config, budget="cpu", updates=12_000, out=tmp_path)
    assert study.chosen("mnist_table2", config).learning_rate == 0.05


def test_a_row_that_diverges_does_not_keep_the_next_from_running(
    small_images, tmp_path, high_rates_diverge, monkeypatch, capsys
):
    rows = ["dropout_logistic_3x1024", "dropout_relu_3x1024"]
    monkeypatch.setitem(mnist_table2.NETS["logistic_3x1024"], "learning_rate", 0.5)
    with pytest.raises(SystemExit) as stop:
        mnist_table2.main(["--rows", *rows, "--out", str(tmp_path)])
    assert stop.value.code == 1
    output = capsys.readouterr()
    untuned = "{}: 0 of 3 settings were compared on validation data under {}; --tune compares them"
    assert output.err.splitlines() == [
        untuned.format(rows[0], tmp_path),
        "dropout_logistic_3x1024: the loss is not finite at step 3",
        untuned.format(rows[1], tmp_path),
    ]
    (found,) = record.read_all("mnist_table2", tmp_path)
    assert found.config["row"] == "dropout_relu_3x1024" and found.path.name in output.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "row"),
    [
        (mnist_table2, "dropout_maxnorm_maxout_2x5x240"),
        (regularizers_table9, "l2_kl_sparsity"),
        (gaussian_table10, "mnist_gaussian"),
        (past_the_paper, "dropout_r_drop"),
        (monte_carlo_figure11, "dropout_relu_maxnorm_3x1024"),
    ],
    ids=lambda value: value if isinstance(value, str) else NAMES[value],
)
def test_a_quick_run_leaves_the_record_of_its_row(small_images, tmp_path, module, row):
    (found,) = launched(module, tmp_path, "--rows", row)
    assert is_of(found, module, row)
    assert found.extra["updates"] == found.extra["evaluated_at"][-1] == 2 * 4  # 400 images
    assert {"test_error", "train_error"} <= set(found.final)
    if module is monte_carlo_figure11:
        assert {f"mc_error_{k}" for k in (1, 3, 5, 7)} <= set(found.final)


@pytest.mark.slow
def test_a_record_on_own_rows_runs_again_bit_for_bit(small_images, tmp_path, capsys):
    (found,) = launched(dataset_size_figure10, tmp_path, "--rows", "dropout_100")
    assert is_of(found, dataset_size_figure10, "dropout_100")
    assert found.extra["updates"] == 2  # 100 of the 400 images
    with pytest.raises(SystemExit) as stop:
        rerun.main([str(found.path)])
    assert stop.value.code == 0
    assert "test_error: equal\ntrain_error: equal\n" in capsys.readouterr().out


def test_filters_are_shown_where_images_have_ink():
    images = jnp.zeros((100, 3)).at[:, 1].set(0.5).at[7, 2].set(0.5)
    assert features_figures7_8.often_lit(images).tolist() == [False, True, True]
    assert features_figures7_8.often_lit(jnp.tile(images, (2, 1)).at[7].set(0)).tolist() == [
        False, True, False,
    ]  # fmt: skip


def test_histograms_of_both_arms_have_the_same_bins_and_lose_nothing():
    small, large = (
        features_figures7_8.histograms(scale * np.arange(12.0).reshape(4, 3)) for scale in (0.1, 9)
    )
    for name, count in (("unit_means", 3), ("activities", 12)):
        np.testing.assert_array_equal(small[f"{name}_edges"], large[f"{name}_edges"])
        assert small[name].sum() == large[name].sum() == count
        assert large[name][-1] and not small[name][-1]  # what is larger is in the last bin


@pytest.mark.slow
def test_features_are_recorded_for_both_arms(small_images, tmp_path, capsys):
    dropped, plain = sorted(
        launched(features_figures7_8, tmp_path), key=lambda r: -r.config["rate"]
    )
    assert (dropped.config["rate"], plain.config["rate"]) == (0.5, 0.0)
    for r in (dropped, plain):
        assert 0 <= r.final["zero_percent"][0] <= 100 and len(r.final["mean_activity"]) == 2
        assert sum(r.extra["unit_means"]) == 32  # all hidden units
        assert paper_figures.mosaic(r.extra["filters"]).size
    assert "mean activity" in capsys.readouterr().out


@pytest.mark.slow
def test_an_autoencoder_learns_what_is_not_the_mean_image(monkeypatch):
    same = images()._replace(train_x=np.ones((400, 16)), test_x=np.ones((200, 16)))
    monkeypatch.setattr(data, "load", lambda name, data_dir=None: same)
    final = features_figures7_8.run(features_figures7_8.Config(seeds=1, quick=True))["final"]
    assert (final["test_reconstruction"][0], final["zero_percent"][0]) == (0, 100)


@pytest.mark.slow
def test_rate_advice_sweeps_in_one_program(tmp_path, capsys, monkeypatch):
    programs, make_train = [], rate_advice.train.make_train
    monkeypatch.setattr(
        rate_advice.train, "make_train", lambda *a, **k: programs.append(1) or make_train(*a, **k)
    )
    (found,) = launched(rate_advice, tmp_path, "--hidden", "16", "--rates", "0", "0.5")
    assert programs == [1]
    assert set(found.final) == {
        f"{n}_{r}" for n in ("val_error", "train_error") for r in ("0", "0.5")
    }
    assert found.extra["advice"][0].startswith("use a rate of")
    assert found.final["val_error_0"] != found.final["val_error_0.5"]
    assert "validation error %" in capsys.readouterr().out
