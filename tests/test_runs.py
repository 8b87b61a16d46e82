"""`fit` and `run` from the host: in place, reproducible, and never a silent loss of work."""

import functools
import re
import shutil
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import dropout_jax as dj
from dropout_jax import checkpoint, runs, train

KEY = jax.random.key(0)
BATCH = 16  # four updates an epoch
EPS = float(jnp.finfo(jnp.float32).eps)


def task(n=64, seed=99):
    x = jax.random.normal(jax.random.key(seed), (n, 8))
    return x, (x[:, 0] > 0).astype(jnp.int32)


def mlp(seed=0, hidden=32):
    return dj.layers.MLP((8, hidden, 2), rates=0.5, rngs=nnx.Rngs(seed))


def fit(model, *, x=None, y=None, optimizer=None, **options):
    options = {"key": KEY, "epochs": 3, "batch_size": BATCH, "progress": False} | options
    given = task()
    x, y = given[0] if x is None else x, given[1] if y is None else y
    return dj.fit(model, optimizer or optax.adam(1e-2), x, y, **options)


def params_of(model):
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def assert_same(a, b):
    """Bitwise."""
    chex.assert_trees_all_equal(a, b)


LOOP = train.make_loop(
    lambda rngs, hyper: dj.layers.MLP((8, 32, 2), rates=0.5, rngs=rngs),
    lambda hyper: optax.sgd(hyper["learning_rate"]),
    batch_size=BATCH,
)
DATA = {"train": task(), "test": task(40, 98)}


def run(*, loop=LOOP, key=KEY, learning_rate=0.125, data=DATA, **options):
    state = loop.init(key, {"learning_rate": learning_rate}, data)
    return runs.run(loop, state, data, **({"epochs": 4, "progress": False} | options))


@functools.cache
def straight_run(epochs=4, every=1):
    return run(epochs=epochs, evaluate_every=every)


def weights(state):
    return nnx.to_pure_dict(state.params)


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
        fit(mlp(), epochs=epochs, loss=lambda *a: calls.append(1) or train.cross_entropy(*a))
        return len(calls)

    assert calls_of_loss(5) == calls_of_loss(1) >= 1


@pytest.mark.slow
def test_run_does_not_trace_an_epoch_again():
    """`run` starts with hyperparameters as they were given, and goes on with what jit returned."""
    calls = []
    loop = train.make_loop(
        lambda rngs, hyper: dj.layers.MLP((8, 32, 2), rates=hyper["rate"], rngs=rngs),
        lambda hyper: optax.sgd(0.1),
        batch_size=BATCH,
        loss=lambda *a: calls.append(1) or train.cross_entropy(*a),
    )
    for epochs in (1, 3):
        runs.run(loop, loop.init(KEY, {"rate": 0.5}, DATA), DATA, epochs=epochs, progress=False)
    assert len(calls) == 2


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
    state, history = runs.run(LOOP, state, DATA, epochs=2, in_turn=in_turn, progress=False)
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
    state, history = runs.run(LOOP, state, DATA, epochs=3, progress=progress)
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
        runs.run(loop, state, DATA, epochs=3, progress=False)


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


# --- interruptions


def stop_after(epoch, how):
    """An `on_epoch` that interrupts once that epoch is trained."""
    seen = []

    def on_epoch(state):
        seen.append(1)  # the first call is with the state that the run starts from
        if len(seen) == epoch + 1:
            how()

    return on_epoch


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize("epoch, every, kept", [(1, 1, 0), (3, 1, 2), (4, 1, 3), (4, 2, 2)])
def test_ctrl_c_keeps_what_was_evaluated_and_the_same_call_completes(
    epoch, every, kept, tmp_path, capsys
):
    straight, expected = straight_run(every=every)
    with pytest.raises(KeyboardInterrupt):
        run(evaluate_every=every, checkpoint_dir=tmp_path, on_epoch=stop_after(epoch, ctrl_c))
    line = capsys.readouterr().err
    assert line == (
        f"interrupted; {kept} of 4 epochs complete, saved in {tmp_path}; "
        "the same call goes on from there.\n"
    )
    starts = []
    state, history = run(evaluate_every=every, checkpoint_dir=tmp_path, on_epoch=starts.append)
    assert int(starts[0].step) == 4 * kept
    assert_same(weights(state), weights(straight))
    assert_same(history.metrics, expected.metrics)
    np.testing.assert_array_equal(history.epochs, expected.epochs)


def test_ctrl_c_without_checkpoints_says_so(capsys):
    with pytest.raises(KeyboardInterrupt):
        run(on_epoch=stop_after(2, ctrl_c))
    assert "nothing saved: no checkpoint_dir was given" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_during_a_save_is_not_called_saved(tmp_path, capsys, monkeypatch):
    save = checkpoint.save

    def interrupted(manager, step, *rest):
        if step == 2:
            raise KeyboardInterrupt
        save(manager, step, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", interrupted)
        run(checkpoint_dir=tmp_path)
    assert "interrupted; 1 of 4 epochs complete" in capsys.readouterr().err
    assert_same(weights(run(checkpoint_dir=tmp_path)[0]), weights(straight_run()[0]))


@pytest.mark.slow
def test_a_complete_run_comes_back_without_training_and_can_be_prolonged(tmp_path):
    state, history = run(checkpoint_dir=tmp_path)
    calls = []
    again, same = run(checkpoint_dir=tmp_path, on_epoch=calls.append)
    assert len(calls) == 1
    assert_same(weights(again), weights(state))
    assert_same(same.metrics, history.metrics)
    np.testing.assert_array_equal(same.seconds, history.seconds)
    longer, history = run(checkpoint_dir=tmp_path, epochs=6)
    straight, expected = straight_run(epochs=6)
    assert_same(weights(longer), weights(straight))
    assert_same(history.metrics, expected.metrics)
    with pytest.raises(checkpoint.CheckpointError, match="has made 6 epochs, and 3 were asked for"):
        run(checkpoint_dir=tmp_path, epochs=3)
    assert_same(weights(run(checkpoint_dir=tmp_path, epochs=6)[0]), weights(straight))


@pytest.mark.slow
def test_fit_goes_on_from_its_checkpoint(tmp_path):
    straight, part, whole = mlp(), mlp(), mlp()
    fit(part, epochs=2, checkpoint_dir=tmp_path)
    history = fit(whole, checkpoint_dir=str(tmp_path))
    assert_same(history.metrics, fit(straight).metrics)
    assert_same(params_of(whole), params_of(straight))


@pytest.mark.slow
def test_runs_side_by_side_go_on_from_their_checkpoint(tmp_path):
    def train_for(epochs, folder=None):
        hyper = {"learning_rate": jnp.array([0.125, 1e38])}  # NaN goes through a checkpoint as well
        state = jax.vmap(LOOP.init, (None, 0, None))(KEY, hyper, DATA)
        return runs.run(LOOP, state, DATA, epochs=epochs, progress=False, checkpoint_dir=folder)

    train_for(1, tmp_path)
    (resumed, history), (straight, expected) = train_for(3, tmp_path), train_for(3)
    assert_same(weights(resumed), weights(straight))
    assert_same(history.metrics, expected.metrics)


@pytest.mark.slow
def test_low_precision_and_numbers_as_hyperparameters_go_on_bitwise(tmp_path):
    """A weak type that a checkpoint made strong would promote bfloat16 to float32."""
    loop = train.make_loop(
        lambda rngs, hyper: nnx.Linear(8, 2, param_dtype=jnp.bfloat16, rngs=rngs),
        lambda hyper: optax.sgd(hyper["learning_rate"], momentum=hyper["momentum"]),
        batch_size=BATCH,
    )

    def train_for(epochs, folder=None):
        state = loop.init(KEY, {"learning_rate": 0.1, "momentum": 0.9}, DATA)
        state, _ = runs.run(loop, state, DATA, epochs=epochs, progress=False, checkpoint_dir=folder)
        return weights(state)

    train_for(1, tmp_path)
    assert_same(train_for(3, tmp_path), train_for(3))


OTHERS = {
    "key": {"key": jax.random.key(1)},
    "batch size": {"batch_size": 8},
    "inputs": {"x": task()[0].at[0, 0].add(1.0)},
    "targets": {"y": 1 - task()[1]},
    "number of examples": {"x": task()[0][:48], "y": task()[1][:48]},
    "model": {"model": lambda: mlp(hidden=16)},
    "deeper model": {
        "model": lambda: dj.layers.MLP((8, 32, 32, 2), rates=0.5, rngs=nnx.Rngs(0)),
    },
    "optimizer": {"optimizer": optax.sgd(0.1)},
    "learning rate": {"optimizer": optax.adam(2e-2)},
    "rate": {"model": lambda: dj.layers.MLP((8, 32, 2), rates=0.25, rngs=nnx.Rngs(0))},
    "schedule of the rate": {
        "model": lambda: dj.layers.MLP((8, 32, 2), rates=dj.rates.early(0.5, 9), rngs=nnx.Rngs(0))
    },
    "loss": {"loss": dj.losses.r_drop(alpha=1.0)},
    "thinning": {"thin": dj.Thin(steps=2, block=8)},
    "key implementation": {"key": jax.random.key(0, impl="rbg")},
}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory):
    """A checkpoint after one epoch."""
    folder = tmp_path_factory.mktemp("one_epoch")
    fit(mlp(), epochs=1, checkpoint_dir=folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("change", OTHERS)
def test_a_checkpoint_of_another_run_is_refused_and_survives(change, one_epoch):
    options = dict(OTHERS[change])
    intruder = options.pop("model", mlp)()
    before, files = params_of(intruder), contents(one_epoch)
    with pytest.raises(
        checkpoint.CheckpointError, match="choose another folder, or delete this one"
    ):
        fit(intruder, checkpoint_dir=one_epoch, **options)
    assert_same(params_of(intruder), before)
    assert contents(one_epoch) == files


def test_other_hyperparameters_are_another_run(tmp_path):
    run(epochs=1, checkpoint_dir=tmp_path)
    with pytest.raises(
        checkpoint.CheckpointError, match="another key, hyperparameters or training data"
    ):
        run(learning_rate=0.25, checkpoint_dir=tmp_path)


def test_what_is_evaluated_is_no_part_of_the_run(one_epoch, tmp_path):
    shutil.copytree(one_epoch, tmp_path / "copy")
    options = {"epochs": 2, "validation_data": task(40, 98)}
    resumed = fit(mlp(), checkpoint_dir=tmp_path / "copy", **options)
    straight = fit(mlp(), **options)
    assert_same(resumed["loss"], straight["loss"])
    assert np.isnan(resumed["val_error"][0]) and resumed["val_error"][1] == straight["val_error"][1]
    longer = fit(mlp(), checkpoint_dir=tmp_path / "copy", epochs=3)  # without validation again
    np.testing.assert_array_equal(np.isnan(longer["val_error"]), [True, False, True])


def weighted(weights):
    return lambda model, x, y: jnp.mean(weights[y] * jnp.sum(model(x) ** 2, axis=-1))


SETTINGS = {
    "array rate": lambda v: {
        "model": dj.layers.MLP((8, 4, 2), rates=jnp.float32(v), rngs=nnx.Rngs(0))
    },
    "schedule": lambda v: {
        "model": dj.layers.MLP((8, 4, 2), rates=dj.rates.early(v, 100), rngs=nnx.Rngs(0))
    },
    "injected": lambda v: {"optimizer": optax.inject_hyperparams(optax.sgd)(learning_rate=v)},
    "captured by the optimizer": lambda v: {
        "optimizer": optax.chain(optax.sgd(0.1), dj.max_norm(jnp.float32(v)))
    },
    "captured by the loss": lambda v: {"loss": weighted(jnp.array([1.0, v]))},
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_numbers_that_only_arrays_hold_tell_runs_apart(kind, tmp_path):
    def go(value, epochs):
        options = SETTINGS[kind](value)
        fit(options.pop("model", None) or mlp(), epochs=epochs, checkpoint_dir=tmp_path, **options)

    go(0.5, 1)
    with pytest.raises(checkpoint.CheckpointError, match="of a run with another"):
        go(0.25, 2)
    go(0.5, 2)


def test_a_trained_model_goes_on_from_its_own_checkpoint(tmp_path):
    model = dj.layers.MLP((8, 4, 2), rates=dj.rates.early(0.5, 100), rngs=nnx.Rngs(0))
    optimizer = optax.inject_hyperparams(optax.adam)(
        learning_rate=optax.linear_schedule(1e-2, 0, 9)
    )
    for epochs in (1, 2):
        history = fit(model, epochs=epochs, optimizer=optimizer, checkpoint_dir=tmp_path)
    assert len(history.epochs) == 2


def test_a_checkpoint_of_another_program_says_what_it_may_be(one_epoch):
    with pytest.raises(checkpoint.CheckpointError, match="another program .batch size, rates"):
        fit(mlp(), checkpoint_dir=one_epoch, optimizer=optax.adam(2e-2))


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    model = mlp()
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(
            checkpoint.CheckpointError, match=f"cannot write checkpoints to {folder}"
        ):
            fit(model, checkpoint_dir=folder)


# --- what is printed, and mistakes


def test_without_progress_nothing_is_printed(tmp_path, capfd):
    fit(mlp(), validation_data=task(), checkpoint_dir=tmp_path)
    fit(mlp(), validation_data=task(), checkpoint_dir=tmp_path)
    assert capfd.readouterr() == ("", "")


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
        ({"key": jax.random.PRNGKey(0)}, TypeError, r"write jax\.random\.key\(0\)"),
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
