"""Where a number comes from: the code, the versions, the device and the data behind one run.

Nothing here names the machine, its user or its folders.
"""

import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def provenance(
    experiment: str, *, data_sha256: str | Mapping[str, str] | None, wall_seconds: float
) -> dict[str, Any]:
    """The provenance of a run of `experiment` that this process has just finished."""
    import jax  # only here: reading records needs no jax

    devices = jax.devices()
    return {
        "command": command(experiment, sys.argv),
        **code(),
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        "device": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
        },
        "cpu": _cpu(),
        "cores": cores(),
        "utc": datetime.now(UTC).isoformat(),
        "wall_seconds": round(float(wall_seconds), 3),
        "data_sha256": data_sha256,
    }


def command(experiment: str, argv: list[str]) -> str | None:
    """`python -m experiments.x ...` without the paths of this machine; None if run from Python."""
    if Path(argv[0]).stem != experiment:
        return None
    kept = []
    for argument in argv[1:]:
        flag, _, value = argument.rpartition("=")
        if not Path(value).is_absolute():
            kept.append(argument)
        elif not flag and kept and kept[-1].startswith("--"):
            kept.pop()  # the flag that the path was the value of
    return shlex.join(["python", "-m", f"experiments.{experiment}", *kept])


@functools.cache
def code() -> dict[str, Any]:
    """The commit and the digest of the code as they were at the first call: call it before a run,
    for what Python has loaded does not follow an edit made meanwhile."""
    commit = _git("rev-parse", "HEAD") if _is_checkout() else None
    # Of the code alone: neither new records nor the log of a run make the next one dirty.
    source = ("dropout_jax", "experiments", ":!experiments/results")
    changes = _git("status", "--porcelain", "--", *source)
    dirty = None if commit is None or changes is None else bool(changes)
    found = {"commit": commit, "dirty": dirty, "source_sha256": source_sha256()}
    return found if commit else {**found, "version": _version("dropout_jax")}


def _is_checkout() -> bool:
    """Whether git keeps this code: a copy in another repository has that repository's commits."""
    top = _git("rev-parse", "--show-toplevel")
    return bool(top and Path(top).resolve() == ROOT.resolve() and _git("ls-files", "dropout_jax"))


def source_sha256() -> str:
    """Digest of the library and the experiments: it is known even where git is not."""
    files = [
        f for package in ("dropout_jax", "experiments") for f in (ROOT / package).rglob("*.py")
    ]
    files.sort()
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except OSError:  # git is not installed
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cores() -> int | None:
    """How many CPU cores this process may use: sums are split among them."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found.group(1) if found else platform.processor() or platform.machine()
