"""The whole public surface in JAX's other modes: strict promotion and 64 bits change no number.

Every public function and layer is called on float32 inputs in the usual mode, under
`jax_numpy_dtype_promotion="strict"`, and with `jax_enable_x64`: same values, same dtypes.
"""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import dropout_jax as dj
from dropout_jax import layers, losses, predict, rates, schedules

# In the fast loop the contract and the doctests stand for these: they compile much.
pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)
MAP = np.linspace(-1, 1, 2 * 5 * 4 * 3, dtype=np.float32).reshape(2, 5, 4, 3)
KERNEL = np.linspace(-1, 2, 18, dtype=np.float32).reshape(6, 3)
LABELS = np.array([0, 1, 2, 0], np.int32)
LOGIT = np.float32(-1)
PROBABILITIES = np.float32([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.5, 0.25, 0.25]])
PARAMS = {"kernel": KERNEL, "bias": np.ones(3, np.float32)}


def rngs():
    return nnx.Rngs(0)


def mlp(rate=0.5, n=3):
    return layers.MLP((6, 5, n), rates=rate, rngs=rngs())


def standardized(rate=0.5):
    return layers.Standardized(mlp(rate, n=1), X, X[:, 0])


def call(make, x=X):
    """A layer with noise, and without."""
    return lambda: (make()(x, rngs=KEY), make()(x, deterministic=True))


def recurrent():
    lstm = nnx.LSTMCell(6, 5, recurrent_kernel_init=nnx.initializers.normal(), rngs=rngs())
    cell = layers.Zoneout(lstm, rate=(0.5, 0.1), rngs=rngs())
    return nnx.RNN(cell)(X[None])


def fit():
    model = mlp()
    data = X, LABELS
    history = dj.fit(
        model, optax.sgd(0.1), *data, key=KEY, epochs=2, batch_size=2, validation_data=data,
        progress=False,
    )  # fmt: skip
    return nnx.state(model, nnx.Param), history["val_loss"]


def attention(deterministic):
    q = jnp.asarray(np.linspace(-1, 1, 2 * 5 * 2 * 4, dtype=np.float32).reshape(2, 5, 2, 4))
    return layers.dot_product_attention(
        q, q, q, dropout_rng=KEY, dropout_rate=0.5, deterministic=deterministic
    )


def update(optimizer, steps=2):
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(params, state, params)
        params = optax.apply_updates(params, updates)
    return params


def scheduled(schedule):
    layer = layers.ScheduledDropout(schedule, rngs=rngs())
    return [layer(X) for _ in range(3)], layer.rate


def head(model, h):
    return model.linears[1](model.dropouts[1](h))


SAMPLED = {"samples": 3}
CALLS = {
    "alpha_dropout": lambda: dj.alpha_dropout(KEY, X, 0.5),
    "apply_mask": lambda: dj.apply_mask(X, dj.packed_mask(KEY, 0.5, X.shape), 0.5),
    "attention_dropout": lambda: dj.attention_dropout(KEY, MAP, 0.5),
    "bernoulli_mask": lambda: dj.bernoulli_mask(KEY, 0.5, X.shape),
    "concrete_dropout": lambda: dj.concrete_dropout(KEY, X, LOGIT),
    "concrete_kl": lambda: dj.concrete_kl(KERNEL, LOGIT, length_scale=0.1),
    "drop_block": lambda: dj.drop_block(KEY, MAP, 0.5, block_size=2),
    "drop_connect": lambda: dj.drop_connect(KEY, KERNEL, 0.5),
    "drop_connect_dense": lambda: dj.drop_connect_dense(KEY, X, KERNEL, 0.5),
    "drop_connect_moments": lambda: dj.drop_connect_moments(KEY, X, KERNEL, 0.5, jax.nn.relu, 5),
    "drop_path": lambda: dj.drop_path(KEY, X, 0.5),
    "drop_path_subset": lambda: dj.drop_path_subset(KEY, X, 0.5, lambda x: 2 * x),
    "dropout": lambda: [dj.dropout(KEY, X, rate) for rate in (0.2, np.float32(0.2), 1)],
    "dropout_unscaled": lambda: dj.dropout_unscaled(KEY, X, jnp.float32(0.2)),
    "evaluate": lambda: dj.evaluate(mlp(), X, LABELS),
    "feature_alpha_dropout": lambda: dj.feature_alpha_dropout(KEY, X, 0.5),
    "fit": fit,
    "freeze": lambda: update(dj.freeze(optax.sgd(0.1), "bias")),
    "gaussian_dropout": lambda: dj.gaussian_dropout(KEY, X, 0.5),
    "gaussian_noise": lambda: dj.gaussian_noise(KEY, X, 0.5),
    "geometric_mean_predict": lambda: dj.geometric_mean_predict(KEY, mlp(), X, **SAMPLED),
    "max_norm": lambda: update(dj.max_norm(0.5)),
    "mc_classify": lambda: dj.mc_classify(KEY, mlp(), X, **SAMPLED),
    "mc_log_likelihood": lambda: dj.mc_log_likelihood(KEY, mlp(n=2), X, X[:, 0], **SAMPLED),
    "mc_predict": lambda: dj.mc_predict(KEY, mlp(), X, **SAMPLED),
    "mc_quantiles": lambda: dj.mc_quantiles(KEY, mlp(n=1), X, noise=0.5, batch_size=3, **SAMPLED),
    "mc_regress": lambda: dj.mc_regress(KEY, mlp(n=2), X, consistent=True, **SAMPLED),
    "moment_predict": lambda: dj.moment_predict(mlp(), X),
    "packed_mask": lambda: dj.packed_mask(KEY, jnp.float32(0.5), X.shape).unpack(),
    "per_example_keys": lambda: jax.random.key_data(dj.per_example_keys(KEY, LABELS)),
    "predict_scaled": lambda: dj.predict_scaled(mlp(), X),
    "scale_for_inference": lambda: dj.scale_for_inference(PARAMS, 0.5),
    "site_key": lambda: [jax.random.key_data(dj.site_key(KEY, site)) for site in ("a", 3)],
    "sparse_dense": lambda: dj.sparse_dense(KEY, X, KERNEL, LOGIT),
    "sparse_kl": lambda: dj.sparse_kl(KERNEL),
    "sparse_log_alpha": lambda: dj.sparse_log_alpha(KERNEL, LOGIT),
    "sparse_mask": lambda: dj.sparse_mask(KERNEL),
    "standout": lambda: dj.standout(KEY, X, X, alpha=2.0, beta=0.5),
    "standout_mean": lambda: dj.standout_mean(X, X, alpha=2.0, beta=0.5),
    "to_paper_convention": lambda: dj.to_paper_convention({"l1": np.float32(1)}, 0.5),
    "to_scaled_convention": lambda: dj.to_scaled_convention({"l1": np.float32(1)}, 0.5),
    "variational_dense": lambda: dj.variational_dense(KEY, X, KERNEL, LOGIT),
    "variational_dropout": lambda: dj.variational_dropout(KEY, X, LOGIT),
    "variational_kl": lambda: dj.variational_kl(KERNEL),
    "zoneout": lambda: dj.zoneout(KEY, X, -X, 0.5),
    "zoneout_mean": lambda: dj.zoneout_mean(X, -X, 0.5),
    # Layers
    "AlphaDropout": call(lambda: layers.AlphaDropout(0.5)),
    "ConcreteDropout": call(lambda: layers.ConcreteDropout(nnx.Linear(6, 3, rngs=rngs()))),
    "DropBlock": call(lambda: layers.DropBlock(0.5, block_size=2), MAP),
    "DropConnectLinear": call(lambda: layers.DropConnectLinear(6, 3, rate=0.5, rngs=rngs())),
    "DropPath": call(lambda: layers.DropPath(0.5)),
    "DropPathSubset": call(lambda: layers.DropPathSubset(lambda x: 2 * x, 0.5, rngs=rngs())),
    "Dropout": call(lambda: layers.Dropout(np.float32(0.5))),
    "FeatureAlphaDropout": call(lambda: layers.FeatureAlphaDropout(0.5)),
    "GaussianDropout": call(lambda: layers.GaussianDropout(0.5)),
    "GaussianNoise": call(lambda: layers.GaussianNoise(0.5)),
    "MLP": call(mlp),
    "ScheduledDropout": lambda: [
        scheduled(schedule)
        for schedule in (
            rates.linear(0.1, 0.5, 2),
            rates.early(0.5, 2),
            rates.late(0.5, 1.5),
            rates.curriculum(0.5, 0.1),
            rates.late(0.5, 1),
        )
    ],  # fmt: skip
    "SparseLinear": call(lambda: layers.SparseLinear(6, 3, rngs=rngs())),
    "SpatialDropout1D": call(lambda: layers.SpatialDropout1D(0.5), MAP[0]),
    "SpatialDropout2D": call(lambda: layers.SpatialDropout2D(0.5), MAP),
    "SpatialDropout3D": call(lambda: layers.SpatialDropout3D(0.5), MAP[None]),
    "Standardized": lambda: standardized()(X, deterministic=True),
    "VariationalDropout": call(lambda: layers.VariationalDropout(6)),
    "Zoneout": recurrent,
    "dot_product_attention": lambda: [attention(on) for on in (False, True)],
    "total_kl": lambda: layers.total_kl(
        nnx.List(
            [
                layers.ConcreteDropout(nnx.Linear(6, 3, rngs=rngs())),
                layers.VariationalDropout(6),
                layers.SparseLinear(6, 3, rngs=rngs()),
            ]
        )
    ),  # fmt: skip
    # The rest
    "calibration": lambda: [
        predict.reliability(PROBABILITIES, LABELS, bins=2),
        predict.expected_calibration_error(PROBABILITIES, LABELS),
        predict.interval_coverage(X, X - 1, X),
        predict.coverage_curve(X, 2 * X, 0.5, (0.5, 0.9)),
        predict.entropy(jnp.asarray(PROBABILITIES)),
    ],
    "scores": lambda: [
        predict.crps_gaussian(X, 2 * X, 0.5),
        predict.crps_samples(X, MAP.reshape(5, 4, 6)),
        predict.log_likelihood_gaussian(X, 2 * X, 0.5),
        predict.log_likelihood_samples(X, MAP.reshape(5, 4, 6), 0.5),
    ],
    "recalibration": lambda: [
        scale(X[:, 0], 2 * X[:, 0], np.float32(0.5), **options)
        for scale, options in (
            (predict.conformal_scale, {"level": 0.5}),
            (predict.stddev_scale, {}),
        )
    ],
    "standardized_loss": lambda: layers.standardized_loss(
        lambda model, x, y: jnp.mean((model(x) - y) ** 2)
    )(standardized(0.0), jnp.asarray(X), jnp.asarray(X[:, 0])),
    "mc_samples": lambda: predict.mc_samples(KEY, mlp(), X, **SAMPLED),
    "moments": lambda: predict.moments.moments(mlp(), X),
    "r_drop": lambda: losses.r_drop()(mlp(), X, LABELS),
    "multi_sample": lambda: losses.multi_sample(
        3, features=lambda model, x: nnx.relu(model.linears[0](x)), head=head
    )(mlp(), X, LABELS),
    "momentum_sgd": lambda: [
        update(schedules.momentum_sgd(rate, schedules.linear_ramp(0.5, 0.9, 3), damped=damped))
        for damped in (False, True)
        for rate in (
            0.1,
            schedules.epoch_decay(0.1, 0.5, 2),
            schedules.inverse_time_decay(0.1, 2),
            schedules.exponential_ramp(0.1, 0.2, 2),
        )
    ],  # fmt: skip
}
ELSEWHERE = {
    "replace_dropout": "changes a class",
    "check_dropout": "says what is wrong, and gives no numbers",
    "NoiseLayer": "is what the layers derive from",
    "load": "reads a file",
    "save": "writes a file",
}
# New families have tests of their own modes where they are defined.
OTHERS = {
    "recalibrate",
}  # fmt: skip


def test_every_public_name_is_called():
    public = {
        name
        for module in (dj, layers)
        for name in module.__all__
        if callable(getattr(module, name)) and not isinstance(getattr(module, name), type)
    }
    public |= {name for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    public = {name for name in public if not isinstance(getattr(dj, name, 0), types.ModuleType)}
    missing = public - set(CALLS) - set(ELSEWHERE) - OTHERS
    assert not missing, f"add a call to CALLS for {sorted(missing)}"


@functools.cache
def usual(name):
    return jax.tree.map(np.asarray, CALLS[name]())


MODES = {
    "strict": lambda: jax.numpy_dtype_promotion("strict"),
    "64 bits": lambda: jax.enable_x64(True),
}


@pytest.mark.parametrize("mode", MODES)
def test_no_number_changes(mode):
    wrong = []
    for name in CALLS:
        expected = usual(name)
        with MODES[mode]():
            try:
                found = jax.tree.map(np.asarray, CALLS[name]())
            except Exception as error:  # noqa: BLE001, collected for one report
                wrong.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
                continue
        for ours, theirs in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            close = ours.dtype == theirs.dtype and np.allclose(ours, theirs, 1e-5, 1e-5)
            if not close:
                wrong.append(f"{name}: {ours.dtype} {ours.ravel()[:3]}, not {theirs.ravel()[:3]}")
    assert not wrong, "\n".join(wrong)
