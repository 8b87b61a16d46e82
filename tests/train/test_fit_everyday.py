"""Early stopping, callbacks, metrics of whole sets, optimizers with arguments, kept programs.

What would make this wrong: the weights of another epoch, a stop that a resumed run forgets, a mean
of chunks that is no mean, an old program for a new loss, dropout that is off without a word.
"""

import itertools
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from optax import contrib
from sklearn import metrics as sklearn_metrics

import dropout_jax as dj
from dropout_jax import train
from dropout_jax.train import metrics, runner
from dropout_jax.train.calls import SilentNoiseWarning
from dropout_jax.train.same import Same

KEY = jax.random.key(0)


def task(n=48):
    x = jax.random.normal(jax.random.key(1), (n, 8))
    return x, jnp.argmax(x[:, :3], axis=-1)


def mlp(outputs=3, seed=0):
    return dj.layers.MLP((8, 16, outputs), rates=0.5, rngs=nnx.Rngs(seed))


def linear(outputs=3):
    return nnx.Linear(8, outputs, rngs=nnx.Rngs(0))


def fit(model, x=None, y=None, optimizer=None, **options):
    given = task()
    x, y = given[0] if x is None else x, given[1] if y is None else y
    options = {"key": KEY, "epochs": 3, "batch_size": 16, "progress": False} | options
    return dj.fit(model, optimizer or optax.sgd(0.1), x, y, **options)


def weights(model):
    return jax.tree.leaves(nnx.state(model, nnx.Param))


def assert_same_weights(a, b):
    for left, right in zip(weights(a), weights(b), strict=True):
        np.testing.assert_array_equal(left, right)


# --- early stopping and callbacks


def growing():
    """A validation loss that is best after epoch 3: the weight is 0.1 an epoch, and 0.3 wanted."""

    class One(nnx.Module):
        def __init__(self):
            self.weight = nnx.Param(jnp.zeros(()))

        def __call__(self, x):
            return x * self.weight[...]

    return One()


def grow(model, x, y):
    return -jnp.mean(model(x))


def distance(model, x, y):
    return jnp.abs(jnp.mean(model(x)) - 0.3)


def closeness(model, x, y):
    return -distance(model, x, y)


ONES = jnp.ones(16), jnp.ones(16)
GROW = {"x": ONES[0], "y": ONES[1], "loss": grow, "epochs": 8, "validation_data": ONES}


def test_the_best_epoch_s_weights_are_kept():
    model = growing()
    history = fit(model, metrics={"loss": distance}, keep_best="val_loss", **GROW)
    assert len(history["loss"]) == 8
    assert float(model.weight[...]) == pytest.approx(0.3)


def test_patience_stops_after_so_many_epochs_without_a_better_one():
    model = growing()
    options = GROW | {"metrics": {"score": closeness}, "keep_best": ("val_score", "max")}
    history = fit(model, patience=2, **options)
    assert len(history["loss"]) == 5  # the best is epoch 3
    assert float(model.weight[...]) == pytest.approx(0.3)


def test_a_run_that_goes_on_has_the_best_weights_and_its_patience(tmp_path):
    options = GROW | {"metrics": {"loss": distance}, "keep_best": "val_loss", "patience": 3}
    options |= {"checkpoint_dir": tmp_path}
    model = growing()
    fit(model, **(options | {"epochs": 4}))  # the best is saved with the rest
    history = fit(model := growing(), **options)
    assert len(history["loss"]) == 6 and float(model.weight[...]) == pytest.approx(0.3)
    history = fit(model := growing(), **options)  # it is over, and stays so
    assert len(history["loss"]) == 6 and float(model.weight[...]) == pytest.approx(0.3)


def test_the_callback_sees_each_epoch_and_may_stop():
    seen = []

    def callback(epoch, metrics):
        seen.append((epoch, metrics["val_loss"]))
        return epoch == 2

    history = fit(mlp(), validation_data=task(), on_epoch=callback, epochs=5)
    assert [epoch for epoch, _ in seen] == [1, 2]
    np.testing.assert_allclose([value for _, value in seen], history["val_loss"], rtol=1e-6)


def test_the_callback_can_use_the_model_as_it_is_then():
    model, found = mlp(), []
    history = fit(
        model,
        validation_data=task(),
        on_epoch=lambda *_: found.append(dj.evaluate(model, *task())["loss"]) and None,
    )
    np.testing.assert_allclose(found[-1], history["val_loss"][-1], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"keep_best": "val_f1", "validation_data": task()},
            "'val_f1', which is not measured; .*val",
        ),
        ({"keep_best": 3}, "write the name of a metric"),
        ({"patience": 3}, 'write keep_best="val_loss"'),
        ({"patience": 0, "keep_best": "loss"}, "patience is 0; write a whole number"),
    ],
)
def test_what_cannot_be_kept_says_what_to_write(options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        fit(mlp(), **options)


# --- losses and metrics


def test_a_loss_alone_is_its_own_metric():
    x, y = task()
    history = fit(linear(1), x, y * 1.0, loss="mse", validation_data=(x, y * 1.0))
    assert set(history) == {"loss", "val_loss"}

    def mine(model, x, y):
        return jnp.mean(jnp.abs(model(x)[:, 0] - y))

    assert set(fit(linear(1), x, y * 1.0, loss=mine, validation_data=(x, y * 1.0))) == set(history)
    assert "val_error" in fit(mlp(), validation_data=task())


@pytest.mark.parametrize("shape", [lambda y: y, lambda y: y[:, None]])
@pytest.mark.parametrize("outputs", [lambda o: o, lambda o: o[:, 0]])
@pytest.mark.parametrize("loss", ["mse", "mae", "bce"])
def test_ready_losses_align_columns_and_rows(loss, shape, outputs):
    y, o = jnp.array([0.0, 1.0, 1.0, 0.0]), jnp.array([[0.5], [-1.0], [2.0], [0.25]])
    z = np.asarray(o[:, 0], np.float64)
    right = {
        "mse": np.mean((z - y) ** 2),
        "mae": np.mean(np.abs(z - y)),
        "bce": np.mean(np.log1p(np.exp(z)) - z * y),
    }
    found = getattr(dj.losses, loss)(lambda x: outputs(o), None, shape(y))
    assert float(found) == pytest.approx(float(right[loss]), rel=1e-6)


def test_gaussian_nll_is_the_density_s():
    scipy_stats = pytest.importorskip("scipy.stats")
    o, y = jnp.array([[0.5, 0.1], [-1.0, -0.7]]), jnp.array([0.0, 1.0])
    right = -scipy_stats.norm.logpdf(y, o[:, 0], np.exp(o[:, 1] / 2)).mean()
    for targets in (y, y[:, None]):
        found = dj.losses.gaussian_nll(lambda x: o, None, targets)
        assert float(found) == pytest.approx(right, rel=1e-6)


@pytest.mark.parametrize("loss", ["mse", "mae", "bce"])
def test_ready_losses_refuse_other_shapes(loss):
    function = getattr(dj.losses, loss)
    for o, y in (((4, 2), (4,)), ((4, 1), (3,)), ((4,), (1,)), ((4, 1, 1), (4,))):
        with pytest.raises(ValueError, match="one output for each target"):
            function(lambda x, o=o: jnp.zeros(o), None, jnp.zeros(y))


def broadcast(model, x, y):
    return jnp.mean((model(x) - y) ** 2)


@pytest.fixture
def any_rank():
    """As JAX is set for users; the tests are stricter."""
    with jax.numpy_rank_promotion("allow"):
        yield


def test_a_loss_that_makes_pairs_of_rows_and_columns_is_refused(any_rank):
    x, y = task()
    with pytest.raises(ValueError, match=r"pairs of all examples.*loss='mse'.*y\[:, None\]"):
        fit(linear(1), x, y * 1.0, loss=broadcast)
    with pytest.raises(ValueError, match="the metric 'mine' computes with outputs"):
        dj.evaluate(linear(1), x, y * 1.0, metrics={"mine": broadcast})
    fit(linear(1), x, y[:, None] * 1.0, loss=broadcast)
    fit(linear(1), x, y * 1.0, loss=lambda model, x, y: broadcast(lambda x: model(x)[:, 0], x, y))


@pytest.fixture
def chunks(monkeypatch):
    monkeypatch.setattr(metrics, "CHUNK", 10)
    jax.clear_caches()


def test_metrics_of_whole_sets_are_scikit_learn_s_on_rows_sorted_by_label(chunks):
    """Where a mean over chunks would be NaN or nearly 0."""
    x, y = task(55)
    y = y == 1
    order = jnp.argsort(y)
    x, y = x[order], y[order].astype(int)
    model = linear(2)
    names = ["auc", "f1", "confusion_matrix", "accuracy"]
    found = dj.evaluate(model, x, y, metrics=names)
    logits = np.asarray(model(x))
    predicted = logits.argmax(1)
    right = sklearn_metrics.roc_auc_score(y, logits[:, 1] - logits[:, 0])
    assert found["auc"] == pytest.approx(right)
    assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(y, predicted))
    assert found["accuracy"] == pytest.approx(np.mean(predicted == y))
    matrix = sklearn_metrics.confusion_matrix(y, predicted)
    np.testing.assert_array_equal(found["confusion_matrix"], matrix)
    batches = [(x[i : i + 20], y[i : i + 20]) for i in range(0, 55, 20)]
    of_batches = dj.evaluate(model, batches, metrics=names[:2])
    assert of_batches == pytest.approx({name: found[name] for name in names[:2]})


def test_metrics_of_one_logit_and_of_many_classes(chunks):
    x, y = task(55)
    one, many = linear(1), linear(3)
    binary = (y == 1) * 1
    found = dj.evaluate(one, x, binary, metrics=["auc", "f1", "accuracy", "confusion_matrix"])
    logits = np.asarray(one(x))[:, 0]
    assert found["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(binary, logits))
    assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(binary, logits > 0))
    assert found["accuracy"] == pytest.approx(np.mean((logits > 0) == binary))
    found = dj.evaluate(many, x, y, metrics=["auc", "top_2", "top_3", "f1"])
    scores = np.asarray(jax.nn.softmax(many(x)))
    right = sklearn_metrics.roc_auc_score(y, scores, multi_class="ovr")
    assert found["auc"] == pytest.approx(right) and found["top_3"] == 1.0
    assert found["top_2"] == pytest.approx(sklearn_metrics.top_k_accuracy_score(y, scores, k=2))
    found = dj.evaluate(one, x, y * 1.0, metrics=["r2", "rmse", "mse"])
    assert found["rmse"] ** 2 == pytest.approx(found["mse"], rel=1e-5)
    assert found["r2"] == pytest.approx(sklearn_metrics.r2_score(y, one(x)[:, 0]), rel=1e-5)


def test_metrics_of_whole_sets_are_in_the_history_and_choose_the_best():
    x, y = task()
    names = ["loss", "accuracy", "auc", "confusion_matrix"]
    names = {name: name for name in names} | {"loss": "cross_entropy"}
    history = fit(linear(), x, y, validation_data=(x, y), metrics=names, keep_best="val_auc")
    assert history["val_auc"].shape == (3,) and history["val_confusion_matrix"].shape == (3, 3, 3)
    assert (history["val_confusion_matrix"].sum((1, 2)) == 48).all()


def test_a_metric_of_scikit_learn_of_one_s_own():
    x, y = task()
    kappa = train.Whole(sklearn_metrics.cohen_kappa_score, lambda logits: logits.argmax(-1))
    found = dj.evaluate(linear(), x, y, metrics={"kappa": kappa})["kappa"]
    assert found == pytest.approx(sklearn_metrics.cohen_kappa_score(y, linear()(x).argmax(-1)))
    with pytest.raises(TypeError, match="cannot be computed inside of make_train"):
        loop = train.make_loop(lambda *_: linear(), lambda _: optax.sgd(0.1), batch_size=4,
                               metrics={"kappa": kappa})  # fmt: skip
        loop.evaluate(loop.init(KEY, {}, {"train": (x, y)}), {"train": (x, y)})


def test_unknown_names_say_which_there_are():
    x, y = task()
    with pytest.raises(ValueError, match="no loss 'MSE'; write one of cross_entropy, mse"):
        fit(linear(1), x, y, loss="MSE")
    with pytest.raises(ValueError, match="no metric 'precision'; write one of .*auc"):
        dj.evaluate(linear(), x, y, metrics=["precision"])
    with pytest.raises(TypeError, match="has no name"):
        dj.evaluate(linear(), x, y, metrics=[lambda model, x, y: 0.0])


# --- dropout that is never on, or never off


class Flagged(nnx.Module):
    """The usual `__call__(self, x, training=False)` of Keras and Linen users."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first, self.head = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, training=False):
        return self.head(self.drop(self.first(x), deterministic=not training))


class OwnFlag(Flagged):
    def __init__(self):
        super().__init__()
        self.training = True

    def __call__(self, x):
        return super().__call__(x, training=self.training)


def with_training(model, x, y):
    return dj.losses.cross_entropy(lambda x: model(x, training=True), x, y)


def test_dropout_that_draws_nothing_in_training_is_found():
    with pytest.warns(SilentNoiseWarning, match="Dropout at drop.* drew none of it in training"):
        fit(Flagged(), epochs=1)
    fit(Flagged(), epochs=1, loss=with_training)


def test_dropout_that_draws_in_evaluation_is_found():
    with pytest.warns(SilentNoiseWarning, match="draws dropout in evaluation .Dropout at drop"):
        dj.evaluate(OwnFlag(), *task())
    with pytest.warns(SilentNoiseWarning, match="in evaluation"):
        fit(OwnFlag(), epochs=1, validation_data=task())


class Sampling(nnx.Module):
    """Draws of its own in evaluation, as in a variational auto-encoder, are no mistake."""

    def __init__(self):
        self.mlp, self.rngs = mlp(), nnx.Rngs(noise=1)

    def __call__(self, x):
        return self.mlp(x + 0.01 * jax.random.normal(self.rngs.noise(), x.shape))


@pytest.mark.parametrize(
    "model",
    [
        mlp,
        Sampling,
        lambda: nnx.Sequential(linear(), nnx.Dropout(0.0, rngs=nnx.Rngs(0))),
        lambda: nnx.Sequential(linear(), dj.layers.GaussianNoise(0.0, rngs=nnx.Rngs(0))),
        lambda: nnx.Sequential(linear(), dj.layers.Dropout(0.5, rngs=nnx.Rngs(0))),
        linear,
    ],
)
def test_models_that_are_right_get_no_warning(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(model(), epochs=1, validation_data=task())


class NeedsRngs(nnx.Module):
    """A model without streams of its own, as those of bonsai."""

    def __init__(self):
        self.linear, self.drop = linear(16), nnx.Dropout(0.5)
        self.head = nnx.Linear(16, 3, rngs=nnx.Rngs(1))

    def __call__(self, x, *, rngs=None):
        return self.head(self.drop(nnx.relu(self.linear(x)), rngs=rngs))


def test_a_model_whose_call_needs_rngs_is_trained_with_fresh_masks_and_resumes(tmp_path):
    first, second, other = NeedsRngs(), NeedsRngs(), NeedsRngs()
    history = fit(first, epochs=4, validation_data=task())
    fit(second, epochs=2, checkpoint_dir=tmp_path)
    fit(second, epochs=4, checkpoint_dir=tmp_path)
    assert_same_weights(first, second)
    fit(other, epochs=4, key=jax.random.key(1))
    assert any((a != b).any() for a, b in zip(weights(first), weights(other), strict=True))
    found = dj.evaluate(first, *task())
    assert float(history["val_loss"][-1]) == pytest.approx(found["loss"], rel=1e-6)
    assert (dj.mc_predict(KEY, first, task()[0], samples=8).stddev > 0).any()
    assert dj.predict_scaled(first, task()[0]).shape == (48, 3)
    losses = fit(NeedsRngs(), x=jnp.ones((64, 8)), y=jnp.zeros(64, int), optimizer=optax.sgd(0.0))
    assert len(set(losses["loss"].tolist())) == 3  # of equal weights under other masks


# --- optimizers with arguments of their own


# optax.contrib.dpsgd itself passes what optax has deprecated.
private = pytest.mark.filterwarnings('ignore:"seed" is deprecated:DeprecationWarning')
OPTIMIZERS = {
    "sam opaque": lambda: contrib.sam(
        optax.sgd(0.1), optax.sgd(0.05), sync_period=2, opaque_mode=True
    ),
    "sam transparent": lambda: contrib.sam(
        optax.sgd(0.1), optax.sgd(0.05), sync_period=2, opaque_mode=False
    ),
    "sam in a chain": lambda: optax.chain(
        optax.clip(1.0), contrib.sam(optax.sgd(0.1), optax.sgd(0.05), opaque_mode=True)
    ),
    "lookahead": lambda: optax.lookahead(optax.sgd(0.1), 2, 0.5),
    "sophia": lambda: contrib.sophia(0.05),
    "dpsgd": lambda: contrib.dpsgd(0.1, 1.0, 0.01, 0),
    "reduce_on_plateau": lambda: optax.chain(optax.sgd(0.1), contrib.reduce_on_plateau(patience=2)),
    "schedule_free": lambda: contrib.schedule_free_sgd(0.1),
    "muon": lambda: contrib.muon(0.02),
    "adafactor": lambda: optax.adafactor(0.05),
    "inject": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.01),
}


@private
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_of_optax_lowers_the_loss(name):
    history = fit(linear(), optimizer=OPTIMIZERS[name](), epochs=6)
    assert history["loss"][-1] < history["loss"][0]


def test_sam_is_sam():
    """The gradient at the weights moved along the gradient, by hand."""
    x, y = task(16)
    rho, rate = 0.05, 0.1
    found, expected = linear(), linear()
    adversary = optax.chain(contrib.normalize(), optax.sgd(rho))
    sam = contrib.sam(optax.sgd(rate), adversary, sync_period=2, opaque_mode=True)
    fit(found, x, y, optimizer=sam, epochs=1)
    graph, params = nnx.split(expected)

    def gradient(params):
        return jax.grad(lambda p: dj.losses.cross_entropy(nnx.merge(graph, p), x, y))(params)

    grads = gradient(params)
    norm = optax.tree.norm(grads)
    moved = jax.tree.map(lambda p, g: p + rho * g / norm, params, grads)
    right = jax.tree.map(lambda p, g: p - rate * g, params, gradient(moved))
    for a, b in zip(weights(found), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@private
def test_private_gradients_are_clipped_for_each_example():
    x, y = task(16)
    found, graph_and_params = linear(), nnx.split(linear())
    graph, params = graph_and_params
    fit(found, x, y, optimizer=contrib.dpsgd(0.1, 0.5, 0.0, 0), epochs=1)

    def gradient(x, y):
        return jax.grad(lambda p: dj.losses.cross_entropy(nnx.merge(graph, p), x[None], y[None]))(
            params
        )

    each = jax.vmap(gradient)(x, y)
    norms = jax.vmap(optax.tree.norm)(each)
    scale = jnp.minimum(1.0, 0.5 / norms)
    mean = jax.tree.map(lambda g: jnp.tensordot(scale, g, 1) / 16, each)
    right = jax.tree.map(lambda p, g: p - 0.1 * g, params, mean)
    assert (norms > 0.5).any()
    for a, b in zip(weights(found), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# --- programs that are kept


def traces(loss):
    """A loss, and how often it has been traced."""
    calls = itertools.count()

    def counted(model, x, y):
        next(calls)
        return loss(model, x, y)

    return counted, calls


def test_a_second_fit_of_the_like_traces_nothing_and_starts_at_once():
    def loss(model, x, y):
        compiled.append(1)
        return dj.losses.cross_entropy(model, x, y)

    compiled = counter = Counter()
    fit(mlp(), optimizer=optax.adam(1e-3), loss=loss, validation_data=task())
    traced = counter.count
    start = time.perf_counter()
    fit(
        mlp(seed=1),
        optimizer=optax.adam(1e-3),
        loss=loss,
        validation_data=task(),
        key=jax.random.key(2),
    )
    assert counter.count == traced
    assert time.perf_counter() - start < 1.0  # 0.02 on an idle machine; a trace alone takes more


class Counter:
    """Not a value that `Same` looks into: it is only itself."""

    __slots__ = ("count",)

    def __init__(self):
        self.count = 0

    def append(self, _):
        self.count += 1


SCALE = 1.0


def scaled(model, x, y):
    return SCALE * dj.losses.cross_entropy(model, x, y)


def test_a_changed_global_or_captured_value_is_no_old_program(monkeypatch):
    first = fit(mlp(), loss=scaled)["loss"][0]
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert fit(mlp(), loss=scaled)["loss"][0] > 2 * first

    teacher = linear()

    def distilled(model, x, y):
        return jnp.mean((model(x) - teacher(x)) ** 2)

    before = fit(mlp(), loss=distilled)["loss"][0]
    teacher.kernel[...] = 10 * teacher.kernel[...]
    assert fit(mlp(), loss=distilled)["loss"][0] > 10 * before

    options = {"scale": 1.0}

    def captured(model, x, y):
        return options["scale"] * dj.losses.cross_entropy(model, x, y)

    before = fit(mlp(), loss=captured)["loss"][0]
    options["scale"] = 3.0
    assert fit(mlp(), loss=captured)["loss"][0] > 2 * before


def made(rate, offset=0.0):
    return lambda x: x * rate + offset


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (lambda: optax.adam(1e-3), lambda: optax.adam(1e-3), True),
        (lambda: optax.adam(1e-3), lambda: optax.adam(2e-3), False),
        (lambda: optax.adam(1e-3), lambda: optax.adamw(1e-3), False),
        (lambda: optax.chain(optax.clip(1), optax.sgd(optax.cosine_decay_schedule(1.0, 9))),
         lambda: optax.chain(optax.clip(1), optax.sgd(optax.cosine_decay_schedule(1.0, 9))), True),
        (lambda: optax.sgd(optax.cosine_decay_schedule(0.1, 10)),
         lambda: optax.sgd(optax.cosine_decay_schedule(0.1, 11)), False),
        (lambda: made(1.0), lambda: made(1.0), True),
        (lambda: made(1.0), lambda: made(1), False),
        (lambda: made(0.0), lambda: made(-0.0), False),
        (lambda: made(float("nan")), lambda: made(float("nan")), True),
        (lambda: made(np.ones(3)), lambda: made(np.ones(3)), True),
        (lambda: made(np.ones(3)), lambda: made(np.zeros(3)), False),
        (lambda: made([1, {2: 3}]), lambda: made([1, {2: 4}]), False),
        (lambda: dj.losses.r_drop(1.0), lambda: dj.losses.r_drop(1.0), True),
        (lambda: dj.losses.r_drop(1.0), lambda: dj.losses.r_drop(2.0), False),
        (lambda: made(iter([])), lambda: made(iter([])), False),
        (lambda: (len, jax.nn.relu, jnp.tanh), lambda: (len, jax.nn.relu, jnp.tanh), True),
        (lambda: jax.nn.relu, lambda: jax.nn.gelu, False),
    ],
)  # fmt: skip
def test_functions_are_the_same_where_they_compute_the_same(a, b, same):
    a, b = Same(a()), Same(b())
    assert (a == b) is same
    assert not same or hash(a) == hash(b)


class Names(nnx.Module):
    """Its attributes have the names of global variables, one of which is a model of its kind."""

    def __init__(self, seed):
        self.student, self.SCALE = mlp(seed=seed), 2.0

    def __call__(self, x):
        return self.student(x) * self.SCALE


def test_models_and_functions_that_lead_back_to_themselves_are_compared(monkeypatch):
    monkeypatch.setitem(globals(), "student", Names(2))  # an attribute's name is no global one
    assert Same(optax.adam(1e-3), Names(0)) == Same(optax.adam(1e-3), Names(1))

    def again(model, x, y):
        return jnp.mean(model(x)) + 0 * len([again, student])  # noqa: F821

    first = Same(again)
    assert first == Same(again)
    monkeypatch.setitem(globals(), "student", Names(3))
    assert first != Same(again)


def test_a_run_s_programs_are_kept_by_its_loop():
    loop = train.make_loop(lambda *_: linear(), lambda _: optax.sgd(0.1), batch_size=16)
    assert runner._programs(loop, "alone") is runner._programs(loop, "alone")


# --- history


def test_a_history_is_a_mapping_with_a_plot():
    history = fit(mlp(), validation_data=task())
    assert set(history) == {"loss", "val_loss", "val_error"} and len(history) == 3
    assert "val_loss" in history and dict(history).keys() == history.keys()
    assert [line.get_label() for line in history.plot("loss", "val_loss").lines] == [
        "loss",
        "val_loss",
    ]
    with pytest.raises(KeyError, match="'val_acc' was not measured; there are loss, val_loss"):
        history["val_acc"]
