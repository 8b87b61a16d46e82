"""The noise of shared masks: measured right where it is known, and greater the more is shared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers.small_data import images

import dropout_jax as dj
from dropout_jax import data
from experiments import thinned_noise
from experiments.nets import thinning
from experiments.records import record
from experiments.report import thinned_studies

KEY = jax.random.key(0)
BATCHES = (jax.random.normal(KEY, (4, 8, 6)), jnp.arange(32).reshape(4, 8) % 10)


def network(rate):
    return thinning.network("thin", (6, 32, 32, 10), (0, rate, rate), nnx.Rngs(0))


def test_noise_and_signal_of_a_known_gradient():
    mean = {"kernel": jnp.full((10, 20), 2.0)}

    def gradient(key, batches):
        return {"kernel": mean["kernel"] + 3 * jax.random.normal(key, (10, 20))}

    draws = 400
    noise, signal = thinned_noise.noise_and_signal(gradient, jax.random.split(KEY, draws), BATCHES)
    # 399 * 200 * noise / 1800 is chi-squared: a false alarm in 6e5 at 5 deviations.
    np.testing.assert_allclose(noise, 9 * 200, rtol=5 * np.sqrt(2 / ((draws - 1) * 200)))
    # ||mean||^2 has deviation 2 * 2 * 3 * sqrt(200 / 400), but for terms a 40th of that.
    np.testing.assert_allclose(signal, 4 * 200, atol=5.2 * 12 * np.sqrt(200 / draws))


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 4])
def test_where_nothing_is_dropped_every_gradient_is_that_of_the_network(steps):
    model = network(0.0)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    x, y = (a.reshape(32, *a.shape[2:]) for a in BATCHES)
    expected = thinned_noise._gradient(graph, params, rest, (x, y))
    for gradient in (
        thinned_noise.element_wise(model),
        thinned_noise.thinned(model, dj.Thin(steps=steps, block=4)),
    ):
        got = gradient(KEY, BATCHES)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_life_of_a_window_has_one_sub_network_and_lives_of_one_have_more():
    def left_out(steps):
        grads = thinned_noise.thinned(network(0.5), dj.Thin(steps=steps, block=4))(KEY, BATCHES)
        bias = np.asarray(grads["linears"][1]["bias"][...])
        return (bias.reshape(-1, 4) == 0).all(axis=1).mean()

    assert left_out(4) == 0.5
    assert left_out(1) < 0.5


@pytest.mark.slow
def test_a_quick_run_leaves_a_record_that_the_table_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "load", lambda name, data_dir=None: images())
    flags = "--quick --seeds 2 --hidden 32 32 --block 4 --lives 1 10 --window 20 --batch-size 20"
    argv = [*flags.split(), "--draws", "8", "--out", str(tmp_path)]
    thinned_noise.main(argv)
    (found,) = record.read_all("thinned_noise", tmp_path)
    assert min(map(min, found.final.values())) > 0
    noises = [np.mean(found.final[f"noise_{life}"]) for life in ("element", "1", "10")]
    assert noises == sorted(noises)
    assert "noise / signal" in capsys.readouterr().out


def test_the_table_divides_seed_by_seed(tmp_path):
    final = {"noise_element": [1.0, 2.0], "signal_element": [10.0, 10.0],
             "noise_10": [20.0, 60.0], "signal_10": [10.0, 20.0]}  # fmt: skip
    config = {"block": 16, "window": 100, "seeds": 2, "quick": False}
    record.write(
        "thinned_noise", config, {"final": final}, data_sha256="ab", wall_seconds=1, folder=tmp_path
    )
    text = thinned_studies.noise(tmp_path)
    assert "| dropout, element-wise | 1.0 ± 0.0 | 0.150 ± 0.050 | 2 |" in text
    assert "| thinned, 10 updates a life, blocks of 16 | 25.0 ± 5.0 | 2.500 ± 0.500 | 2 |" in text


@pytest.mark.parametrize("flags", [["--lives", "3"], ["--draws", "1"], ["--window", "0"]])
def test_a_bad_flag_costs_one_line(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "load", lambda name, data_dir=None: images())
    with pytest.raises(SystemExit, match="2"):
        thinned_noise.main([*flags, "--out", str(tmp_path)])
    message = capsys.readouterr().err
    assert flags[0] in message and len(message.splitlines()) == 1
