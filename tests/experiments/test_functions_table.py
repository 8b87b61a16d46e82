"""The family's table is made from the code. What would make this wrong: a function or a layer that
is left out, a link to nothing, a source that nobody wrote."""

import functools
import re
import shutil

import pytest
from contract import entries

from dropout_jax import layers
from experiments.records.record import ROOT
from experiments.report import functions, pages

FUNCTIONS = list(dict.fromkeys(name for entry in entries.ENTRIES for name in entry.covers))
LINK = re.compile(r"\[([^]]+)\]\(([^)]+)\)")


@pytest.fixture
def checkout(tmp_path):
    """What the table is read from, to change."""
    for folder in ("dropout_jax", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    return tmp_path


@functools.cache
def rows():
    """{function: its cells}."""
    lines = functions.table(None).splitlines()[2:]
    cells = [line.strip("| ").split(" | ") for line in lines]
    return {LINK.match(first).group(1): [first, *rest] for first, *rest in cells}


def test_every_function_of_the_contract_has_a_row():
    assert list(rows()) == FUNCTIONS
    assert all(len(cells) == len(functions.HEADER) for cells in rows().values())


def test_every_link_leads_to_the_file_of_what_it_names():
    for text, target in LINK.findall(functions.table(None)):
        path = ROOT / target
        assert path.is_file(), target
        if path.parts[len(ROOT.parts)] != "tests":
            assert re.search(rf"^(def|class) {text}\(", path.read_text(), re.M), (text, target)


def test_the_rows_are_as_the_code_says():
    made = rows()
    _, what, layer, source, tests = made["sparse_dense"]
    assert what == "A dense layer without bias whose weights have variances of their own"
    assert layer == "[SparseLinear](dropout_jax/layers/sparse.py)"
    assert source == "Molchanov, Ashukha and Vetrov 2017"
    assert tests == "[test_variational.py](tests/noise/test_variational.py)"  # no test_sparse.py
    assert made["attention_dropout"][3] == "Srivastava et al. 2014"
    assert made["gaussian_noise"][3] == "Bishop 1995"
    assert made["packed_mask"][2] == "–"


def test_layers_are_found_through_what_they_extend():
    found = {name for name, _ in LINK.findall(rows()["dropout"][2])}
    assert {"Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"} <= found
    assert not found & {"AlphaDropout", "DropPath", "MLP", "replace_dropout"}


@pytest.mark.parametrize("name", [n for n in vars(layers) if n.endswith(("Dropout", "Path"))])
def test_every_layer_of_noise_is_in_the_table(name):
    assert any(f"[{name}]" in cells[2] for cells in rows().values())


def test_a_new_entry_appears(checkout):
    new = '''def new_noise(key, x, rate):
    """Something new | in
    two lines.

    Source: as shown by Nobody and Other 2031, section 3.
    """
'''
    (checkout / "dropout_jax/noise/new.py").write_text(new)
    (checkout / "tests/noise/test_new.py").write_text("dj.new_noise(key, x, 0.5)\n")
    with (checkout / "dropout_jax/__init__.pyi").open("a") as file:
        file.write("from .noise.new import new_noise as new_noise\n")
    entry = 'Entry("new-batch", lambda key, x, rate: x, functions=("new_noise",))'
    contract_py = checkout / "tests/contract/entries.py"
    contract_py.write_text(contract_py.read_text().replace("ENTRIES = [", f"ENTRIES = [{entry},"))
    assert functions.functions_table(checkout).splitlines()[2] == (
        r"| [new_noise](dropout_jax/noise/new.py) | Something new \| in two lines | – "
        "| Nobody and Other 2031 | [test_new.py](tests/noise/test_new.py) |"
    )


@pytest.mark.parametrize(
    ("files", "old", "new", "message"),
    [
        ("dropout_jax/noise/gaussian.py", "Source: ", "", "docstring of gaussian_dropout cites no"),
        ("dropout_jax/noise/gaussian.py", "Bishop 1995", "Bishop", "docstring of gaussian_noise"),
        ("tests/contract/entries.py", '"zoneout"', '"zone"', "zone is in the contract's list"),
        (
            "tests/**/test_*.py",
            "standout",
            "other",
            "names standout; write tests/noise/test_standout.py",
        ),
    ],
)
def test_what_is_missing_is_named(checkout, files, old, new, message):
    for path in checkout.glob(files):
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        functions.functions_table(checkout)


def test_the_page_of_functions_shows_it(tmp_path):
    text = "<!-- table:functions --><!-- /table -->"
    made, differing = pages.regenerate(text, tmp_path)
    assert differing == ["table functions"] and functions.table(None) in made
    assert "<!-- table:functions -->" in (ROOT / "docs/functions.md").read_text(encoding="utf-8")
