#!/usr/bin/env python3
"""Build the documentation site: copy the pages and records to build/docs, and run zensical there.

Pages link to each other and to records by paths that hold in the repository; the copy has the
same tree, so that they hold in the site too. README.md is its first page.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build" / "docs"
PAGES = ("README.md", "CONTRIBUTING.md", "docs", "experiments/results")


def copy(folder: Path = SITE) -> None:
    """Put the pages, and what the generator reads, into `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in PAGES:
        source, copied = ROOT / name, folder / "source" / name
        copied.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copied, ignore=shutil.ignore_patterns("site", "__pycache__"))
        else:
            shutil.copy(source, copied)
    for file in ("zensical.toml", "docstrings.py"):
        shutil.copy(ROOT / "docs" / "site" / file, folder)


def main(arguments: list[str]) -> int:
    copy()
    # Relative to the folder, where zensical looks for the pages and for docstrings.py.
    zensical = [sys.executable, "-m", "zensical"]
    done = subprocess.run([*zensical, "build", "--clean", "--strict"], cwd=SITE)
    if done.returncode or arguments == ["--build"]:
        return done.returncode
    return subprocess.run([*zensical, "serve"], cwd=SITE).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
