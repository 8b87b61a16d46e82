"""The table of noise functions: a row for every function of the contract's list.

Read from the text of the code, without running it: the list in tests/contract/entries.py, the
public names in dropout_jax/__init__.pyi, and the docstrings. Standard library only.
"""

import ast
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from experiments.records.record import ROOT
from experiments.report.markdown import markdown

HEADER = ["function", "what it is", "layers", "source", "tests"]
CITATION = re.compile(r"[A-Z]\w+(?:, [A-Z]\w+)*(?: and [A-Z]\w+| et al\.)? \d{4}")


def table(results: Path) -> str:
    """The table of this checkout; it is made of the code, not of results."""
    return functions_table(ROOT)


def functions_table(root: Path) -> str:
    """The table of the checkout at `root`.

    Raises:
      ValueError: for a function of the list that is not public, has no source or has no tests.
    """
    where = exported(root / "dropout_jax" / "__init__.pyi", root)
    functions = listed(root / "tests" / "contract" / "entries.py")
    wrappers = layers(root, functions)
    rows = []
    for name in functions:
        if name not in where:
            raise ValueError(
                f"{name} is in the contract's list; export it in dropout_jax/__init__.pyi."
            )
        path = root / where[name]
        docstring = docstring_of(name, path)
        rows.append([
            link(name, path, root), summary(docstring),
            ", ".join(link(*wrapper, root) for wrapper in wrappers[name]) or "–",
            source(name, docstring), tested_in(name, path, root),
        ])  # fmt: skip
    return markdown(HEADER, rows)


def listed(path: Path) -> list[str]:
    """The public functions that the entries cover: their `functions`, or else their own name."""
    (entries,) = (
        node.value.elts
        for node in parse(path).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ENTRIES"
    )
    names = []
    for call in entries:
        named = [keyword.value for keyword in call.keywords if keyword.arg == "functions"]
        covered = [*call.args[2:3], *named]
        names += ast.literal_eval(covered[0] if covered else ast.List([call.args[0]]))
    return list(dict.fromkeys(names))


def exported(path: Path, root: Path) -> dict[str, str]:
    """{public name: its file, from the root} of a package that re-exports one name a line."""

    def file(node):
        package = f"{path.parent.relative_to(root).as_posix()}/" if node.level else ""
        return f"{package}{node.module.replace('.', '/')}.py"

    return {
        alias.name: file(node)
        for node in parse(path).body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def layers(root: Path, functions: Sequence[str]) -> dict[str, list[tuple[str, Path]]]:
    """{function: the public layers that call it}; one that calls none is as the one it extends."""
    folder = root / "dropout_jax" / "layers"
    definitions = {
        node.name: node
        for path in sorted(folder.glob("*.py"))
        for node in parse(path).body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef))
    }

    def called(name):
        node = definitions.get(name)  # None: a class of Flax
        calls = [n.func for n in ast.walk(node) if isinstance(n, ast.Call)] if node else []
        own = {ast.unparse(call) for call in calls} & set(functions)
        bases = node.bases if isinstance(node, ast.ClassDef) and not own else []
        return own.union(*(called(ast.unparse(base)) for base in bases))

    public = exported(folder / "__init__.pyi", root).items()
    return {
        function: [(name, root / file) for name, file in public if function in called(name)]
        for function in functions
    }


def summary(docstring: str) -> str:
    """The first paragraph, on one line of a table."""
    return " ".join(docstring.split("\n\n")[0].split()).rstrip(".").replace("|", r"\|")


def source(name: str, docstring: str) -> str:
    """The authors and year that the docstring's last paragraph, Source, cites first."""
    paragraph = docstring.partition("\nSource:")[2].split("\n\n")[0]
    found = CITATION.search(" ".join(paragraph.split()))
    if not found:
        raise ValueError(
            f"the docstring of {name} cites no source; end it with 'Source: Author et al. 2014'."
        )
    return found.group()


def tested_in(name: str, path: Path, root: Path) -> str:
    """The test file of the function's own file, or else the one that names it most often."""
    tests = root / "tests"
    own = tests / path.parent.name / f"test_{path.stem}.py"
    if own.exists() and mentions(own)[name]:
        return link(own.name, own, root)
    others = sorted(set(tests.rglob("test_*.py")) - {tests / "contract" / "test_contract.py"})
    best = max(others, key=lambda test: mentions(test)[name])
    if not mentions(best)[name]:
        own = own.relative_to(root).as_posix()
        raise ValueError(f"no test but the contract's names {name}; write {own}.")
    return link(best.name, best, root)


def docstring_of(name: str, path: Path) -> str:
    for node in parse(path).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.get_docstring(node) or ""
    raise ValueError(f"{path.name} has no function {name}.")


def mentions(path: Path) -> Counter:
    """How often a file uses each name, alone or behind a dot."""
    nodes = ast.walk(parse(path))
    return Counter(getattr(n, "id", None) or getattr(n, "attr", None) for n in nodes)


def link(text: str, path: Path, root: Path) -> str:
    return f"[{text}]({path.relative_to(root).as_posix()})"


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))
