"""The studies of thinned training: what they run, and the GPT that is thinned."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import dropout_jax as dj
from dropout_jax.train.units import plan_of
from experiments import thinned, thinned_gpt
from experiments.nets import gpt, text, thinning


def test_a_study_varies_what_it_says():
    def varied(name, **study):
        return [getattr(c, name) for c in thinned.configs(thinned.Study(**study))]

    assert varied("method") == ["none", "element", "thin"]
    assert varied("steps") == [None, None, 10]  # a life and blocks belong to thin alone
    assert varied("steps", study="life") == [1, 3, 10, 30, 100]
    assert varied("block", study="block") == [1, 16, 64]
    assert set(varied("validation")) == {0}
    assert set(varied("validation", study="tune")) == {10_000}  # never the test set
    assert varied("epochs", study="headline", runs=thinned.Config(epochs=400)) == [400]
    rates = (0.1, 0.2)
    assert varied("learning_rate", study="tune", methods=("thin",), learning_rates=rates) == [
        *rates
    ]


def test_the_gpt_s_study_differs_in_method_rate_and_length_alone():
    found = thinned_gpt.configs(thinned_gpt.Study())
    assert [(c.method, c.rate, c.updates) for c in found] == [
        ("none", 0, 1000), ("element", 0.2, 1000), ("element", 0.5, 1000),
        ("thin", 0.2, 1000), ("thin", 0.5, 1000), ("thin", 0.5, 1800),
    ]  # fmt: skip


SIZE = gpt.Size(layers=2, heads=4, width=32, context=8)


@pytest.mark.slow
def test_the_gpt_s_methods_are_one_network_whose_dropout_differs():
    x = jnp.arange(16).reshape(2, 8) % 5
    models = {
        method: thinning.gpt_network(method, 5, SIZE, 0.5, nnx.Rngs(0))
        for method in ("none", "element", "thin")
    }
    trained = {method: model(x) for method, model in models.items()}
    assert (trained["none"] != trained["element"]).any()
    for model in models.values():
        model.eval()
        np.testing.assert_array_equal(model(x), trained["none"])
    plan = plan_of(models["thin"], dj.Thin(pairs=thinning.PAIRS))
    kept = [(hidden.kept, hidden.width) for hidden in plan.hidden]
    assert sorted(kept) == [(2, 4)] * 2 + [(64, 128)] * 2


@pytest.mark.slow
def test_the_text_s_loop_trains_sub_networks_and_leaves_the_rest():
    characters = jnp.arange(100) % 5
    loop = text.text_loop(
        lambda rngs, hyper: thinning.gpt_network("thin", 5, SIZE, 0.5, rngs),
        lambda hyper: optax.adam(1e-2), batch_size=2, context=8, updates=5,
        thin=dj.Thin(5, 16, pairs=thinning.PAIRS),
    )  # fmt: skip
    data = {"train": (characters[:-1], characters[1:])}
    state = loop.init(jax.random.key(0), {}, data)
    after, losses = jax.jit(loop.epoch)(state, data)
    assert losses.shape == (5,) and int(after.step) == 5
    for old, new in zip(state.model().blocks, after.model().blocks, strict=True):
        moved = (old.mlp_in.kernel[...] != new.mlp_in.kernel[...]).any(0)
        assert moved.sum() == 64
        heads = (old.attention.qkv.kernel[...] != new.attention.qkv.kernel[...]).any(0)
        assert (heads.reshape(3, 4, 8).any(-1).sum(-1) == 2).all()
