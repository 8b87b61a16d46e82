"""The tables of the paper's experiments, of made-up records. What would make this wrong: a number
beside the wrong one, a difference between runs that do not differ in the noise alone."""

import math

import pytest
from helpers.paper_records import write
from helpers.tables import rows

from experiments import (
    dataset_size_figure10,
    gaussian_table10,
    mnist_table2,
    monte_carlo_figure11,
    past_the_paper,
    pylearn2_recipe,
    rate_figure9,
    regularizers_table9,
)
from experiments.report.blocks import table


def test_the_rates_of_deepnet_s_weights_are_those_that_they_have(tmp_path):
    write(tmp_path, dataset_size_figure10, "deepnet_dropout_100", [25.0])
    found = {r["row"]: r for r in rows(table("dataset_size_figure10", tmp_path))}
    settings = found["deepnet_dropout_100"]["settings"]
    assert settings.startswith("lr 0.64/0.25/0.25/0.25, of biases 1, c 2.4/1.5/1.5/1.5")
    assert "momentum 0.5 to 0.99, initial" in settings
    write(tmp_path, dataset_size_figure10, "deepnet_exp_dropout_100", [25.0])
    found = {r["row"]: r for r in rows(table("dataset_size_figure10", tmp_path))}
    assert "0.99 exponentially, initial" in found["deepnet_exp_dropout_100"]["settings"]


def test_a_table_puts_each_run_beside_its_published_number(tmp_path):
    row, plain = "dropout_relu_maxnorm_3x1024", "standard_relu_maxnorm_3x1024"
    path = write(tmp_path, mnist_table2, row, [1.1, 1.3])
    write(tmp_path, mnist_table2, plain, [1.6, 1.8])
    text = table("mnist_table2", tmp_path)
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
    text = table("dataset_size_figure10", tmp_path)
    assert "0.50 ± 0.10 (5.0 standard errors) points lower" in text


def test_deepnet_s_dropout_is_compared_on_the_draws_that_both_had(tmp_path):
    write(tmp_path, dataset_size_figure10, "deepnet_dropout_100", [20.0, 30.0])
    write(tmp_path, dataset_size_figure10, "standard_100", [20.4, 30.6, 99.0])
    write(tmp_path, dataset_size_figure10, "deepnet_dropout_500", [9.0])  # beside nothing
    text = table("dataset_size_figure10", tmp_path)
    assert "0.50 ± 0.10 points lower than standard_100 (" in text and "over 2 draws" in text
    write(tmp_path, dataset_size_figure10, "deepnet_dropout_100", [10.0, 20.0], updates=200_000)
    text = table("dataset_size_figure10", tmp_path)
    assert "0.50 ± 0.10 points lower" in text and "10.50 ± 0.10 points lower" in text
    assert "standard_500" not in text.split("Settings:")[1]


def test_in_short_the_longest_run_stands_beside_what_was_published(tmp_path):
    row = "dropout_relu_maxnorm_3x1024"
    path = write(tmp_path, mnist_table2, row, [1.1, 1.3])
    write(tmp_path, mnist_table2, row, [2.0, 2.2], updates=10_000, budget="cpu")
    write(tmp_path, pylearn2_recipe, "dropout_60k", [1.0, 1.2], updates=264_000)
    found = {r["row"]: r for r in rows(table("in_short", tmp_path))}
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
    found = {r["row"]: r for r in rows(table("in_short", tmp_path))}
    assert found[row]["ours %"] == "1.20"
    write(tmp_path, mnist_table2, row, [1.1], updates=200_000, products="bfloat16")
    found = {r["row"]: r for r in rows(table("in_short", tmp_path))}
    assert found[row]["updates (of theirs)"] == "200 000 (20.0%), bfloat16 products"


def test_how_a_run_was_made_is_among_its_settings_and_arms_differ_in_dropout_alone(tmp_path):
    how = {"life": 10, "products": "bfloat16"}
    write(tmp_path, mnist_table2, "dropout_relu_3x1024", [1.0], **how)
    write(tmp_path, mnist_table2, "standard_relu_3x1024", [1.5])
    text = table("mnist_table2", tmp_path)
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
        return {r["row"]: r["settings"] for r in rows(table("mnist_table2", tmp_path))}

    c = "c 1.6/1/1/1, momentum 0.95"
    assert settings()[row] == f"lr 0.05, {c}; best of 3 on validation"
    assert settings()[other] == "lr 0.1, momentum 0.95; set beforehand"
    write(tmp_path, mnist_table2, row, [1.4, 1.3], learning_rate=0.1)  # not the best trial's
    assert settings()[row] == f"lr 0.1, {c}; set beforehand"


def test_a_row_s_penalties_are_among_its_settings(tmp_path):
    write(tmp_path, regularizers_table9, "l2_l1", [1.5, 1.6])
    write(tmp_path, pylearn2_recipe, "dropout_60k", [1.0, 1.1])
    (found,) = (r for r in rows(table("regularizers_table9", tmp_path)) if r["seeds"] == "2")
    assert found["settings"] == "lr 0.1, momentum 0.95, L2 0.0001, L1 1e-06; set beforehand"
    found = rows(table("pylearn2_recipe", tmp_path))[0]["settings"]
    assert found.startswith("lr 0.097259, c 4.378/2.97/4.627, momentum 0.5 to 0.699; ")


@pytest.mark.parametrize(("budget", "difference"), [("paper", "+0.14, +1.4"), ("cpu", "–")])
def test_a_difference_is_given_where_the_protocol_is_the_published_one(
    tmp_path, budget, difference
):
    row = "dropout_relu_maxnorm_3x1024"
    write(tmp_path, mnist_table2, row, [1.1, 1.3], budget=budget)
    found = {r["row"]: r["difference, s.e."] for r in rows(table("mnist_table2", tmp_path))}
    assert found[row] == difference
    write(tmp_path, pylearn2_recipe, "dropout_60k", [1.0, 1.2], budget=budget)
    found = rows(table("pylearn2_recipe", tmp_path))[0]
    assert found["difference, s.e."] == "+0.05, +0.5"  # at either budget


def test_the_range_of_figure_4_is_beside_nets_of_relus_alone(tmp_path):
    for net in ("logistic_3x1024", "relu_3x1024", "maxnorm_maxout_2x5x240"):
        write(tmp_path, mnist_table2, f"dropout_{net}", [1.1, 1.3])
    found = {r["row"]: r["published %"] for r in rows(table("mnist_table2", tmp_path))}
    assert found["dropout_relu_3x1024"] == "1.25; 1.21 to 1.43 at 100k (Figure 4)"
    assert found["dropout_logistic_3x1024"] == "1.35"
    assert found["dropout_maxnorm_maxout_2x5x240"] == "0.94"


def test_the_recipe_is_compared_with_itself_without_dropout(tmp_path):
    write(tmp_path, pylearn2_recipe, "dropout_60k", [1.0, 1.1], budget="cpu")
    write(tmp_path, pylearn2_recipe, "standard_60k", [1.5, 1.6], budget="cpu")
    text = table("pylearn2_recipe", tmp_path)
    assert "60k, 100 000 updates: with dropout the test error is 0.50 ± 0.07" in text
    assert [r["published %"] for r in rows(text)] == ["1.05", "–"]


def test_gaussian_noise_is_compared_with_bernoulli_s(tmp_path):
    write(tmp_path, gaussian_table10, "mnist_bernoulli", [1.4, 1.6], budget="cpu")
    write(tmp_path, gaussian_table10, "mnist_gaussian", [1.2, 1.4], budget="cpu")
    text = table("gaussian_table10", tmp_path)
    assert "mnist, 100 000 updates: with Gaussian noise the test error is 0.20 ± 0.14" in text
    assert text.count("points lower") == 1


def test_r_drop_is_compared_with_dropout_alone(tmp_path):
    write(tmp_path, past_the_paper, "dropout", [1.4, 1.6], budget="cpu")
    write(tmp_path, past_the_paper, "dropout_r_drop", [1.2, 1.4], budget="cpu")
    write(tmp_path, past_the_paper, "gaussian_r_drop", [1.2, 1.4], budget="cpu")
    text = table("past_the_paper", tmp_path)
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
    found = {r["row"]: r for r in rows(table("past_the_paper", tmp_path))}
    assert "alpha 1; best of 2 on validation" in found["dropout_r_drop"]["settings"]


def test_the_curves_of_figures_9_and_10_stand_at_their_points(tmp_path):
    write(tmp_path, rate_figure9, "n_fixed_0.9", [3.0, 3.2])
    found = {r["row"]: r for r in rows(table("rate_figure9", tmp_path))}
    assert found["n_fixed_0.9"]["published %"] == "3.19 ± 0.09"  # p = 0.1
    assert found["pn_fixed_0"]["published %"] == "1.70 ± 0.12"
    write(tmp_path, dataset_size_figure10, "dropout_100", [26.0, 27.0])
    found = {r["row"]: r for r in rows(table("dataset_size_figure10", tmp_path))}
    assert found["dropout_100"]["published %"] == "26.62 ± 2.72"
    assert found["standard_100"]["published %"] == "22.84 ± 2.04"
    assert found["dropout_100"]["network"] == "1024-1024-2048, 100 images"


def test_figure_11_has_a_row_a_number_of_passes(tmp_path):
    final = {"mc_error_1": [2.0, 2.2], "mc_error_3": [1.2, 1.4]}
    extra = {"final": final, "sd_over_draws": {"1": [0.2, 0.2], "3": [0.1, 0.1]}}
    row = "dropout_relu_maxnorm_3x1024"
    write(tmp_path, monte_carlo_figure11, row, [1.0, 1.2], extra=extra)
    scaling, one, three = rows(table("monte_carlo_figure11", tmp_path))
    assert scaling["published %"] == "1.050" and scaling["ours %"] == "1.100 ± 0.100"
    assert one["published %"] == "–" and three["published %"] == "1.281"
