"""The small GPT and its text.

What would make this wrong: a position that sees later characters; dropout at another place than
the one named, at another update than its schedule says, or left on in evaluation; a network of
another size than nanoGPT's, or another in PyTorch; targets that are not the next characters;
training windows that reach into the validation text; arms with other first weights.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import dropout_jax as dj
from dropout_jax import train
from experiments import shakespeare
from experiments.benchmark import gpt as benchmark
from experiments.benchmark import suites
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
def test_each_place_drops_in_training_alone_and_when_its_schedule_says(place):
    plain, late = network(), network({place: dj.rates.late(0.5, steps=1)})
    for model in (plain, late):
        model.eval()
    np.testing.assert_array_equal(plain(X), late(X))  # a call in evaluation counts for nothing
    plain.train(), late.train()
    np.testing.assert_allclose(plain(X), late(X), atol=1e-6)  # of logits near 0.02; call 0
    assert np.abs(plain(X) - late(X)).max() > 1e-4


def test_a_schedule_is_over_the_updates_of_the_run():
    rate = {
        name: shakespeare.rate_of(shakespeare.Config(rate=0.4, schedule=name), 100)
        for name in ("early", "late", "linear")
    }
    at = {name: [round(float(f(step)), 6) for step in (0, 25, 50, 100)] for name, f in rate.items()}
    assert at == {"early": [0.4, 0.2, 0, 0], "late": [0, 0, 0.4, 0.4], "linear": [0, 0.1, 0.2, 0.4]}
    assert shakespeare.rate_of(shakespeare.Config(rate=0.4), 100) == 0.4


def test_arms_differ_in_nothing_but_dropout_and_rounding():
    words = text.encoded("to be or not to be", "digest")
    arms = ({}, {"rate": 0.2}, {"rate": 0.2, "schedule": "early"}, {"products": "bfloat16"})
    configs = [shakespeare.Config(quick=True, **arm) for arm in arms]
    models = [
        shakespeare.network(c, shakespeare.QUICK, words.symbols)(nnx.Rngs(0), {}) for c in configs
    ]
    for model in models:
        model.eval()
    first, *others = (jax.tree.leaves(nnx.state(model, nnx.Param)) for model in models)
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, first, other)
    rounded = str(jax.make_jaxpr(lambda x: models[-1](x))(X[:, :4]))
    assert "bf16" in rounded and "bf16" not in str(jax.make_jaxpr(lambda x: models[0](x))(X))


def test_the_grid_has_each_place_apart():
    runs = shakespeare.Config(places=("embedding", "mlp_hidden"))
    study = shakespeare.Study(runs=runs, rates=(0.1, 0.2), apart=True)
    found = [(c.places, c.rate) for c in shakespeare.configs(study)]
    assert found == [((place,), rate) for place in runs.places for rate in (0.1, 0.2)]
    assert len(shakespeare.configs(shakespeare.Study(shares=(0.5, 1), rates=(0, 0.1)))) == 4


@pytest.mark.compare
def test_the_network_in_pytorch_is_the_same():
    torch = pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[torch]'")
    from experiments.benchmark import gpt_torch

    ours, theirs = network(), gpt_torch.GPT(3, SMALL, 0.0)
    named = {
        "characters.weight": ours.characters.embedding,
        "positions.weight": ours.positions.embedding,
        "norm.weight": ours.norm.scale,
    }
    for i, block in enumerate(ours.blocks):
        linears = {"attention.qkv": block.attention.qkv, "attention.out": block.attention_out,
                   "mlp_in": block.mlp_in, "mlp_out": block.mlp_out}  # fmt: skip
        named |= {f"blocks.{i}.{n}.weight": layer.kernel[...].T for n, layer in linears.items()}
        named |= {f"blocks.{i}.norms.{j}.weight": block.norms[j].scale for j in range(2)}
    weights = {name: torch.tensor(np.asarray(value[...])) for name, value in named.items()}
    theirs.load_state_dict(weights)  # strict: no name is missing, none is left
    with torch.no_grad():
        found = theirs(torch.tensor(np.asarray(X))).numpy()
    np.testing.assert_allclose(found, ours(X), rtol=0, atol=1e-6)  # logits near 0.02


@pytest.mark.slow
@pytest.mark.compare
def test_the_benchmark_has_a_row_for_every_way(monkeypatch):
    pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[torch]'")
    monkeypatch.setattr(benchmark, "RATES", (0.2,))
    monkeypatch.setattr(benchmark, "CASES", benchmark.CASES[:4])
    found = list(benchmark.gpt_step({}, suites.QUICK))
    assert [row["how"] for row in found] == ["alone", "alone", "side by side", "in turn"]
    assert found[0]["ratio_to_torch"] == 1 and found[0]["library"] == "torch"
    assert all(row["median_ms"] > 0 and row["repeats"] for row in found)
    assert benchmark.table(found).count("side by side") == 1


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
    x, y = data["val"]  # 14 windows: three batches of 4, and 2
    whole = train.cross_entropy(state.model(), x, y)  # in training mode, without dropout
    np.testing.assert_allclose(loop.evaluate(state, {"val": (x, y)})["val_loss"], whole, rtol=1e-5)


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


@pytest.mark.slow
def test_the_quick_run_for_a_gpu(tmp_path, monkeypatch, capsys):
    words = text.encoded("to be or not to be, that is the question. " * 100, "ab" * 32)
    monkeypatch.setattr(text, "load_shakespeare", lambda data_dir: words)
    flags = ["--size", "gpu", "--seeds", "1", "--rates", "0.2", "--prompt", "to be"]
    shakespeare.main([*flags, "--quick", "--out", str(tmp_path)])
    assert "to be" in capsys.readouterr().out
