"""Both conventions of the paper, and the exact map between them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dropout_jax as dj

# scale_for_inference


def test_one_keep_for_all_and_biases_left_alone():
    params = {"a": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "b": [jnp.ones((3, 3, 1, 2))]}
    scaled = dj.scale_for_inference(params, 0.8)
    np.testing.assert_array_equal(scaled["a"]["kernel"], np.full((2, 3), np.float32(0.8)))
    np.testing.assert_array_equal(scaled["a"]["bias"], np.ones(3))
    np.testing.assert_array_equal(scaled["b"][0], np.full((3, 3, 1, 2), np.float32(0.8)))
    assert jax.tree.structure(scaled) == jax.tree.structure(params)


def test_a_prefix_gives_each_layer_its_own_keep():
    layer = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    params = {"input": layer, "hidden": {"a": layer, "b": layer}}
    keep = {"input": 0.8, "hidden": {"a": 0.5, "b": {"kernel": 0.25, "bias": 1.0}}}
    scaled = dj.scale_for_inference(params, keep)
    found = [float(scaled["input"]["kernel"][0, 0])]
    found += [float(scaled["hidden"][name]["kernel"][0, 0]) for name in "ab"]
    np.testing.assert_array_equal(np.float32(found), np.float32([0.8, 0.5, 0.25]))
    assert all(float(leaf.min()) == 1 for leaf in jax.tree.leaves(scaled) if leaf.ndim == 1)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_a_bare_array_is_scaled_whatever_its_rank(shape):
    np.testing.assert_array_equal(dj.scale_for_inference(jnp.ones(shape), 0.5), np.full(shape, 0.5))


def test_keep_is_applied_in_float32_and_rounded_once():
    weight = jnp.linspace(1, 2, 500).astype(jnp.bfloat16)[None]
    scaled = dj.scale_for_inference({"w": weight}, 0.8)["w"]
    right = (np.asarray(weight, np.float32) * np.float32(0.8)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(scaled, right)
    assert scaled.dtype == jnp.bfloat16 and (np.asarray(weight * jnp.bfloat16(0.8)) != right).any()


def test_keep_may_be_traced():
    scaled = jax.jit(dj.scale_for_inference)({"w": jnp.ones((2, 2))}, {"w": 0.25})
    np.testing.assert_array_equal(scaled["w"], np.full((2, 2), 0.25))


@pytest.mark.parametrize("keep", [1.5, -0.1, np.nan, {"w": 2.0}])
def test_keep_outside_its_range(keep):
    with pytest.raises(ValueError, match="keep is .*between 0 and 1.*keeping"):
        dj.scale_for_inference({"w": jnp.ones((2, 2))}, keep)


@pytest.mark.parametrize("keep", [{"v": 0.5}, {"w": {"x": 0.5}}, [0.5]])
def test_keep_that_is_no_prefix(keep):
    with pytest.raises(ValueError):
        dj.scale_for_inference({"w": jnp.ones((2, 2))}, keep)


# The map

HYPER = {"init_scale": 0.01, "max_norm": 2.0, "learning_rate": 0.1}
HYPER |= {"weight_decay": 1e-4, "l1": 1e-5}


def test_the_map_of_the_papers_settings():
    """c = 2 becomes 1.6 for weights fed by the input (keep 0.8), 1 for the others (keep 0.5)."""
    for keep, c, factor in [(0.8, 1.6, 0.64), (0.5, 1.0, 0.25)]:
        mapped = dj.to_scaled_convention({"max_norm": 2.0, "learning_rate": 1.0}, keep)
        assert mapped == pytest.approx({"max_norm": c, "learning_rate": factor}, rel=1e-15)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.8, 1.0, 1])
def test_the_maps_are_inverses(keep):
    there = dj.to_scaled_convention(HYPER, keep)
    assert dj.to_paper_convention(there, keep) == pytest.approx(HYPER, rel=1e-14)
    back = dj.to_paper_convention(HYPER, keep)
    assert dj.to_scaled_convention(back, keep) == pytest.approx(HYPER, rel=1e-14)
    if keep == 1:
        assert there == HYPER
    else:
        assert all(there[name] != HYPER[name] for name in HYPER)


def test_schedules_and_arrays_are_mapped():
    def decay(step):
        return 0.1 / (1 + step)

    hyper = {"learning_rate": decay, "max_norm": jnp.array([1.0, 2.0])}
    mapped = dj.to_scaled_convention(hyper, 0.5)
    assert mapped["learning_rate"](4) == pytest.approx(0.005)
    assert mapped["learning_rate"].__name__ == "decay"
    np.testing.assert_array_equal(mapped["max_norm"], [0.5, 1.0])
    back = dj.to_paper_convention(mapped, 0.5)
    assert back["learning_rate"](4) == pytest.approx(decay(4))
    traced = jax.jit(lambda keep: dj.to_scaled_convention({"learning_rate": 0.1}, keep))(0.5)
    assert float(traced["learning_rate"]) == pytest.approx(0.025)


@pytest.mark.parametrize("to", [dj.to_scaled_convention, dj.to_paper_convention])
def test_bad_hyperparameters(to):
    with pytest.raises(ValueError, match="'momentum'; known: init_scale, max_norm, learning_rate"):
        to({"momentum": 0.9}, 0.5)
    with pytest.raises(ValueError, match=r"keep is 0: .*write a keep in \(0, 1\]"):
        to(HYPER, 0)
    for keep in (1.5, -0.5, np.nan):
        with pytest.raises(ValueError, match="keep is"):
            to(HYPER, keep)


# The proof: 300 steps of momentum SGD, every layer at its own rate, projections included.

RATES = [0.25, 0.5, 0.375]  # of each weight matrix's input; exact in float32, as masks are drawn
SIZES = [10, 16, 12, 3]
PAPER = {"init_scale": 0.5, "learning_rate": 0.2, "max_norm": 1.0, "weight_decay": 1e-3, "l1": 1e-4}
STEPS = 300


def trajectory(drop, hypers):
    """Weights after training, and how often the max-norm projection shrank a column."""
    inputs = jax.random.normal(jax.random.key(1), (64, SIZES[0]), jnp.float64)
    labels = jax.random.randint(jax.random.key(2), (64,), 0, SIZES[-1])
    shapes = list(zip(SIZES[:-1], SIZES[1:], strict=True))
    weights = [
        hyper["init_scale"] * jax.random.normal(jax.random.key(10 + i), shape, jnp.float64)
        for i, (shape, hyper) in enumerate(zip(shapes, hypers, strict=True))
    ]
    biases = [jnp.zeros(n) for n in SIZES[1:]]

    def loss(params, key):
        h = inputs
        for i, (w, b, rate) in enumerate(zip(*params, RATES, strict=True)):
            h = drop(jax.random.fold_in(key, i), h, rate) @ w + b[None]
            h = jax.nn.relu(h) if i < 2 else h
        return -jnp.take_along_axis(jax.nn.log_softmax(h), labels[:, None], 1).mean()

    def step(carry, key):
        (weights, biases), (weight_speed, bias_speed), hits = carry
        weight_grads, bias_grads = jax.grad(loss)((weights, biases), key)
        for i, hyper in enumerate(hypers):
            decay = hyper["weight_decay"] * weights[i] + hyper["l1"] * jnp.sign(weights[i])
            weight_speed[i] = 0.9 * weight_speed[i] + weight_grads[i] + decay
            moved = weights[i] - hyper["learning_rate"] * weight_speed[i]
            norm = jnp.linalg.norm(moved, axis=0, keepdims=True)
            weights[i] = moved * jnp.minimum(1, hyper["max_norm"] / norm)
            hits += (norm > hyper["max_norm"]).sum()
            bias_speed[i] = 0.9 * bias_speed[i] + bias_grads[i]
            biases[i] = biases[i] - PAPER["learning_rate"] * bias_speed[i]
        return ((weights, biases), (weight_speed, bias_speed), hits), None

    start = ([*weights], [*biases])
    carry = (start, jax.tree.map(jnp.zeros_like, start), 0)
    (params, _, hits), _ = jax.lax.scan(step, carry, jax.random.split(jax.random.key(3), STEPS))
    return params, int(hits)


def predictions(weights, biases):
    h = np.asarray(jax.random.normal(jax.random.key(4), (50, SIZES[0]), jnp.float64))
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        h = h @ np.asarray(w) + np.asarray(b)
        h = np.maximum(h, 0) if i < 2 else h
    return np.asarray(jax.nn.softmax(h))


@functools.cache
def paper_run():
    """Predictions of the paper's convention, and how often the projection was at work."""
    (weights, biases), hits = trajectory(dj.dropout_unscaled, [PAPER] * 3)
    keeps = [1 - rate for rate in RATES]
    return predictions(dj.scale_for_inference(weights, keeps), biases), hits


@pytest.mark.slow
def test_both_conventions_follow_one_trajectory(x64):
    paper, hits = paper_run()
    assert hits > STEPS

    mapped = [dj.to_scaled_convention(PAPER, 1 - rate) for rate in RATES]
    (scaled_weights, scaled_biases), scaled_hits = trajectory(dj.dropout, mapped)
    assert scaled_hits == hits
    scaled = predictions(scaled_weights, scaled_biases)
    np.testing.assert_allclose(scaled, paper, rtol=0, atol=1e-12)

    (weights, biases), _ = trajectory(dj.dropout, [PAPER] * 3)
    assert np.abs(predictions(weights, biases) - paper).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
def test_every_part_of_the_map_is_needed(x64, name):
    """Leaving one hyperparameter unmapped leaves the trajectory."""
    mapped = [dj.to_scaled_convention(PAPER, 1 - rate) | {name: PAPER[name]} for rate in RATES]
    (weights, biases), _ = trajectory(dj.dropout, mapped)
    assert np.abs(predictions(weights, biases) - paper_run()[0]).max() > 1e-4


@pytest.mark.slow
def test_both_runs_share_their_masks(x64):
    x, key = jnp.ones((64, 10)), jax.random.key(5)
    mask = dj.bernoulli_mask(key, 0.25, x.shape)
    np.testing.assert_array_equal(dj.dropout_unscaled(key, x, 0.25) != 0, mask)
    np.testing.assert_array_equal(dj.dropout(key, x, 0.25) != 0, mask)
