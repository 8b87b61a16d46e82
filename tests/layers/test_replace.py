"""Our Dropout in place of Flax's: all of them, wherever they are, and nothing else."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import dropout_jax as dj
from dropout_jax.layers.attention import dot_product_attention
from dropout_jax.layers.dropout import Dropout
from dropout_jax.layers.replace import replace_dropout

# In the fast loop the contract and the doctests stand for these: they compile much.
pytestmark = pytest.mark.slow


class Block(nnx.Module):
    """A transformer block as users of Flax write it."""

    def __init__(self, features, *, rate, rngs):
        self.norm_1 = nnx.LayerNorm(features, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            2, features, dropout_rate=rate, decode=False, deterministic=False, rngs=rngs
        )
        self.drop_1 = nnx.Dropout(rate, rngs=rngs)
        self.norm_2 = nnx.LayerNorm(features, rngs=rngs)
        self.mlp = nnx.Sequential(
            nnx.Linear(features, 4 * features, rngs=rngs),
            nnx.gelu,
            nnx.Dropout(rate, rngs=rngs),
            nnx.Linear(4 * features, features, rngs=rngs),
            nnx.Dropout(rate, broadcast_dims=(1,), rngs=rngs),
        )

    def __call__(self, x):
        x = x + self.drop_1(self.attention(self.norm_1(x)))
        return x + self.mlp(self.norm_2(x))


X = jax.random.normal(jax.random.key(0), (2, 5, 8))


def make_block(rate=0.5):
    return Block(8, rate=rate, rngs=nnx.Rngs(0))


def drop(rate=0.5):
    return nnx.Dropout(rate, rngs=nnx.Rngs(0))


class Held(nnx.Module):
    """A module that holds something."""

    def __init__(self, something):
        self.something = nnx.data(something)


def kinds(model):
    nodes = nnx.iter_graph(model, graph=True)
    return [type(node) for _, node in nodes if isinstance(node, nnx.Dropout)]


@pytest.mark.parametrize(
    ("something", "count"),
    [
        (drop(), 1),
        (nnx.List([drop(), drop(), nnx.BatchNorm(3, rngs=nnx.Rngs(0))]), 2),
        (nnx.Dict(a=drop(), b=nnx.Dict(c=drop())), 2),
        (nnx.Sequential(drop(), nnx.relu, drop()), 2),
        ([drop(), (drop(), {"a": drop(), "b": [drop()]})], 4),
        (Held(Held((drop(),))), 1),
        (nnx.Linear(2, 2, rngs=nnx.Rngs(0)), 0),
    ],
    ids=["attribute", "List", "Dict", "Sequential", "plain containers", "nested", "none"],
)
def test_every_dropout_is_replaced_once(something, count):
    model = Held(something)
    assert kinds(model) == [nnx.Dropout] * count
    assert replace_dropout(model) == count
    assert kinds(model) == [Dropout] * count
    assert replace_dropout(model) == 0


def test_the_model_may_be_the_dropout():
    model = drop()
    assert replace_dropout(model) == 1 and type(model) is Dropout


def test_shared_dropouts_and_cycles_stay_what_they_are():
    shared = drop()
    model = Held([shared, Held(shared)])
    model.something[1].parent = model
    assert replace_dropout(model) == 1
    assert model.something[0] is model.something[1].something is shared
    copy = nnx.merge(*nnx.split(model))
    assert type(copy.something[0]) is Dropout
    assert copy.something[0] is copy.something[1].something
    assert copy.something[1].parent is copy


def test_all_attributes_stay_and_a_shared_stream_stays_shared():
    stream = nnx.Rngs(5).dropout.fork()
    first = nnx.Dropout(0.3, broadcast_dims=(1,), deterministic=None, rng_collection="noise")
    second = nnx.Dropout(0.6)
    first.rngs = second.rngs = stream
    model = Held([first, second])
    before = [dict(vars(layer)) for layer in (first, second)]
    replace_dropout(model)
    assert [vars(layer) for layer in model.something] == before
    assert first.rngs is second.rngs is stream
    first(X, deterministic=False)
    second(X, deterministic=False)
    assert int(stream.count[...]) == 2


def test_the_masks_are_ours_of_the_key_that_flax_would_have_used():
    layer, twin = drop(0.3), drop(0.3)
    replace_dropout(layer)
    np.testing.assert_array_equal(layer(X), dj.dropout(twin.rngs(), X, 0.3))


def test_other_classes_are_left_alone():
    class Loud(nnx.Dropout):
        pass

    ours = Dropout(0.5, rngs=nnx.Rngs(0))
    model = Held([Loud(0.5), ours])
    with pytest.warns(UserWarning, match=r"model\.something\.0 \(Loud, derived from nnx.Dropout\)"):
        assert replace_dropout(model) == 0
    assert type(model.something[0]) is Loud and model.something[1] is ours


def test_nothing_else_changes():
    model = make_block()

    def ids():
        found = {path: id(node) for path, node in nnx.iter_graph(model, graph=True)}
        return {path: of for path, of in found.items() if path != ("attention", "attention_fn")}

    ids_before = ids()
    before = jax.tree.map(jax.random.key_data, nnx.state(model, nnx.RngKey))
    assert replace_dropout(model) == 4
    assert ids() == ids_before
    after = jax.tree.map(jax.random.key_data, nnx.state(model, nnx.RngKey))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), before, after))
    assert all(count == 0 for count in jax.tree.leaves(nnx.state(model.mlp, nnx.RngCount)))


def test_errors_say_what_to_write_and_replace_nothing():
    with pytest.raises(TypeError, match=r"dict and no nnx.Module.*linen\.replace_dropout"):
        replace_dropout({"drop": drop()})
    model = Held([drop(), nnx.Dropout(1.5)])
    with pytest.raises(ValueError, match=r"model\.something\.1: rate is 1\.5"):
        replace_dropout(model)
    assert kinds(model) == [nnx.Dropout] * 2


# Attention


class OwnAttention(nnx.Module):
    """As models of others have it: a function that is held, and dropout by a module."""

    def __init__(self):
        self.attend = nnx.dot_product_attention
        self.drop = drop()

    def __call__(self, x):
        return self.drop(self.attend(x, x, x))


def test_attention_functions_are_replaced_wherever_they_are_held():
    model = Held([make_block().attention, OwnAttention()])
    assert replace_dropout(model, attention=False) == 1
    assert replace_dropout(model) == 2
    assert model.something[0].attention_fn is dot_product_attention
    assert model.something[1].attend is dot_product_attention
    assert replace_dropout(model) == 0


class DrawsItself(nnx.Module):
    def __call__(self, key, x):
        return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x, 0)


class CallsByName(nnx.Module):
    def __call__(self, key, x):
        return nnx.dot_product_attention(x, x, x, dropout_rng=key, dropout_rate=0.5)


def test_what_drops_in_another_way_is_named():
    other = make_block().attention
    other.attention_fn = lambda *args, **kwargs: nnx.dot_product_attention(*args, **kwargs)
    linen_model = nnx.bridge.ToNNX(nn.Dropout(0.5), rngs=nnx.Rngs(0))
    model = Held([DrawsItself(), CallsByName(), other, linen_model, drop()])
    with pytest.warns(UserWarning) as warned:
        assert replace_dropout(model) == 1
    (message,) = (str(w.message) for w in warned)
    for part in (
        "model.something.0 (DrawsItself, whose code has random.bernoulli(...)",
        "model.something.1 (CallsByName, whose code has dropout_rng=...)",
        "model.something.2 (an attention_fn of its own)",
        "model.something.3 (a Linen module: call it inside linen.replace_dropout())",
    ):
        assert part in message
    assert "something.4" not in message


# A transformer block


def test_a_block_at_inference_computes_what_it_did():
    model = make_block()
    model.eval()
    expected = model(X)
    assert replace_dropout(model, attention=False) == 3
    np.testing.assert_array_equal(model(X), expected)
    assert replace_dropout(model) == 1
    np.testing.assert_allclose(model(X), expected, rtol=1e-5, atol=1e-5)
    model.train()
    assert (model(X) != model(X)).any()


def test_a_block_at_rate_0_computes_what_it_did():
    expected = make_block(0.0)(X)
    model = make_block(0.0)
    assert replace_dropout(model) == 4
    np.testing.assert_allclose(model(X), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_block_trains_on_with_the_optimizer_that_it_had():
    model = make_block(0.1)
    optimizer = nnx.Optimizer(model, optax.sgd(1e-3), wrt=nnx.Param)
    traces = []

    @nnx.jit
    def step(model, optimizer, x):
        traces.append(None)
        loss, grads = nnx.value_and_grad(lambda model: (model(x) ** 2).mean())(model)
        optimizer.update(model, grads)
        return loss

    step(model, optimizer, X)
    replace_dropout(model)
    losses = [step(model, optimizer, X) for _ in range(3)]
    assert len(traces) == 2  # one for the block of Flax, one for ours
    assert jnp.isfinite(jnp.array(losses)).all() and len(set(map(float, losses))) == 3
    assert [int(count) for count in jax.tree.leaves(nnx.state(model, nnx.RngCount))] == [4] * 4
