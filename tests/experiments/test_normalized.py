"""Noise behind batch normalisation. What would make this wrong: noise before the normalisation,
which takes it out again, or none on the output or the input; a learning rate that falls too early;
statistics with noise in them, or of images that are not for training, at the test."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers.small_data import images

import dropout_jax as dj
from dropout_jax import data
from experiments import batch_norm_shift, ladder_baseline
from experiments.harness.splits import load_splits
from experiments.nets.normalized import NormalizedMLP


def network(law, amount=0.5, input_amount=0.3):
    return NormalizedMLP(
        (6, 8, 5, 3), law=law, amount=amount, input_amount=input_amount, rngs=nnx.Rngs(0)
    )


def test_without_noise_it_is_the_formula():
    model, x = network("additive", 0.0, 0.0), jax.random.normal(jax.random.key(0), (40, 6))
    for i, bias in enumerate(model.biases):
        bias[...] = jnp.linspace(-1, 1, bias.size).reshape(bias.shape) + i
    model.scale[...] = jnp.array([[1.0, 2.0, -3.0]])
    h = np.asarray(x, np.float64)
    for i, (linear, bias) in enumerate(zip(model.linears, model.biases, strict=True)):
        z = h @ np.asarray(linear.kernel[...], np.float64)
        z = (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) + np.asarray(bias[...])
        h = z * np.asarray(model.scale[...]) if i == 2 else np.maximum(z, 0)
    np.testing.assert_allclose(model(x), h, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("law", "before", "after"),
    [
        ("additive", [0.5, 0.5, 0.5], [0.0, 0.0]),
        ("gaussian", [0.0, 0.0, 0.0], [0.5, 0.5]),
        ("bernoulli", [0.0, 0.0, 0.0], [0.5, 0.5]),
    ],
)
def test_added_noise_is_on_every_layer_and_factors_are_on_the_hidden_ones(law, before, after):
    model = network(law)
    assert [noise.amount for noise in model.before] == before
    assert [noise.amount for noise in model.after] == after
    assert model.input_noise.amount == 0.3


def test_added_noise_is_not_normalised_away():
    """Of weights 0 the normalised layer is 0, and the logits are the noise of the output."""
    model = network("additive")
    model.linears[-1].kernel[...] = jnp.zeros((5, 3))
    n = 30_000
    logits = model(jnp.ones((n // 3, 6)))
    # The variance of n normals of sd 0.5 is off by 5.4 standard errors once in 1e7 samples.
    assert abs(float(jnp.mean(logits**2)) - 0.25) < 5.4 * 0.25 * np.sqrt(2 / n)
    model.eval()
    assert not model(jnp.ones((4, 6))).any()


def test_the_learning_rate_falls_in_the_last_third():
    config = ladder_baseline.Config(constant=0.6)
    steps, state = [], ladder_baseline.optimizer(config, 10).init(jnp.ones(()))
    for _ in range(10):  # of a constant gradient Adam's step is the learning rate
        update, state = ladder_baseline.optimizer(config, 10).update(jnp.ones(()), state)
        steps.append(-float(update))
    falling = [0.002 * share for share in (1, 0.75, 0.5, 0.25)]
    np.testing.assert_allclose(steps, [0.002] * 6 + falling, rtol=1e-4)


def test_an_average_of_the_weights_leaves_the_updates_as_they_are():
    both = optax.sgd(0.5), ladder_baseline.averaged(optax.sgd(0.5), 0.9)
    weights = by_hand = jnp.array([1.0, -2.0])
    states = [o.init(weights) for o in both]
    for grads in jnp.array([[1.0, 2.0], [-3.0, 0.5]]):
        updates, states = zip(
            *(o.update(grads, s, weights) for o, s in zip(both, states, strict=True)), strict=True
        )
        np.testing.assert_array_equal(*updates)
        weights = optax.apply_updates(weights, updates[0])
        by_hand = 0.9 * by_hand + 0.1 * weights
    np.testing.assert_allclose(states[1].average, by_hand, rtol=1e-6)


@pytest.mark.slow
def test_the_test_is_of_statistics_of_clean_training_images(monkeypatch):
    monkeypatch.setattr(data, "load", lambda name, data_dir=None: images())
    config = ladder_baseline.Config(row="x", quick=True, seeds=1, validation=100, ema=0.5)
    seen, tested = [], []
    monkeypatch.setattr(dj, "recalibrate", lambda model, x: seen.append((model, x)))
    monkeypatch.setattr(
        dj, "evaluate", lambda model, x, y: tested.append((len(seen), x)) or {"error": 0.5}
    )
    final = ladder_baseline.run(config)["final"]
    splits = load_splits(config)
    ((_, x),) = seen
    np.testing.assert_array_equal(x, splits["train"][0])
    assert [(when, len(x)) for when, x in tested] == [(0, 100), (1, 300), (1, 100)]
    assert set(final) == {"val_error", "train_error", "noisy_statistics_val_error"}


@pytest.mark.parametrize(
    ("place", "rates"),
    [("none", [0, 0, 0]), ("before", [0.5, 0.5, 0]), ("after", [0, 0, 0.5])],
)
def test_dropout_stands_before_or_after_the_last_normalisation(place, rates):
    config = batch_norm_shift.Config(place=place, rate=0.5, hidden=(4, 4, 4))
    model = batch_norm_shift.network(config, 6, nnx.Rngs(0))
    kinds = [type(layer).__name__ for layer in model.layers if isinstance(layer, nnx.Module)]
    assert kinds == ["Linear", "BatchNorm", "Dropout"] * 3 + ["Linear"]
    assert [m.rate for m in model.layers if isinstance(m, dj.layers.Dropout)] == rates
