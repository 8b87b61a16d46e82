"""Linen models as they are, run with our dropout: the same outputs in evaluation, our masks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dropout_jax as dj
from dropout_jax import linen

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
TOKENS = np.arange(20).reshape(2, 10) % 7


class Block(nn.Module):
    """A decoder block as Flax's lm1b example writes it: pre-norm, attention by Flax's module."""

    rate: float

    @nn.compact
    def __call__(self, x, mask, deterministic):
        y = nn.MultiHeadDotProductAttention(
            num_heads=2, qkv_features=16, dropout_rate=self.rate, broadcast_dropout=False
        )(nn.LayerNorm()(x), mask=mask, deterministic=deterministic)
        x = x + nn.Dropout(self.rate)(y, deterministic=deterministic)
        y = nn.gelu(nn.Dense(32)(nn.LayerNorm()(x)))
        y = nn.Dense(16)(nn.Dropout(self.rate)(y, deterministic=deterministic))
        return x + nn.Dropout(self.rate)(y, deterministic=deterministic)


class LanguageModel(nn.Module):
    """Tokens -> logits of the next ones; `lift` wraps the block, as nn.remat does."""

    rate: float = 0.5
    lift: bool = False

    @nn.compact
    def __call__(self, tokens, train=False):
        x = nn.Embed(7, 16)(tokens)
        x = nn.Dropout(self.rate)(x, deterministic=not train)
        mask = nn.make_causal_mask(tokens)
        block = nn.remat(Block, static_argnums=(3,)) if self.lift else Block
        for _ in range(2):
            x = block(self.rate)(x, mask, not train)
        return nn.Dense(7)(x)


def made(**options):
    model = LanguageModel(**options)
    return model, model.init(KEY, TOKENS)


def step(model, variables, key):
    """Loss and gradient in training."""

    def loss(variables):
        logits = model.apply(variables, TOKENS, train=True, rngs={"dropout": key})
        return optax.softmax_cross_entropy_with_integer_labels(logits, TOKENS).mean()

    return jax.value_and_grad(loss)(variables)


def test_every_dropout_and_attention_of_a_model_is_found_and_evaluation_stays():
    model, variables = made()
    expected = model.apply(variables, TOKENS)
    with linen.replace_dropout() as replaced:
        found = model.apply(variables, TOKENS)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert replaced.dropouts == ["Dropout_0"] + [
        f"Block_{i}/Dropout_{j}" for i in range(2) for j in range(3)
    ]
    assert replaced.attentions == [f"Block_{i}/MultiHeadDotProductAttention_0" for i in range(2)]
    assert not replaced.left


def test_parameters_are_those_of_flax():
    model, variables = made()
    with linen.replace_dropout():
        again = model.init(KEY, TOKENS)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_the_masks_are_ours_of_the_keys_that_flax_would_have_used():
    x, layer = jnp.ones((3, 40)), nn.Dropout(0.3, deterministic=False)
    keys = []

    class Spy(nn.Dropout):
        @nn.compact
        def __call__(self, inputs):
            keys.append(self.make_rng("dropout"))
            return inputs

    Spy(0.3).apply({}, x, rngs={"dropout": KEY})
    with linen.replace_dropout():
        y = layer.apply({}, x, rngs={"dropout": KEY})
    np.testing.assert_array_equal(y, dj.dropout(keys[0], x, 0.3))


@pytest.mark.parametrize("lift", [False, True], ids=["plain", "remat"])
def test_training_runs_compiled_and_outside_nothing_is_changed(lift):
    model, variables = made(lift=lift)
    before = step(model, variables, KEY)

    @jax.jit
    def ours(variables, key):
        with linen.replace_dropout() as replaced:
            result = step(model, variables, key)
        assert len(replaced.dropouts) == 7 and len(replaced.attentions) == 2
        return result

    loss, gradient = ours(variables, KEY)
    assert loss != before[0] and all(jnp.isfinite(g).all() for g in jax.tree.leaves(gradient))
    assert ours(variables, jax.random.key(1))[0] != loss
    after = step(model, variables, KEY)
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_it_decorates_a_function():
    model, variables = made()
    apply = linen.replace_dropout()(model.apply)
    rngs = {"dropout": KEY}
    assert (apply(variables, TOKENS, True, rngs=rngs) != model.apply(
        variables, TOKENS, True, rngs=rngs
    )).any()  # fmt: skip
    np.testing.assert_allclose(
        apply(variables, TOKENS), model.apply(variables, TOKENS), rtol=1e-5, atol=1e-5
    )


def test_masks_that_a_module_draws_itself_are_reported():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x * jax.random.bernoulli(self.make_rng("dropout"), 0.5, x.shape)

    model = nn.Sequential([Own(), nn.Dropout(0.5, deterministic=False)])
    with pytest.warns(UserWarning, match="left as they were: layers_0, which draw masks"):
        with linen.replace_dropout() as replaced:
            model.apply({}, jnp.ones(8), rngs={"dropout": KEY})
    assert (replaced.dropouts, replaced.left) == (["layers_1"], ["layers_0"])


def test_an_error_inside_leaves_flax_as_it_was():
    functions = nn.dot_product_attention, nn.dot_product_attention_weights, jax.random.bernoulli
    model, variables = made()
    with pytest.raises(AttributeError), linen.replace_dropout():
        model.apply(variables, None)
    assert functions == (
        nn.dot_product_attention, nn.dot_product_attention_weights, jax.random.bernoulli,
    )  # fmt: skip


# Hugging Face


def hugging_face(name):
    """A small model with random weights, of the last releases with models in Flax."""
    models = pytest.importorskip(
        "transformers", reason="transformers is absent: pip install 'transformers<5'"
    )
    if not hasattr(models, "FlaxGPT2LMHeadModel"):
        pytest.skip(f"transformers {models.__version__} has no models in Flax: install one under 5")
    if name == "GPT-2":
        config = models.GPT2Config(
            vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2, attn_pdrop=0.5,
            resid_pdrop=0.5, embd_pdrop=0.5,
        )  # fmt: skip
        return models.FlaxGPT2LMHeadModel(config, seed=0, input_shape=(1, 8))
    config = models.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5,
    )  # fmt: skip
    return models.FlaxBertModel(config, seed=0, input_shape=(1, 8))


@pytest.mark.compare
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "dropouts"), [("GPT-2", 5), ("BERT", 5)])
def test_models_of_hugging_face(name, dropouts):
    with jax.numpy_rank_promotion("allow"):
        model = hugging_face(name)
        ids = np.arange(24).reshape(3, 8)
        padding = np.ones_like(ids)
        padding[0, 5:] = 0
        expected = model(ids, attention_mask=padding)[0]
        with linen.replace_dropout() as replaced:
            found = model(ids, attention_mask=padding)[0]
        np.testing.assert_array_equal(found, expected)
        assert len(replaced.dropouts) == dropouts and len(replaced.attentions) == 2

        @jax.jit
        def loss(params, key):
            with linen.replace_dropout():
                outputs = model(ids, attention_mask=padding, params=params, dropout_rng=key,
                                train=True)[0]  # fmt: skip
            return (outputs**2).mean()

        value, gradient = jax.value_and_grad(loss)(model.params, KEY)
        assert jnp.isfinite(value) and value != loss(model.params, jax.random.key(1))
        assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(gradient))
