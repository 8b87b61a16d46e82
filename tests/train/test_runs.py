"""`fit` and `run` from the host: in place, reproducible, and what they say."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers.small_runs import (
    BATCH,
    DATA,
    EPS,
    KEY,
    LOOP,
    assert_same,
    fit,
    mlp,
    params_of,
    run,
    straight_run,
    task,
    weights,
)

import dropout_jax as dj
from dropout_jax import train
from dropout_jax.train import runner

# --- fit


def test_fit_trains_in_place_and_leaves_evaluation_mode():
    model = mlp()
    before = params_of(model)
    fit(model)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, params_of(model))
    assert all(jax.tree.leaves(moved))
    assert all(drop.deterministic for drop in model.dropouts)
    x, _ = task()
    np.testing.assert_array_equal(model(x), model(x))


def test_history():
    history = fit(mlp(), validation_data=task(40, 98))
    assert set(history.metrics) == {"loss", "val_loss", "val_error"}
    assert all(values.shape == (3,) for values in history.metrics.values())
    np.testing.assert_array_equal(history.epochs, [1, 2, 3])
    assert history.seconds.shape == (3,) and np.all(history.seconds > 0)
    assert history["val_loss"] is history.metrics["val_loss"]
    assert np.all(np.diff(history["loss"]) < 0)


def test_history_without_validation_data():
    assert set(fit(mlp()).metrics) == {"loss"}


def test_own_loss_and_metrics():
    def squared(model, x, y):
        return jnp.mean((model(x)[:, 0] - y) ** 2)

    x, y = task()
    model = mlp()
    history = fit(model, loss=squared, metrics={"mse": squared}, validation_data=(x, y))
    assert set(history.metrics) == {"loss", "val_mse"}
    np.testing.assert_allclose(history["val_mse"][-1], squared(model, x, y), rtol=len(x) * EPS)


def test_validation_metrics_are_those_of_the_model_that_comes_back():
    model, (x, y) = mlp(), task(40, 98)
    history = fit(model, validation_data=(np.asarray(x), np.asarray(y)))
    logits = model(x)
    loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()
    assert history["val_error"][-1] == np.float32(np.mean(np.argmax(logits, -1) != y))
    np.testing.assert_allclose(history["val_loss"][-1], loss, rtol=len(x) * EPS)


@pytest.mark.slow
def test_the_key_decides_the_run():
    used = mlp()
    for _ in range(3):  # its streams are somewhere else now
        used(task()[0])
    model, other = mlp(), mlp()
    histories = [fit(model), fit(used), fit(other, key=jax.random.key(1))]
    assert_same(histories[0].metrics, histories[1].metrics)
    assert_same(params_of(model), params_of(used))
    assert np.all(histories[0]["loss"] != histories[2]["loss"])


@pytest.mark.slow
def test_the_models_own_seed_matters_only_through_its_parameters():
    model, other = mlp(0), mlp(1)
    nnx.update(other, nnx.state(model, nnx.Param))
    assert_same(fit(model).metrics, fit(other).metrics)


@pytest.mark.slow
def test_fit_does_not_trace_an_epoch_again():
    def calls_of_loss(epochs):
        calls = []
        # A loss of its own for each call: of equal ones the compiled epoch would be used again.
        fit(mlp(), epochs=epochs, loss=lambda *a: calls.append(epochs) or train.cross_entropy(*a))
        return len(calls)

    assert calls_of_loss(5) == calls_of_loss(1) >= 1


@pytest.mark.slow
def test_run_does_not_trace_an_epoch_again():
    """`run` starts with hyperparameters as they were given, and goes on with what jit returned.

    A second run of the loop uses the program of the first.
    """
    calls = []
    loop = train.make_loop(
        lambda rngs, hyper: dj.layers.MLP((8, 32, 2), rates=hyper["rate"], rngs=rngs),
        lambda hyper: optax.sgd(0.1),
        batch_size=BATCH,
        loss=lambda *a: calls.append(1) or train.cross_entropy(*a),
    )
    for epochs in (1, 3):
        runner.run(loop, loop.init(KEY, {"rate": 0.5}, DATA), DATA, epochs=epochs, progress=False)
    assert len(calls) == 1


class FlaxModel(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(8, momentum=0.5, rngs=rngs)
        self.hidden = nnx.Linear(8, 32, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(32, 2, rngs=rngs)

    def __call__(self, x):
        return self.out(self.drop(nnx.relu(self.hidden(self.norm(x)))))


@pytest.mark.slow
def test_a_flax_model_with_batch_norm_and_dropout():
    x, y = task()
    model = FlaxModel(nnx.Rngs(0))
    history = fit(model, validation_data=(x, y), batch_size=len(x))
    # Every batch is all of x; m <- m / 2 + mean / 2 from 0, three times.
    close = {"rtol": 0, "atol": len(x) * EPS}
    np.testing.assert_allclose(model.norm.mean[...], 0.875 * x.mean(0), **close)
    np.testing.assert_allclose(model.norm.var[...], 0.125 + 0.875 * x.var(0), **close)
    assert model.norm.use_running_average and model.drop.deterministic
    error = np.float32(np.mean(np.argmax(model(x), -1) != y))
    assert history["val_error"][-1] == error


@pytest.mark.slow
def test_a_flax_model_of_stacked_layers():
    class Block(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(8, 8, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return x + self.drop(nnx.relu(self.linear(x)))

    class Stack(nnx.Module):
        def __init__(self, rngs):
            @nnx.split_rngs(splits=3)
            @nnx.vmap(in_axes=(0,), out_axes=0)
            def blocks(rngs):
                return Block(rngs)

            self.blocks = blocks(rngs)
            self.out = nnx.Linear(8, 2, rngs=rngs)

        def __call__(self, x):
            @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
            def forward(x, block):
                return block(x)

            return self.out(forward(x, self.blocks))

    model = Stack(nnx.Rngs(0))
    history = fit(model, validation_data=task())
    assert history["loss"][-1] < history["loss"][0]
    keys = jax.random.key_data(model.blocks.drop.rngs.key[...])
    assert keys.shape[0] == 3 and len(np.unique(keys, axis=0)) == 3


# --- run: many at once, some of which diverge


@pytest.mark.slow
@pytest.mark.parametrize("in_turn", [False, True])
def test_runs_side_by_side(in_turn, monkeypatch):
    turns, one_after_another = [], jax.lax.map
    monkeypatch.setattr(jax.lax, "map", lambda *a: turns.append(a) or one_after_another(*a))
    keys = jax.random.split(KEY, 3)
    hyper = {"learning_rate": jnp.array([0.125, 0.25, 0.5])}
    state = jax.vmap(LOOP.init, (0, 0, None))(keys, hyper, DATA)
    state, history = runner.run(LOOP, state, DATA, epochs=2, in_turn=in_turn, progress=False)
    names = {"loss", "train_loss", "train_error", "test_loss", "test_error"}
    assert set(history.metrics) == names
    assert all(values.shape == (2, 3) for values in history.metrics.values())
    assert state.key.shape == (3,) and len(np.unique(history["loss"])) == 6
    assert bool(turns) == in_turn
    for i, key in enumerate(keys):
        _, alone = run(key=key, learning_rate=hyper["learning_rate"][i], epochs=2)
        for name in names:  # half the digits: a batched product sums in another order
            np.testing.assert_allclose(history[name][:, i], alone[name], rtol=EPS**0.5)


def test_evaluates_the_chosen_splits_when_asked():
    _, history = run(epochs=5, evaluate=("test",), evaluate_every=2)
    assert set(history.metrics) == {"loss", "test_loss", "test_error"}
    np.testing.assert_array_equal(history.epochs, [2, 4, 5])


@pytest.mark.slow
def test_how_often_it_evaluates_changes_nothing():
    (often, _), (rarely, _) = straight_run(), run(evaluate=(), evaluate_every=4)
    assert_same(weights(often), weights(rarely))


@pytest.mark.slow
@pytest.mark.parametrize("progress", [False, True])
def test_one_of_two_runs_diverges_and_the_other_goes_on(progress):
    hyper = {"learning_rate": jnp.array([0.125, 1e38])}
    state = jax.vmap(LOOP.init, (None, 0, None))(KEY, hyper, DATA)
    state, history = runner.run(LOOP, state, DATA, epochs=3, progress=progress)
    _, alone = straight_run(epochs=3)
    np.testing.assert_allclose(history["test_loss"][:, 0], alone["test_loss"], rtol=EPS**0.5)
    assert np.all(np.isfinite(history["loss"][:, 0])) and np.all(np.isnan(history["loss"][:, 1]))


# --- a loss that is not finite


class Counter(nnx.Module):
    """Its loss, or its gradient alone, is infinite in training call number `bad` (from 1)."""

    def __init__(self, bad, where):
        self.linear = nnx.Linear(8, 2, rngs=nnx.Rngs(0))
        self.drop = dj.layers.Dropout(0.5, rngs=nnx.Rngs(0))  # knows whether it is training
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))
        self.bad, self.where = nnx.Variable(jnp.asarray(bad)), where

    def __call__(self, x):
        logits = self.linear(self.drop(x))
        if self.drop.deterministic:
            return logits
        self.calls[...] += 1
        wild = jnp.where(self.calls[...] == self.bad[...], jnp.inf, 0.0)
        if self.where == "gradient":
            return overflow(logits, wild)
        return logits + wild


@jax.custom_jvp
def overflow(x, wild):
    """x, with a gradient that is not finite where wild is not."""
    return x


@overflow.defjvp
def _(primals, tangents):
    return primals[0], tangents[0] * (1 + primals[1])


@pytest.mark.slow
@pytest.mark.parametrize("bad", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(bad, where):
    """Four steps an epoch. A gradient shows in the next step's loss, or in the epoch's weights."""
    step = bad if where == "loss" or bad % 4 == 0 else bad + 1
    epoch = (bad - 1) // 4 + 1
    expected, model = Counter(0, where), Counter(bad, where)
    history = None
    if epoch > 1:
        history = fit(expected, epochs=epoch - 1, validation_data=task())
    with pytest.raises(dj.NonFiniteLossError) as error:
        fit(model, validation_data=task())
    message = str(error.value)
    assert re.search(rf"at step {step} \(epoch {epoch}\); last good metrics: ", message)
    if history is None:
        assert "metrics: none" in message
    else:
        for name, values in history.metrics.items():
            assert f"'{name}': {float(values[-1])}" in message
    assert "Lower the learning rate, or constrain the weights with dj.max_norm" in message
    assert_same(params_of(model), params_of(expected))
    assert model.drop.deterministic


@pytest.mark.slow
def test_all_of_many_runs_diverge():
    """The step is the one at which the last of them did."""
    loop = train.make_loop(
        lambda rngs, hyper: Counter(hyper["bad"], "loss"), lambda hyper: optax.sgd(0.1),
        batch_size=BATCH,
    )  # fmt: skip
    state = jax.vmap(loop.init, (None, 0, None))(KEY, {"bad": jnp.array([6, 1])}, DATA)
    with pytest.raises(dj.NonFiniteLossError, match=r"at step 6 \(epoch 2\)"):
        runner.run(loop, state, DATA, epochs=3, progress=False)


def test_a_nan_in_the_data_stops_the_run():
    x, y = task()
    with pytest.raises(dj.NonFiniteLossError, match=r"\(epoch 1\)"):
        fit(mlp(), x=x.at[7, 3].set(jnp.nan), y=y)


@pytest.mark.parametrize("progress", [False, True])
def test_a_metric_may_be_nan(progress):
    history = fit(
        mlp(), metrics={"odd": lambda *_: jnp.nan}, validation_data=task(), progress=progress
    )
    assert np.all(np.isnan(history["val_odd"]))


# --- what is printed, and mistakes


def test_without_progress_nothing_is_printed(tmp_path, capfd):
    fit(mlp(), validation_data=task(), checkpoint_dir=tmp_path)
    assert capfd.readouterr() == ("", "")
    fit(mlp(), validation_data=task(), checkpoint_dir=tmp_path)
    assert capfd.readouterr() == ("", f"going on from epoch 3 in {tmp_path}.\n")


def test_progress_shows_the_epochs_and_the_metrics(capfd):
    _, history = run(progress=True, label="my run")
    out, err = capfd.readouterr()
    assert out == "" and "my run" in err and "4/4" in err
    assert f"test_error={history['test_error'][-1]:.4f}" in err
    assert f"loss={history['loss'][-1]:.4f}" in err


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"x": task(63)[0]}, ValueError, "train has 63 inputs and 64 targets"),
        ({"batch_size": 65}, ValueError, "batch_size is 65 and there are 64 training examples"),
        ({"validation_data": (task()[0], task()[1][:3])}, ValueError, "val has 64 inputs and 3"),
        ({"epochs": 0}, ValueError, "epochs is 0; write 1 or more"),
        ({"epochs": 2.5}, TypeError, "epochs is 2.5; write a whole number"),
        ({"batch_size": 5.0}, TypeError, "batch_size is 5.0; write a whole number"),
        ({"optimizer": "adam"}, TypeError, "optimizer is 'adam'; write one of optax's"),
        ({"validation_data": (*task(), task()[1])}, ValueError, "validation_data has 3 parts"),
        ({"key": None}, TypeError, r"write jax\.random\.key\(0\)"),
        ({"key": 0}, TypeError, r"write jax\.random\.key\(0\)"),
        ({"key": jax.random.split(KEY)}, ValueError, "holds .* keys and one is needed"),
    ],
)
def test_mistakes_get_a_clear_error_and_leave_the_model_alone(options, error, message):
    model = mlp()
    before = params_of(model)
    with pytest.raises(error, match=message):
        fit(model, **options)
    assert_same(params_of(model), before)
    assert not model.dropouts[1].deterministic
