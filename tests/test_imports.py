"""Imports point one way, functions import nothing heavy, and public names have an example."""

import ast
import subprocess
import sys
import types
from pathlib import Path

import pytest

import dropout_jax as dj

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "dropout_jax").rglob("*.py"))
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.py"))
TABLE_SCRIPTS = sorted((ROOT / "scripts").glob("make_*"))

# A module imports from lower ranks only. `noise` and `layers` stand for their whole folders.
RANKS = [
    {"_typing", "idx"},
    {"keys", "bits", "data", "rows", "schedules", "rates", "constraints", "checkpoint"},
    {"masks", "metrics", "structure"},
    {"dropout"},
    {"noise", "kernel"},
    {"layers", "linen", "thin", "losses"},
    {"gather", "moments"},
    {"train"},
    {"identity", "predict"},
    {"runs"},
    {"saving", "trainer"},
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
MAY_IMPORT = {
    "flax": {
        "layers",
        "linen",
        "thin",
        "losses",
        "moments",
        "predict",
        "train",
        "identity",
        "metrics",
        "saving",
        "structure",
        "trainer",
    },
    "optax": {"constraints", "metrics", "schedules", "losses", "train", "trainer"},
    "orbax": {"checkpoint"},
}


def unit(path):
    """The module, or the folder, of a package that a file belongs to."""
    return path.relative_to(ROOT).with_suffix("").parts[1]


def tree(path):
    return ast.parse(path.read_text())


def imported(path):
    """Dotted names of all that a file imports, wherever it does."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write the import in full, from the package's root."
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def of_package(path, package):
    """The units of `package` that a file imports, and whether it imports the package itself."""
    names = [name.split(".") for name in imported(path)]
    return {parts[1] if len(parts) > 1 else "" for parts in names if parts[0] == package}


def label(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [p for p in LIBRARY if p.name != "__init__.py"], ids=label)
def test_the_library_imports_downwards(path):
    name = unit(path)
    assert name in RANK, f"{label(path)} has no place in RANKS: give it one."
    for other in of_package(path, "dropout_jax"):
        same_folder = name == other and name in {"noise", "layers"}
        assert same_folder or RANK.get(other, len(RANKS)) < RANK[name], f"{name} imports {other}"
    assert not of_package(path, "experiments")


@pytest.mark.parametrize("path", LIBRARY, ids=label)
@pytest.mark.parametrize("package", MAY_IMPORT)
def test_only_some_modules_import(package, path):
    if any(name.split(".")[0] == package for name in imported(path)):
        assert unit(path) in MAY_IMPORT[package], f"{label(path)} imports {package}"


def launched(name):
    """True for the experiments that `python -m` runs: a main guard, or a package's __main__."""
    path = ROOT / "experiments" / f"{name}.py"
    if not path.exists():
        return (ROOT / "experiments" / name / "__main__.py").exists()
    tests = [ast.dump(node.test) for node in tree(path).body if isinstance(node, ast.If)]
    return any("__main__" in test for test in tests)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=label)
def test_experiments_do_not_import_each_other(path):
    for other in of_package(path, "experiments") - {unit(path)}:
        assert not launched(other), f"{label(path)} imports the experiment {other}"


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


@pytest.mark.parametrize("path", TABLE_SCRIPTS, ids=label)
def test_scripts_that_make_tables_do_not_import_jax(path):
    lines = [
        ast.unparse(node)
        for node in tree(path).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    assert any("experiments" in line for line in lines)
    assert "jax" not in modules_after("\n".join(lines))


def test_records_are_read_without_jax():
    loaded = modules_after("import experiments.record, experiments.paper")
    assert "experiments" in loaded and "jax" not in loaded


PUBLIC = sorted(name for name in {*dir(dj), *vars(dj)} if not name.startswith("_"))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example(name):
    public = getattr(dj, name)
    is_error = isinstance(public, type) and issubclass(public, Exception)
    if not isinstance(public, types.ModuleType) and not is_error:
        assert ">>>" in (public.__doc__ or ""), f"dj.{name} has no example in its docstring"


def test_names_are_listed_for_completion():
    assert {"dropout", "packed_mask", "site_key", "scale_for_inference", "max_norm"} <= set(dir(dj))
