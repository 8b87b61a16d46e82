"""Networks, penalties and schedules of the MLP experiments, against sums by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from experiments.nets import mlp, sgd
from experiments.nets.config import Config


def test_the_divergence_is_that_of_poisson_laws():
    k = np.arange(60)
    logs = np.array([math.lgamma(n + 1) for n in k])

    def law(mean):
        return np.exp(k * math.log(mean) - mean - logs)

    for target, mean in ((0.1, 0.1), (0.1, 2.0), (1.5, 0.5)):
        by_hand = np.sum(law(target) * np.log(law(target) / law(mean)))
        assert float(mlp.divergence(target, jnp.float32(mean))) == pytest.approx(by_hand, abs=1e-5)
    assert np.isfinite(mlp.divergence(0.1, jnp.zeros(3))).all()


def network(**options):
    config = Config(hidden=(6,), rate=0.0, input_rate=0.0, pieces=2, **options)
    return mlp.network(config, 4, nnx.Rngs(0))


@pytest.mark.slow
def test_sparsity_adds_the_divergence_of_every_hidden_unit():
    model, x, y = network(), jnp.arange(20.0).reshape(5, 4) / 10, jnp.array([0, 1, 2, 0, 1])
    hidden, logits = mlp.activities(model, x)
    assert jnp.array_equal(logits, model(x))
    assert jnp.array_equal(hidden, nnx.relu(model.linears[0](x)))
    plain = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))
    q = np.maximum(np.asarray(hidden).mean(axis=0), 1e-6)
    by_hand = float(plain) + 0.3 * np.sum(0.1 * np.log(0.1 / q) - 0.1 + q)
    sparse, usual = mlp.loss_of(Config(kl_sparsity=0.3)), mlp.loss_of(Config())
    assert float(sparse(model, x, y)) == pytest.approx(by_hand, rel=1e-5)
    assert float(usual(model, x, y)) == pytest.approx(float(plain))


def test_a_maxout_unit_is_the_largest_of_its_pieces():
    model, x = network(activation="maxout"), jnp.arange(8.0).reshape(2, 4)
    w, b = (np.asarray(a[...]) for a in (model.linears[0].kernel, model.linears[0].bias))
    assert w.shape == (4, 12)
    pieces = np.asarray(x) @ w + b
    by_hand = np.stack([pieces[:, 2 * i : 2 * i + 2].max(axis=1) for i in range(6)], axis=1)
    assert np.allclose(mlp.activities(model, x)[0], by_hand, rtol=1e-6)


def test_initial_weights_are_within_their_ranges():
    model = network(init_ranges=(0.01, 0.0))
    first, last = (np.abs(linear.kernel[...]) for linear in model.linears)
    assert 0 < first.max() <= 0.01 and last.max() == 0


def test_initial_weights_have_their_deviations():
    config = Config(hidden=(200,), init_deviations=(0.5, 2.0))
    kernels = [linear.kernel[...] for linear in mlp.network(config, 300, nnx.Rngs(0)).linears]
    for kernel, deviation in zip(kernels, (0.5, 2.0), strict=True):
        # The sum of squares is chi-squared; normal to within its sixth standard deviation here.
        n = kernel.size
        z = (float(jnp.sum((kernel / deviation) ** 2)) - n) / math.sqrt(2 * n)
        assert abs(z) < 7  # false alarm: 1e-9 or less


def test_gaussian_noise_takes_the_place_of_every_dropout():
    model = network(noise="gaussian")
    assert [type(d).__name__ for d in model.dropouts] == ["GaussianDropout"] * 2


def test_penalties_reach_the_weights_alone_and_l1_comes_late():
    penalty = sgd.weight_penalty(l2=0.5, l1=0.25, l1_from=1)
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
    at = sgd.learning_rate(Config(learning_rate=2.0, decay=decay, decay_to=0.01), 100)
    assert [float(at(n)) for n in (0, 50, 100)] == pytest.approx([2, 2 * middle, 0.02])


def test_max_norm_is_a_layer_each():
    model = network()
    params = nnx.state(model, nnx.Param)
    optimizer = sgd.optimizer(Config(max_norm=(0.5, 0.25)), 10)
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    after = optax.apply_updates(params, updates)
    for layer, c in ((0, 0.5), (1, 0.25)):
        lengths = jnp.linalg.norm(after["linears"][layer]["kernel"][...], axis=0)
        assert float(lengths.max()) == pytest.approx(c, rel=1e-5)
