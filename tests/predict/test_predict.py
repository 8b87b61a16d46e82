"""Inference against enumeration of all masks; no rule touches the model that it is given."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from helpers.thresholds import assert_chi_square, assert_normal
from scipy import integrate, stats

import dropout_jax as dj
from dropout_jax import predict
from dropout_jax.predict import moments

# In the fast loop the contract and the doctests stand for these: they compile much.
pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
FALSE_ALARM = 1e-8  # of each statistical assertion here

RULES = {
    "scaled": predict.predict_scaled,
    "samples": functools.partial(predict.mc_samples, KEY, samples=3),
    "monte carlo": functools.partial(predict.mc_predict, KEY, samples=3),
    "geometric": functools.partial(predict.geometric_mean_predict, KEY, samples=3),
    "moments": moments.moment_predict,
}
SAMPLED = [predict.mc_samples, predict.mc_predict, predict.geometric_mean_predict]
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
every_sampled = pytest.mark.parametrize("rule", SAMPLED)


def mlp(sizes=(4, 5, 3), rates=(0.25, 0.5), seed=0):
    return dj.layers.MLP(sizes, rates=rates, rngs=nnx.Rngs(seed))


def inputs(n=2, features=4, dtype=None):
    return jnp.asarray(np.random.default_rng(1).normal(size=(n, features)), dtype)


def raw(model):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(jax.tree.map(data, nnx.state(model)))]


def data(leaf):
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


# Enumeration: the outputs of all sub-networks of an MLP with ReLU, and their probabilities.


def all_masks(n):
    return np.array(list(itertools.product([0.0, 1.0], repeat=n)))


def enumerated(model, x):
    """Outputs (sub-networks, examples, classes) and probabilities (sub-networks,), in float64."""
    h, probability = np.asarray(x, np.float64)[None], np.ones(1)
    for site, (drop, linear) in enumerate(zip(model.dropouts, model.linears, strict=True)):
        h = np.maximum(h, 0) if site else h
        if drop.rate:
            masks, keep = all_masks(h.shape[-1]), 1 - drop.rate
            h = (h[:, None] * masks[None, :, None] / keep).reshape(-1, *h.shape[1:])
            chance = np.prod(np.where(masks == 1, keep, drop.rate), axis=1)
            probability = np.outer(probability, chance).ravel()
        h = h @ np.asarray(linear.kernel[...], np.float64) + np.asarray(
            linear.bias[...], np.float64
        )
    return h, probability


def expectation(probability, values):
    return np.tensordot(probability, values, 1)


# No rule changes the model


@every_rule
@pytest.mark.parametrize("training", [True, False])
def test_the_model_stays_as_it_is(rule, training):
    model, twin = mlp(), mlp()
    for each in (model, twin):
        each.train() if training else each.eval()
    before = raw(model)
    rule(model, inputs())
    assert_equal(raw(model), before)
    assert [drop.deterministic for drop in model.dropouts] == [not training] * 2
    assert_equal(model(inputs()), twin(inputs()))  # the streams too


@every_rule
def test_neither_the_mode_nor_the_streams_matter(rule):
    model, other = mlp(), mlp(seed=1)
    nnx.update(other, nnx.state(model, nnx.Param))
    other.eval()
    assert_equal(rule(model, inputs()), rule(other, inputs()))


class Normalised(nnx.Module):
    def __init__(self):
        self.norm = nnx.BatchNorm(4, rngs=nnx.Rngs(0))
        self.drop = dj.layers.Dropout(0.0, rngs=nnx.Rngs(0))
        self.linear = nnx.Linear(4, 3, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.linear(self.drop(self.norm(x)))


def test_batch_normalisation_uses_its_running_averages():
    model = Normalised()
    model(1 + inputs())  # running averages that are not those of the batch below
    before, scaled = raw(model), predict.predict_scaled(model, inputs())
    assert_equal(predict.mc_samples(KEY, model, inputs(), samples=1)[0], scaled)
    assert_equal(raw(model), before)


# Monte Carlo


class Sites(nnx.Module):
    """Two sites of one width, so that masks shared between sites would be seen."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.sites = nnx.List([dj.layers.Dropout(rate, rngs=rngs) for rate in (0.5, 0.25)])

    def __call__(self, x):
        return jnp.concatenate([site(x) > 0 for site in self.sites])


def test_each_sub_network_is_drawn_with_its_probability():
    n, keep = 2**13, np.array([0.5] * 3 + [0.75] * 3)
    drawn = predict.mc_samples(KEY, Sites(), jnp.ones(3), samples=n, output=lambda mask: mask)
    counts = np.bincount(np.asarray(drawn) @ (1 << np.arange(6)[::-1]), minlength=2**6)
    expected = n * np.prod(np.where(all_masks(6) == 1, keep, 1 - keep), axis=1)
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert_chi_square(statistic, 2**6 - 1, FALSE_ALARM, "sub-networks")


def test_mean_and_stddev_are_those_of_all_sub_networks():
    model, x, n = mlp(), inputs(), 2**12
    outputs, probability = enumerated(model, x)
    predictions = np.asarray(jax.nn.softmax(outputs), np.float64)
    mean = expectation(probability, predictions)
    squares = (predictions - mean) ** 2
    variance = expectation(probability, squares)
    fourth = expectation(probability, squares**2)
    found = predict.mc_predict(KEY, model, x, samples=n)
    assert_normal((found.mean - mean) / np.sqrt(variance / n), FALSE_ALARM, "mean")
    # That the mean is estimated moves the variance by variance / n, 1 / sqrt(n) of its error.
    error = np.asarray(found.stddev) ** 2 - variance
    assert_normal(error / np.sqrt((fourth - variance**2) / n), FALSE_ALARM, "variance")


def test_mean_and_stddev_are_those_of_the_samples(x64):
    model, x = mlp(), inputs()
    samples = predict.mc_samples(KEY, model, x, samples=20)
    mean, stddev = predict.mc_predict(KEY, model, x, samples=20)
    np.testing.assert_allclose(mean, np.mean(samples, 0), rtol=1e-12)
    np.testing.assert_allclose(stddev, np.std(samples, 0), rtol=1e-12)
    geometric = predict.geometric_mean_predict(KEY, model, x, samples=20)
    product = stats.gmean(np.asarray(samples), axis=0)
    np.testing.assert_allclose(geometric, product / product.sum(-1, keepdims=True), rtol=1e-12)


def test_more_samples_begin_with_the_same():
    few, many = (predict.mc_samples(KEY, mlp(), inputs(), samples=n) for n in (4, 9))
    np.testing.assert_array_equal(few, many[:4])


def test_one_sample_has_no_stddev():
    np.testing.assert_array_equal(predict.mc_predict(KEY, mlp(), inputs(), samples=1).stddev, 0)


def test_another_key_draws_other_sub_networks():
    first, second = (
        predict.mc_samples(key, mlp((4, 128, 3)), inputs(), samples=1)
        for key in jax.random.split(KEY)
    )
    assert np.all(first != second)


def test_memory_does_not_grow_with_the_samples():
    def holds_all(rule):
        return "1013,2,3" in str(
            jax.make_jaxpr(lambda x: rule(KEY, mlp(), x, samples=1013))(inputs())
        )

    assert holds_all(predict.mc_samples)
    assert not holds_all(predict.mc_predict) and not holds_all(predict.geometric_mean_predict)


@every_sampled
def test_one_program_for_all_keys_and_inputs(rule):
    calls = []

    class Counted(dj.layers.MLP):
        def __call__(self, x):
            calls.append(x.shape)
            return super().__call__(x)

    model = Counted((4, 5, 3), rates=0.5, rngs=nnx.Rngs(0))
    rule(KEY, model, inputs(), samples=3)
    traced = len(calls)
    rule(jax.random.key(1), model, 2 * inputs(), samples=3)
    assert len(calls) == traced <= 2


@every_sampled
def test_jit_and_vmap_over_keys(rule):
    keys, model, x = jax.random.split(KEY, 3), mlp(), inputs()
    many = jax.jit(jax.vmap(lambda key: rule(key, model, x, samples=2)))(keys)
    one = rule(keys[1], model, x, samples=2)
    # Rounding of a few sums of a few terms, in another order.
    close = functools.partial(np.testing.assert_allclose, rtol=64 * 2.0**-23, atol=64 * 2.0**-23)
    jax.tree.map(lambda a, b: close(a[1], b), many, one)


@pytest.mark.usefixtures("key_reuse_checked")
@every_sampled
def test_no_key_is_used_twice(rule):
    rule(jax.random.key(7), mlp(), inputs(), samples=2)


@every_sampled
def test_errors_of_the_sampled_rules(rule):
    with pytest.raises(TypeError, match=r"jax\.random\.key\(0\)"):
        rule(None, mlp(), inputs(), samples=3)
    for bad in (0, -1, 2.0):
        with pytest.raises(ValueError, match=f"samples is {bad}.*write"):
            rule(KEY, mlp(), inputs(), samples=bad)


# Weight scaling and the geometric mean


def test_scaled_is_one_pass_without_dropout():
    model = mlp()
    scaled = predict.predict_scaled(model, inputs())
    outputs = predict.predict_scaled(model, inputs(), output=lambda y: y)
    model.eval()
    # Compiled and not: softmax of three numbers of order one.
    np.testing.assert_allclose(scaled, jax.nn.softmax(model(inputs())), rtol=32 * 2.0**-23)
    np.testing.assert_allclose(outputs, model(inputs()), rtol=32 * 2.0**-23, atol=32 * 2.0**-23)


def geometric_mean(model, x):
    outputs, probability = enumerated(model, x)
    product = np.exp(expectation(probability, np.asarray(jax.nn.log_softmax(outputs))))
    return product / product.sum(-1, keepdims=True)


@pytest.mark.parametrize("rates", [(0, 0.5), (0, 0.2)])
def test_weight_scaling_is_the_geometric_mean_of_dropout_before_the_last_layer(rates, x64):
    """Hinton et al. 2012; Baldi and Sadowski 2013: exact, and for any rate."""
    model, x = mlp((4, 6, 3), rates), inputs()
    np.testing.assert_allclose(
        predict.predict_scaled(model, x), geometric_mean(model, x), rtol=1e-12
    )


def test_weight_scaling_is_not_the_geometric_mean_of_deeper_dropout(x64):
    model, x = mlp((4, 6, 3), (0.5, 0.5)), inputs()
    assert np.abs(predict.predict_scaled(model, x) - geometric_mean(model, x)).max() > 0.01


def test_the_sampled_geometric_mean_nears_the_enumerated():
    """By its two log odds: the mean of n independent ones."""
    model, x, n = mlp(), inputs(), 2**12
    outputs, probability = enumerated(model, x)
    odds = outputs[..., 1:] - outputs[..., :1]
    mean = expectation(probability, odds)
    variance = expectation(probability, (odds - mean) ** 2)
    logs = np.log(np.float64(predict.geometric_mean_predict(KEY, model, x, samples=n)))
    z = (logs[..., 1:] - logs[..., :1] - mean) / np.sqrt(variance / n)
    assert_normal(z, FALSE_ALARM, "log odds")


# Moments


EXACT = {"input": ((6, 3), (0.25,)), "hidden": ((4, 6, 3), (0, 0.5)), "none": ((4, 6, 3), (0, 0))}
where_exact = pytest.mark.parametrize(("sizes", "rates"), EXACT.values(), ids=EXACT)


def test_samples_may_be_counted_by_numpy():
    model, x = mlp(), inputs()
    found, expected = (
        dj.mc_predict(jax.random.key(0), model, x, samples=n) for n in (np.int64(2), 2)
    )
    np.testing.assert_array_equal(found.mean, expected.mean)


class Doubled(dj.layers.MLP):
    def __call__(self, x):
        return 2 * super().__call__(x)


def test_moments_of_what_they_do_not_describe_are_refused():
    with pytest.raises(TypeError, match="the model is Doubled"):
        moments.moment_predict(Doubled((4, 5, 3), rates=0.5, rngs=nnx.Rngs(0)), inputs())
    model = mlp()
    model.dropouts[1] = dj.layers.AlphaDropout(0.5, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="the model has AlphaDropout"):
        moments.moments(model, inputs())
    model.dropouts[1] = dj.layers.GaussianDropout(0.5, rngs=nnx.Rngs(0))
    moments.moments(model, inputs())


@where_exact
def test_moments_are_exact_up_to_the_first_random_layer(sizes, rates, x64):
    model, x = mlp(sizes, rates), inputs(features=sizes[0])
    outputs, probability = enumerated(model, x)
    mean, variance = moments.moments(model, x)
    exact = expectation(probability, outputs)
    np.testing.assert_allclose(mean, exact, rtol=1e-12)
    of_all = expectation(probability, (outputs - exact) ** 2)
    np.testing.assert_allclose(variance, of_all, rtol=1e-12, atol=1e-14)


def test_two_classes_have_the_sigmoid_of_the_paper(x64):
    """The difference of the logits has its exact moments: they are correlated."""
    model, x = mlp((4, 6, 2), (0, 0.5)), inputs()
    outputs, probability = enumerated(model, x)
    odds = outputs[..., 1] - outputs[..., 0]
    mean = expectation(probability, odds)
    variance = expectation(probability, (odds - mean) ** 2)
    sigmoid = 1 / (1 + np.exp(-mean / np.sqrt(1 + np.pi * variance / 8)))
    np.testing.assert_allclose(moments.moment_predict(model, x)[:, 1], sigmoid, rtol=1e-12)


def test_without_dropout_it_is_softmax(x64):
    model = mlp(rates=(0, 0))
    p = moments.moment_predict(model, inputs())
    np.testing.assert_allclose(p, predict.predict_scaled(model, inputs()), rtol=1e-12)


def test_probabilities_of_many_classes_add_up_to_1(x64):
    p = moments.moment_predict(mlp((4, 6, 5), (0.5, 0.5)), inputs())
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-12)
    assert np.all(p > 0)


@pytest.mark.parametrize("mean", [-20.0, -3.0, -0.5, 0.0, 0.5, 3.0, 1e3])
@pytest.mark.parametrize("stddev", [0.5, 2.0])
def test_moments_of_relu_of_a_gaussian(mean, stddev, x64):
    """Against quadrature over the positive part."""

    def moment(power):
        peak, far = max(mean, 0), 40 * stddev
        density = stats.norm(mean, stddev).pdf
        value, _ = integrate.quad(
            lambda u: u**power * density(u), max(peak - far, 0), peak + far, points=[peak],
            epsabs=0, epsrel=1e-13, limit=500,
        )  # fmt: skip
        return value

    found = moments._relu(jnp.float64(mean), jnp.float64(stddev**2))
    np.testing.assert_allclose(found[0], moment(1), rtol=1e-10, atol=1e-15)
    variance = moment(2) - moment(1) ** 2  # which cancels at large mean
    np.testing.assert_allclose(found[1], variance, rtol=1e-10, atol=1e-15 + 1e-12 * moment(2))


def test_moments_are_nearer_to_the_mean_of_all_sub_networks_than_weight_scaling(x64):
    model, x = mlp((6, 6, 3), (0.5, 0.5)), 2 * inputs(20, 6)
    outputs, probability = enumerated(model, x)
    exact = expectation(probability, np.asarray(jax.nn.softmax(outputs)))

    def divergence(p):
        return np.mean(np.sum(exact * np.log(exact / p), axis=-1))

    assert divergence(moments.moment_predict(model, x)) < divergence(
        predict.predict_scaled(model, x)
    )


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_value_and_gradient_are_finite_at_every_rate(rate):
    def sums(rate, x):
        return moments.moment_predict(mlp(rates=(rate, rate)), x)[:, 0].sum()

    x = inputs().at[0].set(0)
    for at in (rate, jnp.float32(rate)):
        value, gradient = jax.value_and_grad(sums, argnums=1)(at, x)
        assert np.isfinite(value) and np.all(np.isfinite(gradient))


def test_rate_1_leaves_the_bias():
    model = mlp(rates=(0, 1))
    mean, variance = moments.moments(model, inputs())
    np.testing.assert_array_equal(mean, jnp.broadcast_to(model.linears[1].bias[...], (2, 3)))
    np.testing.assert_array_equal(variance, 0)


@pytest.mark.optimised  # products of float64 round otherwise
def test_a_rate_may_be_an_array_or_traced(x64):
    x, each = inputs(), np.array([0.1, 0.2, 0.3, 0.5])
    alone = moments.moments(mlp(rates=(0.25, 0.5)), x)
    full = moments.moments(mlp(rates=(jnp.full(4, 0.25), 0.5)), x)
    traced = jax.jit(lambda rate: moments.moments(mlp(rates=(rate, 0.5)), x))(0.25)
    for other in (full, traced):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12), alone, other)
    model = mlp((4, 3), (jnp.asarray(each),))
    kernel = np.asarray(model.linears[0].kernel[...], np.float64)
    spread = (np.asarray(x) ** 2 * each / (1 - each)) @ kernel**2
    np.testing.assert_allclose(moments.moments(model, x).variance, spread, rtol=1e-12)


def test_low_precision_inputs_are_widened():
    found = moments.moments(mlp(), inputs(dtype=jnp.bfloat16))
    assert found.mean.dtype == found.variance.dtype == jnp.float32
    p = predict.mc_predict(KEY, mlp(), inputs(dtype=jnp.bfloat16), samples=2)
    assert p.mean.dtype == jnp.float32


@pytest.mark.parametrize("rule", [moments.moments, moments.moment_predict])
def test_errors_of_the_moments(rule):
    with pytest.raises(TypeError, match=r"Linear.*layers\.MLP"):
        rule(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), inputs())
    with pytest.raises(ValueError, match=r"tanh.*nnx\.relu"):
        rule(dj.layers.MLP((4, 3), rates=0.5, activation=jnp.tanh, rngs=nnx.Rngs(0)), inputs())
    with pytest.raises(TypeError, match=r"astype\(jnp\.float32\)"):
        rule(mlp(), jnp.ones((2, 4), jnp.int32))


# Networks that are not simple.


class Residual(nnx.Module):
    """Its branch is seldom dropped: most sub-networks agree on most examples."""

    def __init__(self, rngs):
        self.inner, self.drop = nnx.Linear(16, 16, rngs=rngs), dj.layers.DropPath(0.1, rngs=rngs)
        self.out = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x):
        return self.out(x + self.drop(nnx.relu(self.inner(x))))


@pytest.mark.parametrize("samples", [2, 5, 20])
def test_the_deviation_of_sub_networks_that_agree_is_a_number(samples):
    model, x = Residual(nnx.Rngs(0)), jax.random.normal(KEY, (300, 16))
    stddev = predict.mc_predict(KEY, model, x, samples=samples).stddev
    by_hand = predict.mc_samples(KEY, model, x, samples=samples).std(0)
    # Both are sums of as many squares of rounded probabilities, each off by a few units of 2^-24.
    np.testing.assert_allclose(stddev, by_hand, atol=16 * 2.0**-24)


@pytest.mark.parametrize("samples", [1, 3])
def test_the_deviation_has_a_gradient_where_it_is_zero(samples):
    model, x = dj.layers.MLP((8, 4, 2), rates=0, rngs=nnx.Rngs(0)), jnp.ones((2, 8))
    total = lambda w: predict.mc_predict(KEY, model, w * x, samples=samples).stddev.sum()  # noqa: E731
    value, slope = jax.value_and_grad(total)(1.0)
    assert abs(value) < 1e-6 and jnp.isfinite(slope)


def test_a_class_that_cannot_be_has_probability_zero():
    class Barred(nnx.Module):
        def __init__(self):
            self.mlp = mlp()

        def __call__(self, x):
            return self.mlp(x).at[..., 2].set(-jnp.inf)

    for name, rule in RULES.items():
        if name != "moments":
            p = jax.tree.leaves(rule(Barred(), inputs()))[0]
            assert np.all(p[..., 2] == 0) and np.allclose(p.sum(-1), 1), name


class Listed(nnx.Module):
    """An attribute that cannot be hashed."""

    def __init__(self, factors):
        self.mlp, self.factors = mlp(), nnx.static(factors)

    def __call__(self, x):
        return self.mlp(x) * self.factors[0]


@pytest.mark.parametrize("name", [name for name in RULES if name != "moments"])
def test_a_model_may_hold_a_list_and_change_it(name):
    model, rule = Listed([1.0]), RULES[name]
    first = rule(model, inputs())
    model.factors[0] = 0.0
    uniform = jax.tree.leaves(rule(model, inputs()))[0]
    assert np.allclose(uniform, 1 / 3) and not np.allclose(jax.tree.leaves(first)[0], 1 / 3)


@pytest.mark.parametrize("name", [name for name in RULES if name != "moments"])
def test_another_kind_of_model_says_what_to_write(name):
    with pytest.raises(TypeError, match="model is Dense and no nnx.Module.*ToNNX"):
        RULES[name](linen.Dense(3), inputs())
