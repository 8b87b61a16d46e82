"""Imports point one way, functions import nothing heavy, and public names have an example.

What would make this wrong: a run that loads the tables, so that an error in a table stops it; a
function that costs an import of flax; a circle.
"""

import ast
import subprocess
import sys
import types
from pathlib import Path

import pytest

import dropout_jax as dj

ROOT = Path(__file__).parents[2]
SOURCES = sorted(p for d in ("dropout_jax", "experiments") for p in (ROOT / d).rglob("*.py"))
# A room (a module, or a package with all its files) imports from the rooms named before it.
ORDER = {
    "dropout_jax": [
        "_version", "_lazy", "_advice", "typing", "_arrays", "_checks", "_weights", "_xla",
        "_sharding", "keys", "masks", "noise", "conventions", "kernel", "rates",
        "_nnx", "losses", "layers", "linen", "constraints", "schedules", "data",
        "train", "predict", "diagnose",
    ],
    "experiments": ["records", "harness", "nets", "report"],
}  # fmt: skip
# The packages that only some rooms of the library may import.
MAY_IMPORT = {
    "flax": {"_nnx", "layers", "linen", "losses", "train", "predict", "diagnose"},
    "optax": {"constraints", "schedules", "losses", "train"},
}


def room(path):
    return path.relative_to(ROOT).with_suffix("").parts[1]


def imported(path):
    """The dotted names that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write the import in full, from the package's root."
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path, package):
    names = [name.split(".") for name in imported(path)]
    return {parts[1] for parts in names if parts[0] == package and len(parts) > 1} - {room(path)}


def is_launched(name):
    """True for the experiments that `python -m` runs: a main guard, or a package's __main__."""
    path = ROOT / "experiments" / f"{name}.py"
    if not path.exists():
        return (ROOT / "experiments" / name / "__main__.py").exists()
    return "\nif __name__ == " in path.read_text()


def test_imports_point_one_way():
    wrong = []
    for path in SOURCES:
        package = path.relative_to(ROOT).parts[0]
        order, name = ORDER[package], room(path)
        before = set(order[: order.index(name)] if name in order else order)
        if name == "__init__":
            continue
        if package == "dropout_jax":
            assert name in order, f"{path} has no place in ORDER: give it one."
            assert not rooms_imported(path, "experiments"), path
        for other in rooms_imported(path, package) - before:
            if not (package == "dropout_jax" and other not in order):  # a public name, dj.dropout
                wrong.append(f"{package}: {name} imports {other}")
    assert not wrong


def test_what_lies_in_experiments_runs():
    names = {room(p) for p in SOURCES if "experiments" in p.parts} - {"__init__"}
    assert {n for n in names if not is_launched(n)} == set(ORDER["experiments"])


def test_a_run_loads_no_table():
    runs = [n for n in sorted({room(p) for p in SOURCES if "experiments" in p.parts})
            if is_launched(n) and n not in ("benchmark", "quickstart")]  # fmt: skip
    assert len(runs) > 15
    code = "; ".join(f"import experiments.{name}" for name in runs)
    code += "; import sys; print(*[m for m in sys.modules if m.startswith('experiments.report')])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_only_some_rooms_import(package):
    rooms = {
        room(path)
        for path in SOURCES
        if "dropout_jax" in path.relative_to(ROOT).parts
        and any(name.split(".")[0] == package for name in imported(path))
    }
    assert rooms <= MAY_IMPORT[package]


def modules_after(code):
    """Top-level names in sys.modules of a fresh interpreter that ran `code`."""
    code = f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_functions_import_nothing_heavy():
    loaded = modules_after("import dropout_jax as dj; dj.dropout")
    assert "dropout_jax" in loaded
    assert not loaded & {"flax", "optax", "orbax", "sklearn", "matplotlib", "pooch", "tyro", "chex"}


def test_records_and_tables_are_read_without_jax():
    code = """
import experiments.records.literature
from pathlib import Path
from experiments.report import blocks
for name in blocks.tables():
    if name != "functions":  # of the code, not of records
        blocks.table(name, Path("nowhere"))
blocks.figures()"""
    loaded = modules_after(code)
    assert "experiments" in loaded and not loaded & {"jax", "numpy", "matplotlib", "tyro"}


PUBLIC = sorted(name for name in dir(dj) if not name.startswith("_"))


def test_every_public_name_has_an_example():
    without = []
    for name in PUBLIC:
        public = getattr(dj, name)
        is_error = isinstance(public, type) and issubclass(public, Exception)
        if not isinstance(public, types.ModuleType) and not is_error:
            without += [name] * (">>>" not in (public.__doc__ or ""))
    assert not without and len(PUBLIC) > 50


def test_no_public_name_hides_a_module_of_that_name():
    for name in PUBLIC:
        path = ROOT / "dropout_jax" / name
        if path.is_dir() or path.with_suffix(".py").exists():
            assert isinstance(getattr(dj, name), types.ModuleType), name


def test_names_are_listed_for_completion():
    assert {"dropout", "packed_mask", "site_key", "scale_for_inference", "max_norm"} <= set(dir(dj))
