"""Many seeds trained side by side. What would make this wrong: the test set read where validation
data were asked for, seeds and epochs swapped, a share taken for a percentage, arms that start from
other weights, cases that a run should not see."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dropout_jax import layers
from dropout_jax.data import Dataset
from experiments.harness import few_cases
from experiments.harness.splits import splits
from experiments.harness.training import check_counts, percent, seed_keys, train_seeds


def dataset():
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    return Dataset("none", x, np.arange(6), 100 + x, 10 + np.arange(6), "ab")


def test_without_validation_the_test_set_is_reported():
    got = splits(dataset(), 0)
    assert set(got) == {"train", "test"}
    assert got["train"][1].tolist() == list(range(6))
    assert got["test"][1].tolist() == list(range(10, 16))


def test_with_validation_the_test_set_is_not_read():
    got = splits(dataset()._replace(test_x=None, test_y=None), 2)
    labels = {name: y.tolist() for name, (_, y) in got.items()}
    assert labels == {"train": [0, 1, 2, 3], "val": [4, 5]}
    assert got["val"][0].tolist() == [[8, 9], [10, 11]]


def test_most_cuts_after_the_validation_data_are_set_aside():
    got = splits(dataset(), 3, 2)
    assert {name: y.tolist() for name, (_, y) in got.items()} == {"train": [0, 1], "val": [3, 4]}
    assert all(len(x) == 2 for x, _ in got.values())


def test_the_keys_are_those_of_the_seeds():
    assert (seed_keys(3)[2] == jax.random.key(2)).all()


def test_a_count_below_one_is_named_as_its_flag():
    check_counts(seeds=1)
    with pytest.raises(ValueError, match="--batch-size is 0; write 1 or more"):
        check_counts(seeds=1, batch_size=0)


def test_percentages_are_rounded_to_what_float32_holds():
    assert percent(np.array([0.0145, 1 / 3], np.float32)).tolist() == [1.45, 33.3333]


SPLITS = {"train": (jnp.eye(16), jnp.arange(16) % 2), "test": (jnp.eye(16)[:4], jnp.arange(4) % 2)}


def build(rngs, hyper):
    return layers.MLP((16, 8, 2), rates=hyper.get("rate", 0.5), rngs=rngs)


def trained(**options):
    options = {"seeds": 2, "epochs": 4, "batch_size": 4} | options
    return train_seeds(build, lambda updates: optax.sgd(0.1), SPLITS, **options)


@pytest.fixture(scope="module")
def two():
    return trained()


def test_a_result_is_by_run_then_by_evaluation(two):
    result = two.result(note=1)
    history = two.history["test_error"]  # evaluations, runs
    assert history.shape == (4, 2)
    by_epoch = result["by_epoch"]["test_error"]
    np.testing.assert_array_equal(by_epoch, percent(history.T))
    assert set(result["final"]) == set(result["by_epoch"]) == {"test_error", "train_error"}
    assert result["final"]["test_error"].tolist() == by_epoch[:, -1].tolist()
    assert result["extra"]["updates"] == 4 * 4 and result["extra"]["note"] == 1
    assert result["extra"]["evaluated_at"].tolist() == [1, 2, 3, 4]
    second = two.result(slice(1, None))["by_epoch"]["test_error"]
    assert second.tolist() == by_epoch[1:].tolist()


def test_the_networks_are_those_of_the_errors(two):
    x, y = SPLITS["train"]
    for run in (0, 1):
        model = two.model(run)
        model.eval()
        wrong = percent(jnp.mean(jnp.argmax(model(x), axis=-1) != y))
        assert wrong == two.train_error()[run] == two.result()["final"]["train_error"][run]
    assert two.model().linears[0].kernel.shape == (2, 16, 8)


def test_the_optimizer_is_told_the_updates_of_the_run():
    """A learning rate that is 0 from the last update but one on, so that nothing moves there."""
    asked = []

    def optimizer(updates):
        asked.append(updates)
        return optax.sgd(lambda step: 0.1 * (step < updates - 4))

    outcome = train_seeds(build, optimizer, SPLITS, seeds=1, epochs=3, batch_size=4)
    assert set(asked) == {12}
    assert outcome.result()["by_epoch"]["test_error"].shape == (1, 3)


def test_a_single_seed_is_trained_with_vmap_or_without():
    """Both give one run, of the same network but for the rounding of sums."""
    one, alone = trained(seeds=1), trained(seeds=1, unbatched=True)
    for outcome in (one, alone):
        assert outcome.history["loss"].shape == (4, 1)
        assert outcome.state.params["linears"][0]["kernel"].shape == (1, 16, 8)
    a, b = (np.asarray(o.model(0).linears[0].kernel[...]) for o in (one, alone))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_first_of_many_seeds_is_the_single_one(two):
    a, b = (np.asarray(o.model(0).linears[0].kernel[...]) for o in (trained(seeds=1), two))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_arms_with_hyperparameters_start_from_the_same_weights():
    rates = jnp.repeat(jnp.array([0.0, 0.9]), 2)
    outcome = trained(runs={"rate": rates}, epochs=1)
    assert outcome.state.key.shape == (4,)
    assert (outcome.state.key[:2] == outcome.state.key[2:]).all()
    losses = outcome.history["loss"][0]
    assert losses[0] != losses[2]


def test_seeds_in_turn_are_those_side_by_side(two):
    a, b = (o.model(1).linears[0].kernel[...] for o in (two, trained(in_turn=True)))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_no_bar_is_drawn_where_nobody_looks(capsys):
    trained(seeds=1, epochs=1, label="a bar")
    assert capsys.readouterr().err == ""


def test_a_run_sees_the_cases_that_it_draws_alone():
    """The loss of cases that it does not draw is NaN, and none is met."""
    key = jax.random.key(0)
    rows = few_cases.draw_rows(SPLITS["train"], 4, key)
    assert len(set(rows.tolist())) == 4
    x = jnp.full((16, 16), jnp.nan).at[rows].set(SPLITS["train"][0][rows])
    own = SPLITS | {"train": (x, SPLITS["train"][1])}
    options = dict(seeds=1, epochs=3, batch_size=4, training_cases=4)
    outcome = train_seeds(build, lambda updates: optax.sgd(0.1), own, **options)
    assert np.isfinite(outcome.history["loss"]).all()
    assert outcome.train_error() <= 100
    other = few_cases.draw_rows(SPLITS["train"], 4, jax.random.key(1))
    assert set(other.tolist()) != set(rows.tolist())


@pytest.mark.slow
@pytest.mark.parametrize("batch", [4, 2])
def test_epochs_that_share_a_call_change_nothing(monkeypatch, batch):
    options = dict(training_cases=4, batch_size=batch, epochs=24 * batch // 4, evaluations=3)
    together = trained(**options)
    monkeypatch.setattr(few_cases, "CALL_UPDATES", 1)
    apart = trained(**options)
    assert together.history.metrics["loss"].shape == (3, 2)
    for part in ("final", "by_epoch"):
        for name, values in apart.result()[part].items():
            np.testing.assert_array_equal(together.result()[part][name], values, err_msg=name)
    np.testing.assert_array_equal(together.history.epochs, apart.history.epochs)


@pytest.mark.parametrize(
    ("epochs", "every", "per_epoch", "count"),
    [(1_000_000, 50_000, 1, 400), (12, 4, 2, 4), (100, 5, 600, 1), (7, 7, 1, 7), (21, 4, 1, 1)],
)
def test_a_call_holds_few_updates_and_evaluations_fall_between_calls(
    epochs, every, per_epoch, count
):
    assert few_cases.epochs_per_call(epochs, every, per_epoch) == count
    assert epochs % count == every % count == 0
    assert count == 1 or count * per_epoch <= few_cases.CALL_UPDATES
