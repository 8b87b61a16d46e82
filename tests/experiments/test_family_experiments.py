"""The experiments of the family. What would make this wrong: a rate chosen on the test set,
a method with the network of another, a KL weight that does not rise, pruned weights counted."""

import math
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers.small_data import images

from dropout_jax import data, layers, train
from experiments import concrete_synthetic, convnet, family, sparse_variational
from experiments.nets import members

# In the fast loop the contract and the doctests stand for these: they compile much.
pytestmark = pytest.mark.slow

SIZES = (16, 32, 32, 10)
METHODS = get_args(members.Method)


def network(method, rate=0.3):
    return members.network(method, SIZES, rate, 30, nnx.Rngs(0))


def test_every_member_has_rates_to_choose_from():
    assert set(family.GRIDS) == set(METHODS)
    for method in METHODS:
        tried = family.candidates(family.Config(method=method))
        assert len(tried) == (len(family.GRIDS[method]) if len(family.GRIDS[method]) > 1 else 0)
        assert all(c.method == method and c.validation == 10_000 for c in tried)  # not the test set
        assert tuple(c.rate for c in tried) in (family.GRIDS[method], ())


def test_the_rate_of_the_lowest_validation_error_is_chosen(tmp_path, monkeypatch):
    """Of two that are as good the lower one."""
    errors = {0.1: 2.0, 0.3: 1.8, 0.5: 1.8}

    def run(config, checkpoint_dir):
        return {"final": {"val_error": [errors[config.rate]], "train_error": [0.0]}}

    monkeypatch.setattr(family, "run", run)
    monkeypatch.setattr(data, "load", lambda name, data_dir=None: images())
    chosen = family.with_best_rate(family.Config(method="dropout", out=tmp_path))
    assert (chosen.rate, chosen.validation, chosen.seeds) == (0.3, 0, 3)


@pytest.mark.parametrize("method", METHODS)
def test_a_member_is_noisy_in_training_alone(method):
    """Every network learns on one loss, draws noise, but for a few, and none when evaluated."""
    model, x = network(method), jnp.ones((4, 16))
    y = jnp.arange(4)
    noisy = method not in ("none", "selu", "late")  # the last begins with none
    assert bool((model(x) == model(x)).all()) != noisy
    value, grads = nnx.value_and_grad(members.loss_of(method, 100))(model, x, y)
    assert jnp.isfinite(value)
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))
    model.eval()
    assert bool((model(x) == model(x)).all())


def test_schedules_end_and_begin_after_a_third_of_the_updates():
    rates_of = {}
    for method in ("early", "late", "curriculum"):
        model = network(method, 0.5)
        rates_of[method] = []
        for _ in range(30):
            model(jnp.ones((1, 16)))
            rates_of[method].append(float(model.dropouts[2].rate))
    assert rates_of["early"][0] == 0.5 and set(rates_of["early"][10:]) == {0}
    assert set(rates_of["late"][:10]) == {0} and set(rates_of["late"][10:]) == {0.5}
    assert rates_of["curriculum"] == sorted(rates_of["curriculum"])
    assert 0.49 < rates_of["curriculum"][-1] < 0.5


@pytest.mark.parametrize(
    ("method", "rate"), [("concrete_dropout", 0.1), ("variational_dropout", 0.2)]
)
def test_learned_rates_begin_at_theirs(method, rate):
    graphdef, state = nnx.split(network(method, rate))
    model = nnx.merge(graphdef, jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), state))
    assert members.learned_rates(method, model) == [[pytest.approx(rate)] * 2] * 3


def test_standout_drops_a_unit_at_0_with_its_rate():
    keep = members.Standout(0.3, rngs=nnx.Rngs(0))
    x = jnp.full((4,), 2.0)
    expected = 2 / (1 + math.exp(-(2 + math.log(0.7 / 0.3))))
    assert keep(x, deterministic=True).tolist() == pytest.approx([expected] * 4)
    assert jax.nn.sigmoid(keep.beta) == pytest.approx(0.7)


def test_the_weight_of_the_kl_rises_from_0_to_1():
    epochs = [0, 5, 12.5, 20, 200]
    assert [float(sparse_variational.kl_weight(e, 5, 20)) for e in epochs] == [0, 0, 0.5, 1, 1]


def test_the_loss_counts_its_updates():
    """10 updates an epoch, the KL from epoch 0.5 to 1.5: half of it at the 11th update."""
    model = sparse_variational.Net((4, 3, 2), rngs=nnx.Rngs(0))
    loss = sparse_variational.make_loss(100, 10, 0.5, 1.5)
    x, y = jnp.ones((10, 4)), jnp.zeros(10, jnp.int32)
    kl = float(layers.total_kl(model)) / 100
    model.eval()  # no noise, so that only the weight changes
    plain = float(train.cross_entropy(model, x, y))
    found = [(float(loss(model, x, y)) - plain) / kl for _ in range(17)]
    assert found[:6] == pytest.approx([0] * 6, abs=1e-4)
    assert found[10] == pytest.approx(0.5, abs=1e-4)
    assert found[15:] == pytest.approx([1, 1], abs=1e-4)
    assert int(model.step[...]) == 17


def test_compression_counts_the_weights_that_are_left():
    sizes = (10, 4, 5)
    assert sparse_variational.compression({"kept1": 1.0, "kept2": 1.0}, sizes) == 1
    assert sparse_variational.compression({"kept1": 0.05, "kept2": 0.4}, sizes) == 6  # 60 / (2 + 8)
    assert sparse_variational.compression({"kept1": 0.0, "kept2": 0.0}, sizes) == math.inf
    published = {"kept1": 0.011, "kept2": 0.028, "kept3": 0.38}
    assert 68 <= sparse_variational.compression(published, (784, 300, 100, 10)) < 72


def test_an_impossible_schedule_is_an_error():
    with pytest.raises(ValueError, match="--kl-from is 20"):
        sparse_variational.run(sparse_variational.Config(kl_from=20))


def test_convnet_has_every_arm_without_and_with_dropout_of_the_dense_layer():
    found = [(c.maps, c.maps_rate, c.dense_rate) for c in convnet.configs(convnet.Study())]
    maps = [("none", 0.0), ("element", 0.2), ("spatial", 0.2), ("block", 0.2)]
    assert found == [(*m, dense) for dense in (0.0, 0.5) for m in maps]


def test_the_convolution_is_that_of_flax():
    ours = convnet.Conv3x3(2, 5, rngs=nnx.Rngs(0))
    flax = nnx.Conv(2, 5, (3, 3), padding="VALID", rngs=nnx.Rngs(0))
    flax.kernel[...] = ours.linear.kernel[...].reshape(3, 3, 2, 5)
    x = jax.random.normal(jax.random.key(1), (3, 9, 8, 2))
    eps = 18 * 6 * jnp.finfo(jnp.float32).eps  # 18 products of a few units
    np.testing.assert_allclose(ours(x), flax(x), rtol=0, atol=float(eps))
    np.testing.assert_array_equal(
        convnet.max_pool(x), nnx.max_pool(x, (2, 2), strides=(2, 2), padding="VALID")
    )


@pytest.mark.parametrize("maps", get_args(convnet.Maps))
def test_feature_maps_are_dropped_as_the_arm_says(maps):
    y = convnet.map_noise(maps, 0.5, nnx.Rngs(0))(jnp.ones((8, 13, 13, 4)))
    assert bool((y == 1).all()) == (maps == "none")
    assert bool((y == y[:, :1, :1]).all()) == (maps in ("none", "spatial"))


def test_concrete_synthetic_makes_the_updates_of_the_notebook():
    epochs = {10: 2000, 25: 1000, 50: 500, 100: 200, 1000: 20, 10_000: 2}
    assert {
        n: math.ceil(n / concrete_synthetic.BATCH) * times for n, times in epochs.items()
    } == concrete_synthetic.UPDATES
    found = concrete_synthetic.configs(concrete_synthetic.Study())
    assert {c.examples: c.updates for c in found} == concrete_synthetic.UPDATES
    with pytest.raises(ValueError, match="choose from 10, 25"):
        concrete_synthetic.configs(concrete_synthetic.Study(examples=(11,)))


def test_moments_are_those_of_the_passes():
    samples = jnp.array(
        [[[1.0, 0.0], [5.0, 2.0]], [[3.0, 0.0], [5.0, 4.0]]]
    )  # means, log variances
    found = concrete_synthetic.moments(samples, jnp.array([2.0, 3.0]))
    assert float(found["rmse"]) == pytest.approx(math.sqrt(2))  # errors 0 and 2
    assert float(found["epistemic_sd"]) == pytest.approx(math.sqrt(0.5))  # variances 1 and 0
    assert float(found["aleatoric_sd"]) == pytest.approx(math.sqrt((1 + math.exp(3)) / 2))


def test_repetitions_have_data_of_their_own():
    first, again, other = (concrete_synthetic.draw(seed, 10) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    x, y = concrete_synthetic.draw(0, 100_000)
    slope, intercept = np.polyfit(x[:, 0], y[:, 0], 1)
    bound = 6.2 / math.sqrt(len(x))  # a false alarm in 1e9
    assert abs(slope - 2) < bound and abs(intercept - 8) < bound
