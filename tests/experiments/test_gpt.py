"""The small GPT and its text.

What would make this wrong: a position that sees later characters; dropout at another place than
the one named, or left on in evaluation; a network of another size than nanoGPT's; targets that are
not the next characters; training windows that reach into the validation text.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from experiments import shakespeare
from experiments.nets import gpt, text

SMALL = gpt.Size(layers=2, heads=2, width=8, context=6)
X = jnp.array([[1, 0, 2, 2, 1, 0], [0, 0, 1, 2, 0, 1]])


def network(rates=None, size=SMALL):
    return gpt.GPT(3, size, rates or {}, rngs=nnx.Rngs(0))


def test_the_gpu_network_has_the_published_number_of_parameters():
    size = shakespeare.SETTINGS["gpu"].size
    model = nnx.eval_shape(lambda: gpt.GPT(65, size, {}, rngs=nnx.Rngs(0)))
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    positions = size.context * size.width  # nanoGPT counts all but these
    assert round((count - positions) / 1e6, 2) == 10.65


def test_no_position_sees_a_later_character_with_dropout_either():
    model = network(dict.fromkeys(gpt.PLACES, 0.3))
    model.train()
    graphdef, state = nnx.split(model)

    def logits(embedded):  # as GPT.__call__, from the embeddings on
        model = nnx.merge(graphdef, state, copy=True)
        for block in model.blocks:
            embedded = block(embedded)
        return embedded.sum(-1)[0]

    h = jax.random.normal(jax.random.key(1), (1, 6, 8))
    moved = np.abs(jax.jacobian(logits)(h)[:, 0]).sum(-1)  # (to, from)
    assert (moved[np.triu_indices(6, 1)] == 0).all()
    assert (np.diag(moved) > 0).all()


@pytest.mark.parametrize("place", [*gpt.PLACES, "mlp_hidden"])
def test_each_place_drops_in_training_alone(place):
    plain, dropped = network(), network({place: 0.5})
    for model in (plain, dropped):
        model.eval()
    np.testing.assert_array_equal(plain(X), dropped(X))
    plain.train(), dropped.train()
    assert (plain(X) != dropped(X)).any()


def test_a_text_becomes_numbers_and_windows():
    words = text.encoded("hello world, hello", "digest")
    both = [*words.train, *words.val]
    assert "".join(words.symbols[i] for i in both) == "hello world, hello"
    x, y = text.windows(words.train, 5)
    assert x.shape == y.shape == (3, 5)
    np.testing.assert_array_equal(x.ravel()[1:], y.ravel()[:-1])


def test_the_loop_trains_on_windows_of_the_training_text():
    seen = np.tile(np.arange(3, dtype=np.uint8), 30)  # 0 1 2 0 1 2 ...: the next is certain
    data = {"train": (jnp.asarray(seen[:-1]), jnp.asarray(seen[1:]))}
    data["val"] = text.windows(seen, 6)
    loop = text.text_loop(
        lambda rngs, hyper: gpt.GPT(3, SMALL, {}, rngs=rngs),
        lambda hyper: optax.adam(3e-2), batch_size=4, context=6, updates=60,
    )  # fmt: skip
    state, losses = jax.jit(loop.epoch)(loop.init(jax.random.key(0), {}, data), data)
    assert losses.shape == (60,) and int(state.step) == 60
    assert loop.evaluate(state, {"val": data["val"]})["val_loss"] < 0.2 < np.log(3)


def test_a_prompt_is_continued_the_same_way_for_the_same_key():
    model, prompt = network(), jnp.array([0, 1])
    model.eval()
    written = gpt.generate(jax.random.key(0), model, prompt, 9)
    assert written.shape == (11,) and written[:2].tolist() == [0, 1]
    np.testing.assert_array_equal(written, gpt.generate(jax.random.key(0), model, prompt, 9))
    assert (written != gpt.generate(jax.random.key(1), model, prompt, 9)).any()


def test_updates_decay_matrices_alone():
    params = {"kernel": jnp.ones((2, 2)), "scale": jnp.ones(2)}
    optimizer = gpt.adamw(10, warm_up=0)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    assert (updates["kernel"] < 0).all() and (updates["scale"] == 0).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shares", "0"], "--share is 0.0; write a share above 0"),
        (["--updates", "7"], "write a multiple of 250"),
        (["--rates", "2"], "must lie between 0 and 1"),
    ],
)
def test_bad_settings_cost_one_line(arguments, words, tmp_path, capsys, monkeypatch):
    empty = text.Text("ab", np.zeros(100, np.uint8), np.zeros(100, np.uint8), "")
    monkeypatch.setattr(text, "load_shakespeare", lambda data_dir: empty)
    with pytest.raises(SystemExit):
        shakespeare.main([*arguments, "--out", str(tmp_path)])
    assert words in capsys.readouterr().err
