#!/usr/bin/env python3
"""Build the documentation site: copy the pages and records to build/docs, and run zensical there.

Pages link to each other and to records by paths that hold in the repository; the copy has the
same tree, so that they hold in the site too. README.md is its first page.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETUP = ROOT / "docs" / "site"
SITE = ROOT / "build" / "docs"
ZENSICAL = [sys.executable, "-m", "zensical"]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "experiments/results")


def copy(folder: Path) -> None:
    """Put the pages, and what the generator reads, into `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in PAGES:
        source, copied = ROOT / name, folder / "source" / name
        copied.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copied, ignore=shutil.ignore_patterns("site", "__pycache__"))
        else:
            shutil.copy(source, copied)
    for file in linked_files(folder / "source"):
        (folder / "source" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, folder / "source" / file)
    shutil.copy(SETUP / "docstrings.py", folder)
    text = (SETUP / "zensical.toml").read_text(encoding="utf-8")
    (folder / "zensical.toml").write_text(text.replace("ROOT", str(ROOT)), encoding="utf-8")


def linked_files(source: Path) -> set[str]:
    """The source files that pages link to, seen from the root."""
    found = set()
    for page in source.rglob("*.md"):
        for link in re.findall(r"\]\(([\w./]+\.py)\)", page.read_text(encoding="utf-8")):
            found.add(os.path.relpath(page.parent / link, source))
    return found


def build(folder: Path) -> int:
    """Build the site in `folder`/site; the exit code is not 0 where a link or a page is missing."""
    copy(folder)
    return subprocess.run([*ZENSICAL, "build", "--clean", "--strict"], cwd=folder).returncode


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["build"]):
        print("scripts/docs builds the site and shows it; scripts/docs build only builds it.")
        return 0 if arguments in (["-h"], ["--help"]) else 2
    code = build(SITE)
    if code or arguments == ["build"]:
        return code
    return subprocess.run([*ZENSICAL, "serve"], cwd=SITE).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
