"""Type checkers find no error in the library and in what users write, and see real signatures.

What would make this wrong: a check that passes whatever it reads, since public names come out of
the stubs as Any.
"""

import doctest
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["basedpyright"]

GOOD = """
import dropout_jax as dj, jax, jax.numpy as jnp, numpy as np, optax
from flax import nnx
key, x = jax.random.key(0), np.ones((4, 8), np.float32)
dj.dropout(key, x, np.float32(0.5)).astype(jnp.bfloat16)
dj.dropout(key, jnp.asarray(x), jnp.full((8,), 0.5))
dj.alpha_dropout(key, x, 0.1)
dj.gaussian_dropout(key, x, 0.1)
dj.apply_mask(x, dj.packed_mask(key, 0.5, x.shape), 0.5).sum()
rates = [0.2, np.float64(0.5), dj.rates.early(0.1, 1000)]
model = dj.layers.MLP((8, 16, 16, 2), rates=rates, rngs=nnx.Rngs(0))
model = dj.layers.MLP((8, 16, 16, 2), rates=dj.rates.late(0.1, 1000), rngs=nnx.Rngs(0))
model(x, rngs=key).mean()
y = np.arange(4) % 2
history = dj.fit(model, optax.sgd(dj.schedules.linear_ramp(0.1, 0.2, 10)), x, y, key=key, epochs=1)
dj.evaluate(model, x, y)["error"] < 0.5
dj.mc_classify(key, model, x, samples=4)
dj.mc_regress(key, model, x, samples=4, noise=np.float32(0.1)).mean.sum()
"""
WRONG = """
import dropout_jax as dj, jax, jax.numpy as jnp
key, x = jax.random.key(0), jnp.ones(8)
dj.no_such_thing(key)
dj.dropout(key, x, "0.5")
dj.dropout(key, x)
dj.layers.Dropout(0.5, rate=0.5)
dj.layers.MLP((8, 2), rates="half", rngs=None)
"""
REVEALED = """
import dropout_jax as dj
reveal_type(dj.dropout)
reveal_type(dj.fit)
reveal_type(dj.layers.Dropout.__init__)
reveal_type(dj.layers.Dropout(0.5))
reveal_type(dj.layers.MLP.__init__)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the type checker says of each file: (line, severity, message)."""
    pytest.importorskip("basedpyright", reason="basedpyright is not installed: extra lint")
    folder = tmp_path_factory.mktemp("types")
    examples = doctest.DocTestParser().get_examples((ROOT / "README.md").read_text())
    texts = {"readme": "".join(e.source for e in examples)}
    texts |= {"good": GOOD, "wrong": WRONG, "revealed": REVEALED}
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    include = [str(ROOT / path) for path in SETTINGS["include"]]
    # What an example shows, such as `x == y`, stands there for its value.
    own = {"include": [*include, "."], "extraPaths": [str(ROOT)], "reportUnusedExpression": False}
    (folder / "pyrightconfig.json").write_text(json.dumps(SETTINGS | own))
    command = [sys.executable, "-m", "basedpyright", "--project", str(folder), "--outputjson"]
    done = subprocess.run(
        [*command, "--pythonpath", sys.executable], capture_output=True, text=True, cwd=folder
    )
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] > 100
    said = {name: [] for name in texts} | {"library": []}
    for one in report["generalDiagnostics"]:
        path = Path(one["file"])
        name = path.stem if path.parent == folder else "library"
        line = one["range"]["start"]["line"]
        said[name].append((f"{path.name}:{line + 1}", one["severity"], one["message"]))
    return said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["library", "readme", "good"])
def test_there_is_no_error(found, name):
    assert found[name] == []


@pytest.mark.slow
def test_every_wrong_line_has_an_error(found):
    lines = {line for line, severity, _ in found["wrong"] if severity == "error"}
    assert lines == {f"wrong.py:{i}" for i in range(4, 9)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (3, ["(key: Array, x: Array | ndarray", "rate: float | ", "-> Array"]),
        (4, ["model: Module", "epochs: int", "validation_data: Any = None", "-> History"]),
        (5, ["(self: Dropout, rate: float | ", "deterministic: bool | None = False", "rngs: Rngs"]),
        (6, ['"Dropout"']),
        (7, ["(self: MLP, sizes: Sequence[int], *, rates: float | "]),
    ],
)
def test_editors_see_the_real_signatures(found, line, parts):
    shown = [message for place, _, message in found["revealed"] if place == f"revealed.py:{line}"]
    assert len(shown) == 1
    assert [part for part in parts if part not in shown[0]] == [], shown[0]
