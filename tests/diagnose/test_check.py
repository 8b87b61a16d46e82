"""check_dropout: every kind of broken model is caught, by name and place; no sound one is accused.

What would make this wrong: a check that never fires, or that fires for what is only unusual, such
as a mask that is shared on purpose.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import dropout_jax as dj
from dropout_jax.diagnose.findings import PROBLEMS

X = jnp.asarray(np.random.default_rng(0).normal(size=(16, 8)), jnp.float32)


def found(model, x=X, **options):
    return dj.check_dropout(model, x, verbose=False, **options)


def problems(*arguments, **options):
    return {finding.problem for finding in found(*arguments, **options)}


class Net(nnx.Module):
    """A sound network; the broken ones differ from it in one thing."""

    def __init__(self, rate=0.5, drop=nnx.Dropout):
        rngs = nnx.Rngs(0)
        self.one, self.two = nnx.Linear(8, 32, rngs=rngs), nnx.Linear(32, 4, rngs=rngs)
        self.drop = drop(rate, rngs=rngs)

    def __call__(self, x):
        return self.two(self.drop(nnx.relu(self.one(x))))


class OwnDropout(nnx.Module):
    """A dropout layer as people write it, with a key from a stream of its own."""

    def __init__(self, rate, *, rngs):
        self.rate, self.rngs, self.deterministic = rate, rngs.dropout.fork(), False

    def key(self):
        return self.rngs()

    def mask(self, key, x):
        return jax.random.bernoulli(key, 1 - self.rate, x.shape)

    def __call__(self, x):
        if self.deterministic:
            return x
        return jnp.where(self.mask(self.key(), x), x / (1 - self.rate), 0)


# Broken models: name -> (the problem, a part of the place, the model, options)


class FixedKey(OwnDropout):
    def key(self):
        return jax.random.key(0)


class NumPyMask(OwnDropout):
    def __call__(self, x):
        if self.deterministic:
            return x
        mask = np.random.default_rng().uniform(size=x.shape) >= self.rate
        return jnp.where(mask, x / (1 - self.rate), 0)


class SharedByTheBatch(OwnDropout):
    def mask(self, key, x):
        return jnp.broadcast_to(jax.random.bernoulli(key, 1 - self.rate, x.shape[1:]), x.shape)


class AlwaysOn(OwnDropout):
    def __call__(self, x):
        return jnp.where(self.mask(self.key(), x), x / (1 - self.rate), 0)


class OwnSwitch(Net):
    """Its switch is not the one that eval() sets."""

    def __init__(self):
        super().__init__(drop=nnx.Dropout)
        self.training = True

    def __call__(self, x):
        x = nnx.relu(self.one(x))
        return self.two(self.drop(x, deterministic=not self.training))


class NeedsAnArgument(Net):
    def __call__(self, x, training=False):
        return self.two(self.drop(nnx.relu(self.one(x)), deterministic=not training))


class OnTheOutputs(Net):
    def __call__(self, x):
        return self.drop(self.two(nnx.relu(self.one(x))))


class KeepsTheRate(OwnDropout):
    def mask(self, key, x):
        return jax.random.bernoulli(key, self.rate, x.shape)


class NotScaled(OwnDropout):
    def __call__(self, x):
        return x if self.deterministic else jnp.where(self.mask(self.key(), x), x, 0)


class ScaledByTheRate(OwnDropout):
    def __call__(self, x):
        return x if self.deterministic else jnp.where(self.mask(self.key(), x), x / self.rate, 0)


@jax.custom_vjp
def other_mask_backward(x, keys):
    return jnp.where(jax.random.bernoulli(keys[0], 0.5, x.shape), 2 * x, 0)


def _forward(x, keys):
    return other_mask_backward(x, keys), keys


def _backward(keys, g):
    return jnp.where(jax.random.bernoulli(keys[1], 0.5, g.shape), 2 * g, 0), None


other_mask_backward.defvjp(_forward, _backward)


class OtherMaskBackward(OwnDropout):
    def __call__(self, x):
        if self.deterministic:
            return x
        return other_mask_backward(x, jax.random.split(self.key()))


class OneKeyForTwo(nnx.Module):
    """Two places of one width that draw from one key."""

    def __init__(self, rates=(0.5, 0.5)):
        rngs = nnx.Rngs(0)
        self.linears = nnx.List([nnx.Linear(*s, rngs=rngs) for s in ((8, 32), (32, 32), (32, 4))])
        self.drops = nnx.List([dj.layers.Dropout(rate) for rate in rates])
        self.rngs = rngs.dropout.fork()

    def __call__(self, x):
        key = self.rngs()
        for linear, drop in zip(self.linears[:2], self.drops, strict=True):
            x = drop(nnx.relu(linear(x)), rngs=key)
        return self.linears[2](x)


class BeforeTheNorm(Net):
    def __init__(self):
        super().__init__(0.5)
        self.norm = nnx.BatchNorm(32, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.two(nnx.relu(self.norm(self.drop(nnx.relu(self.one(x))))))


class LinenNet(linen.Module):
    rate: float = 0.5
    broken: bool = False
    key: bool = False

    @linen.compact
    def __call__(self, x, train=False):
        x = linen.relu(linen.Dense(32)(x))
        fixed = {"rng": jax.random.key(0)} if self.key else {}
        x = linen.Dropout(self.rate)(x, deterministic=not train and not self.broken, **fixed)
        return linen.Dense(4)(x)


def variables_of(module):
    return module.init(jax.random.key(1), X)


W = jax.random.normal(jax.random.key(3), (8, 4))


def forgets_the_key(key, x):
    return dj.dropout(jax.random.key(0), x, 0.5) @ W


def one_mask_for_the_batch(key, x):
    return (x * dj.dropout(key, jnp.ones((1, 8)), 0.5)) @ W


def drops_the_outputs(key, x):
    return dj.dropout(key, x @ W, 0.5)


def other_mask_in_the_backward_pass(key, x):
    return other_mask_backward(x, jax.random.split(key)) @ W


def plain(key, x):
    return x @ W


def sound(key, x):
    return dj.dropout(key, x, 0.5) @ W


BROKEN = {
    "a key written into a layer": ("constant", "drop", Net(drop=FixedKey), {}),
    "a mask of NumPy": ("compiled", "whole", Net(drop=NumPyMask), {}),
    "a mask of one example": ("batch", "drop", Net(drop=SharedByTheBatch), {}),
    "no switch": ("evaluation", "drop", Net(drop=AlwaysOn), {}),
    "a switch of its own": ("evaluation", "drop", OwnSwitch(), {}),
    "an argument that is not given": ("training", "drop", NeedsAnArgument(), {}),
    "on the outputs": ("outputs", "drop", OnTheOutputs(), {}),
    "keep for rate": ("rate", "drop", Net(0.2, KeepsTheRate), {}),
    "no scale": ("scale", "drop", Net(0.2, NotScaled), {}),
    "a scale of 1 / rate": ("scale", "drop", Net(0.2, ScaledByTheRate), {}),
    "another mask backward": ("gradient", "drop", Net(drop=OtherMaskBackward), {}),
    "one key for two": ("sites", "drops.0 and drops.1", OneKeyForTwo(), {}),
    "one key for two rates": ("sites", "drops.0 and drops.1", OneKeyForTwo((0.5, 0.25)), {}),
    "before batch normalisation": ("norm", "norm", BeforeTheNorm(), {}),
    "Linen, on in evaluation": (
        "evaluation", "Dropout_0", LinenNet(broken=True),
        {"variables": variables_of(LinenNet())},
    ),
    "Linen, one key": (
        "constant", "Dropout_0", LinenNet(key=True), {"variables": variables_of(LinenNet())},
    ),
    "a function of no key": ("constant", "whole", forgets_the_key, {}),
    "a function with one mask": ("batch", "whole", one_mask_for_the_batch, {}),
    "a function, on the outputs": (
        "outputs", "outputs", drops_the_outputs, {"evaluate": lambda key, x: x @ W},
    ),
    "a function, backward": ("gradient", "whole", other_mask_in_the_backward_pass, {}),
    "a function without dropout": ("training", "whole", plain, {}),
    "a function, on in evaluation": ("evaluation", "whole", sound, {"evaluate": sound}),
}  # fmt: skip


@pytest.mark.parametrize(("problem", "where", "model", "options"), BROKEN.values(), ids=BROKEN)
def test_a_broken_model_is_caught(problem, where, model, options):
    """By its problem and place, and accused of nothing else."""
    findings = found(model, **options)
    assert {f.problem for f in findings} == {problem}
    assert all(where in f.where for f in findings)
    assert all(f.how and f.instead for f in findings)


def test_every_problem_has_a_broken_model():
    assert {problem for problem, *_ in BROKEN.values()} == set(PROBLEMS)


class Attention(nnx.Module):
    def __init__(self):
        self.attention = nnx.MultiHeadAttention(
            2, 8, dropout_rate=0.5, decode=False, rngs=nnx.Rngs(0)
        )

    def __call__(self, x):
        return self.attention(x[:, None] * jnp.ones((1, 5, 1))).mean(1)


class Normalised(Net):
    """Batch normalisation before the dropout, where it belongs."""

    def __init__(self):
        super().__init__(0.5)
        self.norm = nnx.BatchNorm(32, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.two(self.drop(nnx.relu(self.norm(self.one(x)))))


class Images(nnx.Module):
    def __init__(self, drop):
        rngs = nnx.Rngs(0)
        self.conv, self.drop = nnx.Conv(1, 6, (3, 3), rngs=rngs), drop(rngs)
        self.linear = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.linear(self.drop(nnx.relu(self.conv(x))).mean((1, 2)))


class Variational(Net):
    """One mask for all steps of time, which are the first axis: shared on purpose."""

    def __init__(self):
        super().__init__()
        self.drop = dj.layers.Dropout(0.5, broadcast_dims=(0,), rngs=nnx.Rngs(1))


class Recurrent(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        cell = dj.layers.Zoneout(nnx.LSTMCell(8, 6, rngs=rngs), rate=(0.3, 0.1), rngs=rngs)
        self.rnn, self.linear = nnx.RNN(cell), nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.linear(self.rnn(jnp.stack([x] * 3, axis=1))[:, -1])


class WithFeatures(Net):
    """It gives its hidden units, after dropout, beside its outputs."""

    def __call__(self, x):
        hidden = self.drop(jnp.tanh(self.one(x)))
        return {"outputs": self.two(hidden), "hidden": hidden}


class Tokens(nnx.Module):
    """A block of a transformer on integers, with one layer of dropout called twice."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.embed, self.drop = nnx.Embed(20, 16, rngs=rngs), dj.layers.Dropout(0.1, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            2, 16, dropout_rate=0.1, broadcast_dropout=False, decode=False, rngs=rngs,
            attention_fn=dj.layers.dot_product_attention,
        )  # fmt: skip
        self.linear = nnx.Linear(16, 20, rngs=rngs)

    def __call__(self, tokens):
        h = self.drop(self.embed(tokens))
        return self.linear(h + self.drop(self.attention(h)))


IMAGES = jax.random.normal(jax.random.key(0), (4, 6, 6, 1))
SOUND = {
    "the textbook's": (dj.layers.MLP((8, 16, 16, 4), rates=0.5, rngs=nnx.Rngs(0)), X, {}),
    "with dropout of the input": (
        dj.layers.MLP((8, 16, 4), rates=(0.2, 0.5), rngs=nnx.Rngs(0)), X, {},
    ),
    "Flax's": (Net(), X, {}),
    "ours": (Net(drop=dj.layers.Dropout), X, {}),
    "one of one's own": (Net(drop=OwnDropout), X, {}),
    "a small rate": (Net(0.02), X, {}),
    "Gaussian": (Net(drop=dj.layers.GaussianDropout), X, {}),
    "alpha": (Net(drop=dj.layers.AlphaDropout), X, {}),
    "an argument that is given": (NeedsAnArgument(), X, {"train": {"training": True}}),
    "after batch normalisation": (Normalised(), X, {}),
    "attention": (Attention(), X, {}),
    "shared on purpose": (Variational(), X, {}),
    "spatial": (Images(lambda rngs: dj.layers.SpatialDropout2D(0.5, rngs=rngs)), IMAGES, {}),
    "drop path": (Images(lambda rngs: dj.layers.DropPath(0.5, rngs=rngs)), IMAGES, {}),
    "DropBlock": (
        Images(lambda rngs: dj.layers.DropBlock(0.2, block_size=3, rngs=rngs)), IMAGES, {},
    ),
    "recurrent": (Recurrent(), X, {}),
    "with its hidden units": (WithFeatures(), X, {}),
    "a transformer": (Tokens(), jax.random.randint(jax.random.key(1), (4, 12), 0, 20), {}),
    "a layer alone": (nnx.Dropout(0.5, rngs=nnx.Rngs(0)), X, {}),
    "a rate of 0": (dj.layers.MLP((8, 16, 4), rates=0.0, rngs=nnx.Rngs(0)), X, {}),
    "one example": (Net(), X[:1], {}),
    "Linen": (LinenNet(), X, {"variables": variables_of(LinenNet())}),
    "a function": (sound, X, {"evaluate": lambda key, x: x @ W}),
}  # fmt: skip


@pytest.mark.parametrize(("model", "x", "options"), SOUND.values(), ids=SOUND)
def test_a_sound_model_is_not_accused(model, x, options):
    assert found(model, x, **options) == []


def test_the_model_stays_as_it_is():
    model = Normalised()
    model.eval()
    before = jax.tree.leaves(nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.RngKey))))
    found(model)
    after = jax.tree.leaves(nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.RngKey))))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert model.drop.deterministic
    assert nnx.Dropout.__call__.__qualname__.startswith("Dropout")  # no watch is left behind


def test_it_prints_what_is_wrong_where_how_it_knows_and_what_to_write(capsys):
    dj.check_dropout(Net(drop=FixedKey), X)
    printed = capsys.readouterr().out
    for part in ("The mask is the same in every step.", "where:   drop", "by chance", "fold_in"):
        assert part in printed
    dj.check_dropout(Net(), X)
    assert "Nothing wrong was found: 6 steps" in capsys.readouterr().out


def test_bad_arguments():
    with pytest.raises(TypeError, match="model is int; write an nnx.Module, a Linen module"):
        found(3)
    with pytest.raises(TypeError, match="write variables=variables"):
        found(LinenNet())
    with pytest.raises(ValueError, match="one example or more"):
        found(Net(), X[:0])
    with pytest.raises(TypeError, match=r"jax\.random\.key\(0\)"):
        found(Net(), key=0)
