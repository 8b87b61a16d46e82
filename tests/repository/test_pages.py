"""The pages that people read: short enough, true to the records, with commands and links that work.

What would make this wrong: a link to nowhere, a command that its program refuses, a result that
was typed by hand, an example that no test runs, a public function without a place in the reference.
"""

import ast
import importlib
import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import tyro

import dropout_jax as dj
from dropout_jax import layers, predict, train
from experiments.records.record import RESULTS
from experiments.report import blocks
from experiments.report.markdown import NOT_RUN
from experiments.report.pages import MARKED

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
PAGES += sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")
INLINE = re.compile(r"`python -m (experiments\.[^`]+)`")
LINE = re.compile(r"^python -m (experiments\.[^#\n]+)", re.MULTILINE)
SCRIPT = re.compile(r"(?<![\w./])scripts/\w+\b(?![*.])")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# A mean and its spread, a percentage with decimals, or a ratio of times.
RESULT = re.compile(r"\d(?: %)? (?:±|\+-|\+/-) \d|\d\.\d+ (?:%|points)|\d\.\d+ times as")
IN_DOCSTRING = re.compile(r"\d(?: %)? (?:±|\+-|\+/-) \d")


def text(page):
    return (ROOT / page).read_text(encoding="utf-8")


def written(page):
    """A page without what is made from the records: what somebody wrote."""
    return MARKED.sub("", page)


def anchors(page):
    """The names of a page's headings, as GitHub and the site's generator make them."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def broken_links(page, folder):
    broken = []
    for link in LINK.findall(FENCE.sub("", page)):
        path, _, anchor = link.partition("#")
        target = folder / path
        if link.startswith(("http:", "https:")):
            continue
        if not target.exists():
            broken.append(link)
        elif anchor and anchor not in anchors(target.read_text() if path else page):
            broken.append(link)
    return broken


def commands(page):
    return [shlex.split(found) for found in INLINE.findall(page) + LINE.findall(page)]


def typed_results(page):
    """Results that stand in the text itself."""
    return RESULT.findall(written(page))


def test_pages_are_short():
    assert text("README.md").count("\n") <= 150
    long = {page: len(written(text(page)).encode()) for page in PAGES}
    assert {page: size for page, size in long.items() if size > 12_000} == {}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    assert broken_links(text(page), (ROOT / page).parent) == []


def test_the_page_of_a_package_index_links_to_no_file():
    page = tomllib.loads(text("pyproject.toml"))["project"]["readme"]
    assert [link for link in LINK.findall(text(page)) if not link.startswith("https:")] == []


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "b.md").write_text("## Figures 7 and 8: features\n")
    page = "# Top\n[a](b.md#figures-7-and-8-features) [b](b.md#c) ![c](d.png) [d](#top) [e](#e)"
    assert broken_links(page, tmp_path) == ["b.md#c", "d.png", "#e"]


@pytest.mark.parametrize("page", PAGES)
def test_no_result_is_typed_by_hand(page):
    assert typed_results(text(page)) == []


def test_a_typed_result_is_found():
    mark = "<!-- value:a/b -->1.04 ± 0.03<!-- /value -->"
    assert typed_results(f"at {mark} %") == []
    typed = "1.06 ± 0.02 % and 3 +- 1, or 2.4 %, 1.37 times as long, 0.3 points lower"
    assert len(typed_results(f"at {mark} %, {typed}")) == 5


@pytest.mark.parametrize("page", PAGES)
def test_a_value_stands_inside_its_sentence(page):
    """Markdown takes a comment at the start of a line for a block and ends the paragraph there."""
    assert re.findall(r"^ *<!-- value:.*", text(page), re.MULTILINE) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_program_on_a_page_is_run(page):
    """Python stands in `pycon` blocks, whose `>>>` lines are doctests; the rest is commands."""
    for language, block in FENCE.findall(text(page)):
        assert language in ("", "pycon", "json"), (
            f"write ```pycon and >>>, or ``` for a command: {block}"
        )
        assert (language == "pycon") == (">>>" in block), block
        # Without the empty line the end of the block would be expected as output.
        assert language != "pycon" or block.endswith("\n\n"), block


class Understood(Exception):
    pass


@pytest.fixture
def understand(monkeypatch):
    """A function that reads a command as the experiment does, and does not run it."""
    parse = tyro.cli

    def read(*args, **kwargs):
        parse(*args, **kwargs)
        raise Understood

    monkeypatch.setattr(tyro, "cli", read)

    def understand(module, *arguments):
        with pytest.raises(Understood):
            importlib.import_module(module).main(arguments)

    return understand


def test_commands_are_understood(understand):
    found = [command for page in PAGES for command in commands(text(page))]
    assert len(found) > 40
    for command in found:
        understand(*command)


def test_a_command_that_is_not_understood_is_found(understand):
    page = (
        "`python -m experiments.mnist\n --epoches 3`\n```\npython -m experiments.mnist --nets 1\n"
    )
    found = commands(page)
    assert found == [["experiments.mnist", "--epoches", "3"], ["experiments.mnist", "--nets", "1"]]
    for command in found:
        with pytest.raises(SystemExit):
            understand(*command)


def test_scripts_that_pages_name_can_be_started():
    named = {name for page in PAGES for name in SCRIPT.findall(text(page))}
    assert len(named) > 5
    for name in named:
        assert os.access(ROOT / name, os.X_OK), name


def test_contributing_names_files_that_exist():
    page = text("CONTRIBUTING.md")
    named = re.findall(r"`([\w./]+/[\w.]*\.(?:py|pyi|md|txt|json|toml))`", page)
    named += re.findall(r"`((?:\w+/)+)`", page)
    assert len(named) > 10
    folders = [ROOT, ROOT / "dropout_jax", ROOT / "experiments"]
    missing = [name for name in named if not any((folder / name).exists() for folder in folders)]
    assert missing == []


def test_every_experiment_has_a_page():
    results = ROOT / "experiments" / "results"
    experiments = {folder.name for folder in results.iterdir() if (folder / "").is_dir()}
    pages = {page.stem for page in (ROOT / "docs" / "results").glob("*.md")}
    elsewhere = {"benchmark", "figures", "thinned_noise"}  # docs/speed; on the pages; thinned.md
    assert experiments - pages == elsewhere


def test_every_page_is_in_the_navigation():
    navigation = text("docs/site/zensical.toml")
    pages = [page for page in PAGES if not page.startswith("docs/site/")]
    assert [page for page in pages if f'"{page}"' not in navigation] == []
    assert [page for page in re.findall(r'"([\w./-]+\.md)"', navigation) if page not in pages] == []


def test_every_table_and_figure_is_on_a_page():
    everything = "".join(text(page) for page in PAGES)
    for name in blocks.tables():
        shown = f"<!-- table:{name} -->" in everything
        assert shown or blocks.table(name, RESULTS) == NOT_RUN, name
    for figure in (RESULTS / "figures").glob("*.png"):
        assert f"/figures/{figure.name})" in everything, figure


def public_names():
    """What users call, by its full name: public functions and classes that have an example."""
    for module in (
        dj,
        layers,
        predict,
        train,
        dj.linen,
        dj.losses,
        dj.rates,
        dj.schedules,
        dj.data,
    ):
        names = getattr(module, "__all__", None) or [n for n in vars(module) if n[0] != "_"]
        for name in names:
            found = getattr(module, name)
            ours = (getattr(found, "__module__", None) or "").startswith("dropout_jax")
            if ours and callable(found) and ">>>" in str(found.__doc__):
                yield found.__module__, found.__qualname__


def test_the_reference_holds_every_public_function():
    pages = "".join(text(page) for page in PAGES if page.startswith("docs/reference/"))
    shown = set()
    for name in re.findall(r"^::: dropout_jax\.(\S+)", pages, re.MULTILINE):
        found = dj
        for part in name.split("."):
            found = getattr(found, part)
        shown.add((found.__module__, found.__qualname__))
    missing = set(public_names()) - shown
    assert not missing, f"write ::: dropout_jax.<name> on a page of docs/reference for {missing}"
    assert len(shown) > 80


def test_docstrings_of_experiments_hold_no_results():
    """They name the claim and the command; results stand on the page, made from the records."""
    typed = {}
    for path in (ROOT / "experiments").rglob("*.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if found := IN_DOCSTRING.findall(docstring):
            typed[path.name] = found
    assert typed == {}
