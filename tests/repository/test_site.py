"""The built documentation site: strict, whole, and without anything from another host.

What would make this wrong: a page that needs the network, an equation or a table that is shown as
its source, a link to a file that was not copied, a search that knows nothing.
"""

import html.parser
import json
import sys
import urllib.parse

import pytest
from helpers.tables import script

from experiments.records.record import ROOT

pytest.importorskip("zensical", reason="the extra docs is not installed; .ci/run builds the site")
pytestmark = pytest.mark.slow
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}


def site_script(name):
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode  # no .pyc beside a page
    loaded = script(f"../docs/site/{name}")
    sys.dont_write_bytecode = before
    return loaded


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    build = site_script("build.py")
    folder = tmp_path_factory.mktemp("docs")
    assert build.build(folder) == 0
    return folder / "site"


class Page(html.parser.HTMLParser):
    """What a page loads, links to and names, and the text that a reader sees outside code."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.links, self.names, self.text, self.code = [], [], set(), "", 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.names.add(attributes.get("id"))
        self.code += tag in ("code", "script", "style")
        for name, value in attrs:
            if (tag, name) in LOADED and attributes.get("rel") not in ("canonical", "next", "prev"):
                self.loads.append(value)
            if tag == "a" and name == "href":
                self.links.append(value)

    def handle_endtag(self, tag):
        self.code -= tag in ("code", "script", "style")

    def handle_data(self, data):
        if not self.code:
            self.text += data


@pytest.fixture(scope="module")
def pages(site):
    return {p: Page(p.read_text(encoding="utf-8")) for p in site.rglob("*.html") if p.stem != "404"}


def test_nothing_comes_from_another_host(site, pages):
    for path, page in pages.items():
        assert page.loads
        assert [url for url in page.loads if url.startswith(("http", "//"))] == [], path
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert "@import" not in text and "url(http" not in text and "url(//" not in text, sheet


def test_links_lead_to_files_and_headings(site, pages):
    broken = []
    for path, page in pages.items():
        for url in {*page.loads, *page.links}:
            parts = urllib.parse.urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve()
            target = path if not parts.path else target
            target = target / "index.html" if target.is_dir() else target
            names = pages[target].names if target in pages else {parts.fragment}
            if not target.is_file() or parts.fragment not in names | {"", "__top"}:
                broken.append((str(path.relative_to(site)), url))
    assert broken == []
    assert len(pages) > 40


def test_equations_and_tables_are_rendered(pages):
    for path, page in pages.items():
        for source in ("$", "| ---", "**", "](", "<!--", ":::", "```"):
            assert source not in page.text, f"{source} stands in {path}"


def test_the_search_knows_functions_and_guides(site):
    found = json.loads((site / "search.json").read_text(encoding="utf-8"))
    text = json.dumps(found)
    for word in ("drop_block", "Monte Carlo", "max-norm", "Threefry"):
        assert word in text


def test_the_pages_are_those_of_the_repository(site):
    pages = (p.relative_to(ROOT / "docs") for p in (ROOT / "docs").rglob("*.md"))
    source = {page for page in pages if page.parts[0] != "site"}
    for page in source:
        assert (site / "docs" / page.with_suffix(".html")).is_file(), page


def test_equations_of_a_docstring_stand_alone_and_examples_are_code():
    spaced = site_script("docstrings.py").spaced
    text = "Line.\n\n$$a,\n  b.$$\n$$c$$\nMore.\n\nExample:\n  >>> 1\n  1"
    assert spaced(text) == ("Line.\n\n\n$$a, b.$$\n\n\n$$c$$\n\nMore.\n\nExamples:\n  >>> 1\n  1")


def test_help_builds_nothing(capsys):
    build = site_script("build.py")
    build.build = None  # which cannot be called
    assert build.main(["--help"]) == 0
    assert build.main(["biuld"]) == 2
    assert "scripts/docs build only builds" in capsys.readouterr().out
