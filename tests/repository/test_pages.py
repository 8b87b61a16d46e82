"""The pages that people read: what they link to exists, and their commands are understood."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import tyro

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", "experiments/README.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
INLINE = re.compile(r"`python -m (experiments\.[^`]+)`")
LINE = re.compile(r"^python -m (experiments\.[^#\n]+)", re.MULTILINE)


def text(page):
    return (ROOT / page).read_text(encoding="utf-8")


def anchors(page):
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def broken_links(page, folder):
    broken = []
    for link in LINK.findall(page):
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


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    assert broken_links(text(page), (ROOT / page).parent) == []


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "b.md").write_text("## Figures 7 and 8: features\n")
    page = "# Top\n[a](b.md#figures-7-and-8-features) [b](b.md#c) ![c](d.png) [d](#top) [e](#e)"
    assert broken_links(page, tmp_path) == ["b.md#c", "d.png", "#e"]


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


@pytest.mark.parametrize("page", ["README.md", "experiments/README.md"])
def test_commands_are_understood(understand, page):
    found = commands(text(page))
    assert found
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
