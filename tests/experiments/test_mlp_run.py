"""One run of an MLP experiment. What would make this wrong: a setting that does not
reach the network, the loop or the record, a run that cannot be what it is called."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from helpers.paper_records import by_row

from dropout_jax import losses
from experiments import mnist_table2, past_the_paper, rerun
from experiments.nets import config as nets_config
from experiments.nets import mlp, sgd
from experiments.nets.config import Config
from experiments.records import record


def test_r_drop_s_weight_is_the_loss_s(monkeypatch):
    monkeypatch.setattr(losses, "r_drop", lambda alpha: f"r_drop({alpha})")
    monkeypatch.setattr(mlp, "run", lambda config, folder, loss: loss)
    found = by_row(past_the_paper, "cpu")
    assert past_the_paper.run(found["dropout"]) is None  # the cross-entropy
    assert past_the_paper.run(found["dropout_r_drop"]) == "r_drop(1.0)"
    fields = dict(row="gaussian_r_drop", noise="gaussian")
    assert dataclasses.replace(found["dropout_r_drop"], **fields) == found["gaussian_r_drop"]
    assert [c.alpha for c in past_the_paper.candidates(found["dropout"])] == [0]


def test_a_run_that_cannot_be_thinned_says_so_before_any_is_made(tmp_path, monkeypatch, capsys):
    wrong = ({"noise": "gaussian"}, {"activation": "maxout"}, {"rate": 0.0}, {"hidden": (64, 71)})
    for fields in wrong:
        with pytest.raises(ValueError, match="cannot be thinned"):
            nets_config.check(Config(**fields, life=2))
        nets_config.check(Config(**fields))
    with pytest.raises(ValueError, match="two masks"):
        past_the_paper.check(past_the_paper.Config(alpha=1.0, life=2))
    monkeypatch.setattr(mnist_table2, "run", lambda *_: pytest.fail("a row was trained"))
    rows = ["dropout_relu_3x1024", "standard_relu_3x1024"]
    with pytest.raises(SystemExit) as stop:
        mnist_table2.main(["--life", "10", "--out", str(tmp_path), "--rows", *rows])
    assert stop.value.code == 2 and "standard_relu_3x1024 cannot" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "at_40"),
    [
        ({"momentum_share": 0.1, "momentum_updates": 7}, 0.99),  # of 400 updates
        ({"momentum_updates": 80}, 0.745),
        ({"momentum_share": 0.1, "momentum_ramp": "exponential"}, 0.99 - 0.49 / math.e),
    ],
)
def test_momentum_rises_over_a_share_of_the_run_or_so_many_updates(fields, at_40):
    at = sgd.momentum(Config(momentum=0.99, momentum_start=0.5, **fields), 400)
    assert at(40) == pytest.approx(at_40) and at(0) == pytest.approx(0.5)
    assert sgd.momentum(Config(momentum=0.99), 400) == 0.99


@pytest.mark.slow
def test_how_a_run_is_asked_for_is_how_it_is_made(small_images, tmp_path, capsys):
    """The flags reach the network, the loop and the record, which runs again."""
    flags = ["--quick", "--seeds", "2", "--out", str(tmp_path), "--rows", "dropout_relu_3x1024"]
    how = {"--life": "2", "--products": "bfloat16", "--in-turn": None}
    finals = set()
    for flag, value in [(None, None), *how.items()]:
        more = [part for part in (flag, value) if part]
        before = set(tmp_path.glob("mnist_table2/*.json"))
        mnist_table2.main([*flags, *more])
        (path,) = set(tmp_path.glob("mnist_table2/*.json")) - before
        found = record.read(path)
        if flag:
            assert str(found.config[flag[2:].replace("-", "_")]) == (value or "True")
        if flag != "--in-turn":  # which sums in another order at most
            finals.add(str(found.by_epoch) + str(found.extra["evaluated_at"]) + str(found.final))
    assert len(finals) == 3
    with pytest.raises(SystemExit) as stop:
        rerun.main([str(path)])
    assert stop.value.code == 0


def test_the_network_of_a_config_rounds_as_it_says():
    def text(**fields):
        config = Config(hidden=(32, 32), **fields)
        model = mlp.network(config, 8, nnx.Rngs(0))
        return str(jax.make_jaxpr(lambda x: model(x, deterministic=True))(jnp.ones((4, 8))))

    assert "bf16[32,32]" not in text()
    assert "bf16[32,32]" in text(products="bfloat16")


@pytest.mark.parametrize("activation", ["relu", "logistic"])
def test_deep_units_tell_examples_apart_from_the_start(activation):
    config = Config(activation=activation, rate=0.0, input_rate=0.0)
    model = mlp.network(config, 784, nnx.Rngs(0))
    x = jax.random.bernoulli(jax.random.key(0), 0.2, (64, 784)).astype(jnp.float32)
    last = mlp.activities(model, x)[2]
    spread, size = jnp.std(last, axis=0).mean(), jnp.abs(last - last.mean()).mean()
    assert spread > 0.2 * size
