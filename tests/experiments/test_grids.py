"""The grids of the experiments on the paper's tables and figures. What would make this wrong: a
retention taken for a rate, settings of another row, a choice made on the test set."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers.paper_records import GRIDS, NAMES, by_row

from experiments import (
    architectures_figure4,
    dataset_size_figure10,
    gaussian_table10,
    mnist_table2,
    pylearn2_recipe,
    rate_figure9,
    regularizers_table9,
)
from experiments.harness.grid import no_candidates
from experiments.nets import sgd
from experiments.nets.config import Config
from experiments.records import literature, trials


def candidates(module):
    return getattr(module, "candidates", no_candidates)


@pytest.mark.parametrize("module", GRIDS, ids=NAMES.get)
@pytest.mark.parametrize("budget", ["cpu", "paper"])
def test_a_grid_has_a_max_norm_a_layer_and_its_budget_names_its_rows(module, budget):
    found = by_row(module, budget)
    assert set(module.BUDGETS[budget].rows) <= set(found)
    for config in found.values():
        assert config.max_norm is None or len(config.max_norm) == len(config.hidden) + 1
        assert config.validation == 0
        for trial in candidates(module)(config):
            same = dataclasses.replace(trial, **trials.tuned(vars(config)))
            assert same == config  # a trial varies what may be tuned, and nothing else


def test_table_2_has_every_published_net_with_dropout_and_without():
    found = by_row(mnist_table2)
    theirs = {
        n.removeprefix("table2/") for n in literature.PUBLISHED if n.startswith("table2/dropout")
    }
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
    at = sgd.learning_rate(config, 264_000)
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
        assert config in regularizers_table9.candidates(config)


def test_l1_has_an_effect_in_the_updates_of_the_cpu_budget():
    """It moves a weight by a tenth of He's standard deviation or more; 1e-6 moved none by 1e-4."""
    config = by_row(regularizers_table9, "cpu")["l2_l1"]
    updates = regularizers_table9.BUDGETS["cpu"].updates
    at = sgd.learning_rate(config, updates)
    first = round((1 - sgd.L1_SHARE) * updates)
    moved = config.l1 * float(jnp.sum(at(jnp.arange(first, updates)))) / (1 - config.momentum)
    assert moved > 0.1 * math.sqrt(2 / 1024)


@pytest.mark.parametrize("module", [architectures_figure4, gaussian_table10])
@pytest.mark.parametrize("budget", ["cpu", "paper"])
def test_one_setting_for_all_is_not_chosen(module, budget):
    found = module.grid(budget)
    assert len({config.learning_rate for config in found}) == 1
    assert all(candidates(module)(config) == [config] for config in found)


@pytest.mark.parametrize("budget", ["cpu", "paper"])
def test_figure_9_compares_the_same_learning_rates_times_keep(budget):
    for config in rate_figure9.grid(budget):
        tried = [c.learning_rate / (1 - config.rate) for c in rate_figure9.candidates(config)]
        assert tried == pytest.approx(rate_figure9.LEARNING_RATES)
        assert config in rate_figure9.candidates(config)


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
        assert dataset_size_figure10.candidates(config) == [config]
        at = sgd.learning_rate(config, 6000)
        assert at(0) == at(6000) == 0.1 and config.momentum == 0.95


def test_the_rows_of_deepnet_have_its_settings_in_the_scaled_convention():
    found = by_row(dataset_size_figure10)
    config, plain = found["deepnet_dropout_100"], found["deepnet_standard_100"]
    assert config.max_norm == (3 * 0.8, 1.5, 1.5, 1.5)
    np.testing.assert_allclose(config.weight_factors, (0.64, 0.25, 0.25, 0.25))
    std = (0.8e-3 / 32, 0.5 / 32, 0.5 / math.sqrt(2048), 0.5 / math.sqrt(10))
    np.testing.assert_allclose(config.init_deviations, std)
    at = sgd.learning_rate(config, 1_000_000)
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
        Config(hidden=(8,), input_rate=1 - kept[0], rate=1 - kept[1], updates=10),
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

    plain = dataclasses.replace(
        config, momentum=0.9, momentum_start=None, decay="linear", decay_to=1
    )
    found = logits(sgd.optimizer(plain, 10), config.init_deviations, [1 / keep for keep in kept])
    theirs = logits(
        sgd.optimizer(dataclasses.replace(plain, weight_factors=None, max_norm=(3.0, 3.0)), 10),
        (0.001 / math.sqrt(8), 1 / math.sqrt(10)), [1, 1],
    )  # fmt: skip
    assert np.ptp(theirs) > 0.1  # it has moved
    np.testing.assert_allclose(found, theirs, atol=1e-4)
