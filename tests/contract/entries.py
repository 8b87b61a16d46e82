"""The contract's list: every public noise function, with its mean, variance and edges.

Add an `Entry` for a new function; `test_contract.py` does the rest, and fails while it is missing.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from scipy import stats

import dropout_jax as dj
from dropout_jax._checks import check_rate
from dropout_jax.noise.alpha import SATURATION

ODD = ((), (33,), (0, 5))


def same(x):
    return x


def dropped_variance(x, rate):
    """Of Bernoulli noise over keep, and of Gaussian noise to match."""
    return rate / (1 - rate) * x**2


@dataclasses.dataclass(frozen=True)
class Entry:
    """A function of (key, x, rate), and what is true of it.

    `call` returns x's shape and dtype and is affine in x for a given key (and given signs of x).
    `mean` and `variance` are those of an element given x; None where there is no closed form, and
    the function's own tests say what holds. `at_zero` and `at_one` are the values at rates 0 and 1;
    `at_one` is None where the argument is no rate. `rate_shape` is that of an array rate for x of
    `shape`, and None where the documentation refuses one. `functions` are the public names that an
    entry of another name covers: a variant, whose tests that compile much are `slow`.
    """

    name: str
    call: Callable
    functions: tuple[str, ...] = ()
    mean: Callable | None = lambda x, rate: x
    variance: Callable | None = dropped_variance
    at_zero: Callable = same
    at_one: Callable | None = jnp.zeros_like
    shape: tuple[int, ...] = (8, 3, 6)
    odd_shapes: tuple = ODD
    rate_shape: tuple[int, ...] | None = (8, 1, 1)
    traced: bool = True
    rounds_once: bool = True
    """In bfloat16 the result is that of float32, rounded: false where a sum follows."""
    same_in_64_bits: bool = True
    """float64 draws the same noise: false for Gaussian noise, which is drawn in x's precision."""

    @property
    def covers(self):
        return self.functions or (self.name,)


def alpha_gain(rate):
    return ((1 - rate) * (1 + rate * SATURATION**2)) ** -0.5


def alpha_law(name, function, **more):
    return Entry(
        name,
        function,
        mean=lambda x, rate: (1 - rate) * alpha_gain(rate) * x,
        variance=lambda x, rate: rate * (1 - rate) * (alpha_gain(rate) * (x - SATURATION)) ** 2,
        **more,
    )


def block_share(rate, elements):
    """(P(K > 0), N E[1 / K]) of K, the number kept of N elements."""
    kept = np.arange(1, elements + 1)
    chance = stats.binom.pmf(kept, elements, 1 - rate)
    return chance.sum(), elements * (chance / kept).sum()


def block_variance(rate, elements):
    some, inverse = block_share(rate, elements)
    return inverse - some**2


def eye_like(kernel):
    """The input that makes a dense layer's output its kernel."""
    return jnp.eye(kernel.shape[0], dtype=kernel.dtype)


MATRICES = {
    "shape": (8, 6),
    "odd_shapes": ((3, 0), (0, 5), (33, 7)),
    "rate_shape": (8, 1),
}
BATCHED = ((33,), (0, 5), (2, 5, 7))
HEADS = ((1, 3, 0), (0, 5, 3), (2, 5, 7))


def attend_to_itself(key, x, rate):
    """Values (..., length, heads), each attended to by its own query alone, two at a time."""
    one = jnp.zeros((*x.shape, 1), x.dtype)
    mask = jnp.eye(x.shape[-2], dtype=bool)
    return dj.dot_product_attention(key, one, one, x[..., None], rate, mask=mask, block=2)[..., 0]


def log_odds(rate):
    """log(rate / (1 - rate)): the parameter of the laws that are learned."""
    rate = jnp.asarray(check_rate(rate), jnp.float32)
    return jnp.log(rate) - jnp.log1p(-rate)


ENTRIES = [
    Entry("dropout", dj.dropout),
    Entry(
        "dropout-key",
        lambda key, x, rate: dj.dropout(key, x, rate, residual="key"),
        ("dropout",),
    ),
    Entry(
        "dropout_unscaled",
        dj.dropout_unscaled,
        mean=lambda x, rate: (1 - rate) * x,
        variance=lambda x, rate: rate * (1 - rate) * x**2,
    ),
    Entry(
        "apply_mask-packed",
        lambda key, x, rate: dj.apply_mask(x, dj.packed_mask(key, rate, jnp.shape(x)), rate),
        ("packed_mask",),
    ),
    Entry(
        "apply_mask-boolean",
        lambda key, x, rate: dj.apply_mask(x, dj.bernoulli_mask(key, rate, jnp.shape(x)), rate),
        ("bernoulli_mask",),
    ),
    Entry("gaussian_dropout", dj.gaussian_dropout, same_in_64_bits=False),
    Entry(
        "gaussian_noise",
        dj.gaussian_noise,
        variance=lambda x, stddev: stddev**2 + 0 * x,
        at_one=None,
        same_in_64_bits=False,
    ),
    alpha_law("alpha_dropout", dj.alpha_dropout),
    alpha_law("feature_alpha_dropout", dj.feature_alpha_dropout),
    Entry("drop_path", dj.drop_path, odd_shapes=BATCHED),
    Entry(
        "drop_path-batch",
        lambda key, x, rate: dj.drop_path(key, x, rate, per="batch"),
        ("drop_path",),
        odd_shapes=BATCHED,
        rate_shape=(),
    ),
    Entry(
        "drop_path_subset",
        lambda key, x, rate: dj.drop_path_subset(key, x, rate, same),
        mean=lambda x, rate: 2 * x,
        at_zero=lambda x: x + x,
        at_one=same,
        shape=(8, 3),
        odd_shapes=BATCHED,
        rate_shape=None,
        traced=False,
        rounds_once=False,
    ),
    # With blocks of one element the law is known: m / mean(m).
    Entry(
        "drop_block-1",
        lambda key, x, rate: dj.drop_block(key, x, rate, block_size=1),
        ("drop_block",),
        mean=lambda x, rate: block_share(rate, x.size)[0] * x,
        variance=lambda x, rate: block_variance(rate, x.size) * x**2,
        shape=(8, 3, 1),
        odd_shapes=((0, 5, 3), (1, 33, 1)),
        rate_shape=None,
    ),
    Entry(
        "drop_block",
        lambda key, x, rate: dj.drop_block(key, x, rate, block_size=3),
        mean=None,
        variance=None,
        shape=(8, 5, 6, 3),
        odd_shapes=((0, 4, 5, 3), (2, 3, 3, 0), (1, 3, 7, 1)),
        rate_shape=None,
    ),
    Entry("drop_connect", dj.drop_connect),
    Entry(
        "drop_connect_dense",
        lambda key, w, rate: dj.drop_connect_dense(key, eye_like(w), w, rate),
        **MATRICES,
    ),
    Entry(
        "drop_connect_dense-batch",
        lambda key, w, rate: dj.drop_connect_dense(key, eye_like(w), w, rate, per="batch"),
        ("drop_connect_dense",),
        **MATRICES,
    ),
    Entry(
        "drop_connect_moments",
        lambda key, w, rate: dj.drop_connect_moments(key, eye_like(w), w, rate, same, 4),
        variance=lambda x, rate: dropped_variance(x, rate) / 4,
        rounds_once=False,
        same_in_64_bits=False,
        **MATRICES,
    ),
    Entry(
        "zoneout",
        lambda key, x, rate: dj.zoneout(key, x, 2 * x, rate),
        mean=lambda x, rate: (1 + rate) * x,
        variance=lambda x, rate: rate * (1 - rate) * x**2,
        at_one=lambda x: 2 * x,
    ),
    Entry("attention_dropout", dj.attention_dropout, odd_shapes=HEADS),
    Entry(
        "attention_dropout-batch",
        lambda key, x, rate: dj.attention_dropout(key, x, rate, per="batch"),
        ("attention_dropout",),
        odd_shapes=HEADS,
        rate_shape=(),
    ),
    Entry(
        "dot_product_attention",
        attend_to_itself,
        odd_shapes=((1, 0, 3), *HEADS[1:]),
        rate_shape=None,
    ),
    Entry(
        "standout",
        lambda key, x, rate: dj.standout(key, x, -log_odds(rate)),
        mean=lambda x, rate: (1 - rate) * x,
        variance=lambda x, rate: rate * (1 - rate) * x**2,
    ),
    # Its moments, which have no closed form, and its temperatures: test_concrete.py.
    Entry(
        "concrete_dropout",
        lambda key, x, rate: dj.concrete_dropout(key, x, log_odds(rate)),
        mean=None,
        variance=None,
        same_in_64_bits=False,
    ),
    Entry(
        "variational_dropout",
        lambda key, x, rate: dj.variational_dropout(key, x, log_odds(rate)),
        at_one=None,
        same_in_64_bits=False,
    ),
    Entry(
        "variational_dense",
        lambda key, w, rate: dj.variational_dense(key, eye_like(w), w, log_odds(rate)),
        at_one=None,
        rounds_once=False,
        same_in_64_bits=False,
        **MATRICES,
    ),
    Entry(
        "sparse_dense",
        lambda key, w, rate: dj.sparse_dense(key, eye_like(w), w, jnp.log(check_rate(rate))),
        variance=lambda x, rate: rate + 0 * x,
        at_one=None,
        rounds_once=False,
        same_in_64_bits=False,
        **MATRICES,
    ),
]

# Public functions of a key that are no noise: say why.
NO_NOISE = {
    "site_key": "makes a key",
    "per_example_keys": "makes keys",
    "draw_outputs": "the draw that variational_dense and sparse_dense share",
    "mc_predict": "predicts",
    "geometric_mean_predict": "predicts",
    "mc_classify": "predicts",
    "mc_log_likelihood": "scores predictions",
    "mc_quantiles": "predicts",
    "mc_regress": "predicts",
}
