"""Losses over several masks against the formulas of the papers, with masks that are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy.special import log_softmax, rel_entr

import dropout_jax as dj
from dropout_jax import losses, train

# In the fast loop the contract and the doctests stand for these: they compile much.
pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(3, 4))
Y = np.array([0, 2, 1])
NOISE = 2.0 * np.random.default_rng(1).integers(0, 2, size=(12, 4))  # rows of masks / keep
W = np.random.default_rng(2).normal(size=(4, 3))


class Known(nnx.Module):
    """Multiplies row i of its input by row i of known masks."""

    def __init__(self, noise=NOISE):
        self.weight = nnx.Param(jnp.asarray(W))
        self.noise = jnp.asarray(noise)

    def __call__(self, x):
        return (x * self.noise[: len(x)]) @ self.weight[...]


def logs_under(mask_rows, weight=W):
    """Log-probabilities of the three examples, example i under the mask in row `mask_rows[i]`."""
    return log_softmax((X * NOISE[mask_rows]) @ weight, axis=-1)


def nll(logs):
    return -np.mean(logs[np.arange(3), Y])


def mlp(rate=0.5, seed=0, sizes=(8, 64, 2)):
    return dj.layers.MLP(sizes, rates=(0, rate), rngs=nnx.Rngs(seed))


def hidden(model, x):
    return nnx.relu(model.linears[0](x))


def top(model, h):
    return model.linears[1](model.dropouts[1](h))


def xor(n=64):
    x = jax.random.normal(jax.random.key(99), (n, 8))
    return x, ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(jnp.int32)


OBJECTIVES = {
    "multi_sample": losses.multi_sample(4, features=hidden, head=top),
    "r_drop": losses.r_drop(1.0),
}
both = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


# Multi-sample dropout


def test_multi_sample_is_the_mean_of_the_losses_of_the_masks(x64):
    seen = []

    def features(model, x):
        seen.append(x.shape)
        return x

    objective = losses.multi_sample(4, features=features, head=lambda model, h: model(h))
    expected = np.mean([nll(logs_under(sample + 4 * np.arange(3))) for sample in range(4)])
    np.testing.assert_allclose(objective(Known(), X, Y), expected, rtol=1e-12)
    assert seen == [X.shape]  # the features are computed once, for each example once


def test_multi_sample_of_another_loss(x64):
    objective = losses.multi_sample(
        2, features=lambda model, x: x, head=lambda model, h: model(h)[:, 0], loss=optax.l2_loss
    )
    outputs = (np.repeat(X, 2, axis=0) * NOISE[:6]) @ W[:, 0]
    expected = np.mean((outputs - np.repeat(Y, 2)) ** 2) / 2
    np.testing.assert_allclose(objective(Known(), X, 1.0 * Y), expected, rtol=1e-12)


def test_one_sample_is_the_plain_loss():
    x, y = xor()
    objective = losses.multi_sample(1, features=hidden, head=top)
    assert objective(mlp(), x, y) == train.cross_entropy(mlp(), x, y)


def test_the_copies_of_an_example_have_masks_of_their_own():
    """64 units at rate 0.5: two masks are equal by chance with probability 2^-64."""
    masks = []

    def head(model, h):
        masks.append(model.dropouts[1](jnp.ones_like(h)))
        return top(model, h)

    losses.multi_sample(4, features=hidden, head=head)(mlp(), *xor(3))
    assert len(np.unique(masks[0], axis=0)) == 12


@pytest.mark.parametrize("samples", [0, -1, 2.0])
def test_errors_of_multi_sample(samples):
    with pytest.raises(ValueError, match=f"samples is {samples}.*write"):
        losses.multi_sample(samples, features=hidden, head=top)


# R-Drop


def paper(alpha, first, second):
    """The paper's loss: the sum of both losses, and alpha times the mean of both divergences."""
    p, q = np.exp(first), np.exp(second)
    divergences = rel_entr(p, q).sum(-1) + rel_entr(q, p).sum(-1)
    return nll(first) + nll(second) + alpha * np.mean(divergences) / 2


@pytest.mark.parametrize("alpha", [0.0, 1.0, 5.0])
def test_r_drop_is_half_of_the_papers(alpha, x64):
    first, second = logs_under([0, 2, 4]), logs_under([1, 3, 5])
    found = losses.r_drop(alpha)(Known(), X, Y)
    np.testing.assert_allclose(2 * found, paper(alpha, first, second), rtol=1e-12)


def test_the_default_alpha_is_5():
    assert losses.r_drop()(Known(), X, Y) == losses.r_drop(5.0)(Known(), X, Y)


def test_r_drop_without_dropout_is_cross_entropy(x64):
    x, y = xor()
    found = losses.r_drop(100.0)(mlp(rate=0.0), x, y)
    np.testing.assert_allclose(found, train.cross_entropy(mlp(rate=0.0), x, y), rtol=1e-14)


def test_the_gradient_flows_through_both_passes(x64):
    """Against central differences of the paper's formula; each pass keeps units of its own."""
    noise = np.array([[2.0, 2, 0, 0], [0, 0, 2, 2]] * 3)
    gradient = nnx.grad(losses.r_drop(1.0))(Known(noise), X, Y)["weight"][...]

    def value(weight):
        def logs(rows):
            return log_softmax((X * noise[rows]) @ weight, axis=-1)

        return paper(1.0, logs([0, 2, 4]), logs([1, 3, 5])) / 2

    h, expected = 1e-5, np.zeros(W.shape)
    for at in np.ndindex(*W.shape):
        step = np.zeros(W.shape)
        step[at] = h
        expected[at] = (value(W + step) - value(W - step)) / (2 * h)
    # The differences are off by h^2 and by rounding / h, both 1e-10 times numbers of order one.
    np.testing.assert_allclose(gradient, expected, atol=1e-8)
    assert np.all(np.abs(expected) > 1e-3)


def test_r_drop_of_sequences(x64):
    """Labels of any shape, such as (examples, time)."""

    def rule(x):
        return jnp.stack([x, 2 * x], axis=1)[..., :3]

    x, y = np.repeat(X, 2, axis=0), np.stack([Y, Y[::-1]], axis=1)
    logs = log_softmax(np.asarray(rule(x[::2])), axis=-1)
    expected = -np.mean(np.take_along_axis(logs, y[..., None], axis=-1))
    found = losses.r_drop(1.0)(rule, X, y)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_probabilities_that_underflow_leave_all_finite():
    def rule(w):
        return lambda x: w * jnp.where(jnp.arange(len(x))[:, None] % 2, x, -x)

    value, gradient = jax.value_and_grad(lambda w: losses.r_drop()(rule(w), 1e4 * X, Y))(1.0)
    assert np.isfinite(value) and np.isfinite(gradient)


def test_alpha_may_be_traced():
    sweep = jax.vmap(lambda alpha: losses.r_drop(alpha)(Known(), X, Y))(jnp.array([0.0, 1.0, 2.0]))
    # The rounding of three numbers of order one.
    np.testing.assert_allclose(sweep[2] - sweep[1], sweep[1] - sweep[0], atol=32 * 2.0**-23)


@pytest.mark.parametrize("alpha", [-1.0, float("nan")])
def test_errors_of_r_drop(alpha):
    with pytest.raises(ValueError, match=f"alpha is {alpha}.*write"):
        losses.r_drop(alpha)


# Both, as the loss of a run


@pytest.mark.usefixtures("key_reuse_checked")
@both
def test_no_key_is_used_twice(objective):
    objective(mlp(), *xor())


@both
def test_a_sweep_over_rates_is_one_program_that_learns(objective):
    run = train.make_train(
        lambda rngs, hyper: dj.layers.MLP((8, 64, 2), rates=hyper["rate"], rngs=rngs),
        lambda hyper: optax.adam(1e-2),
        epochs=20,
        batch_size=16,
        loss=objective,
    )
    sweep = jax.jit(jax.vmap(run, (0, 0, None)))
    rates = {"rate": jnp.array([0.0, 0.5])}
    result = sweep(jax.random.split(KEY, 2), rates, {"train": xor()})
    assert np.all(result.losses[:, -1].mean(-1) < result.losses[:, 0].mean(-1))
    assert np.all(result.losses[0] != result.losses[1])


@both
def test_fit_takes_it(objective):
    x, y = xor()
    fit = functools.partial(dj.fit, key=KEY, epochs=2, batch_size=16, progress=False)
    history = fit(mlp(), optax.sgd(0.1), x, y, loss=objective, validation_data=(x, y))
    assert np.all(np.isfinite(history["loss"])) and history["val_error"].shape == (2,)


def test_a_class_that_cannot_be_has_no_part_in_r_drop():
    """The loss and its gradient are those of the other classes."""

    class Barred(Known):
        def __call__(self, x):
            logits = super().__call__(x)
            return jnp.concatenate([logits, jnp.full((len(logits), 1), -jnp.inf)], axis=-1)

    loss = losses.r_drop(alpha=2.0)
    value, grads = nnx.value_and_grad(loss)(Barred(), jnp.asarray(X), jnp.asarray(Y))
    plain, plain_grads = nnx.value_and_grad(loss)(Known(), jnp.asarray(X), jnp.asarray(Y))
    # Sums of a dozen float32 terms, in another order for four classes than for three.
    np.testing.assert_allclose(value, plain, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(plain_grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
