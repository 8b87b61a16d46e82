"""One run, one JSON file: what was run, what came out, and where the numbers come from.

A file under experiments/results/<experiment>/ is an object with the keys

    experiment   the module's name in experiments/
    config       the run's Config, without the fields that are marked as not recorded
    final        {metric: [one number a seed]}, exact
    by_epoch     {metric: [[one number an epoch] a seed]}, to 6 significant digits
    extra        anything else that the experiment wants to keep
    provenance   see provenance.py

The files are strict JSON: a number that is not finite is stored as the string "NaN", "Infinity"
or "-Infinity" in final, by_epoch and extra, and read back as a float. A config holds finite
numbers only. Reading needs the standard library alone; writing asks jax which device was used.
"""

import dataclasses
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from experiments.records.config import without_defaults
from experiments.records.provenance import ROOT, provenance

RESULTS = ROOT / "experiments" / "results"
# Metadata of a dataclass field that says where to run, not what: it stays out of records.
NOT_RECORDED = {"recorded": False}
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


@dataclasses.dataclass(frozen=True)
class Record:
    """One committed run; the fields are the keys of its file, and `path` is the file."""

    experiment: str
    config: dict[str, Any]
    final: dict[str, list[float]]
    by_epoch: dict[str, list[list[float]]]
    extra: dict[str, Any]
    provenance: dict[str, Any]
    path: Path | None = None


def write(
    experiment: str,
    config: Any,
    result: Mapping[str, Any],
    *,
    data_sha256: str | Mapping[str, str] | None,
    wall_seconds: float,
    folder: Path | str | None = None,
) -> Path:
    """Write one run to `folder`/`experiment`/<hash of the config>.json and return the path.

    No file is ever replaced: a second run of one config is written beside the first, as -2, -3 ...

    Args:
      experiment: the module's name in experiments/.
      config: a dataclass or a mapping; of its fields those marked NOT_RECORDED are dropped.
      result: {"final": ..., "by_epoch": ..., "extra": ...}; the last two may be left out.
      data_sha256: {data set: digest}, or one digest, or None where no data file is read.
      wall_seconds: seconds the run took, compilation included.
      folder: the root of all results; experiments/results where it is None.

    Raises:
      ValueError: where the result does not fit the schema, or the config cannot be recorded.
    """
    unknown = set(result) - {"final", "by_epoch", "extra"}
    if unknown or not result.get("final"):
        raise ValueError(
            'a result is {"final": {metric: [one number a seed]}, "by_epoch": ..., "extra": ...}; '
            f"got the keys {sorted(result)}"
        )
    config = recorded_config(config)
    final = plain(result["final"])
    by_epoch = _map_leaves(lambda v: float(f"{v:.6g}"), plain(result.get("by_epoch", {})))
    _check_seeds(config, final, by_epoch)
    content = {
        "experiment": experiment,
        "config": config,
        "final": final,
        "by_epoch": by_epoch,
        "extra": plain(result.get("extra", {})),
        "provenance": provenance(
            experiment, data_sha256=plain(data_sha256), wall_seconds=wall_seconds
        ),
    }
    text = json.dumps(_map_leaves(_encode, content), allow_nan=False, indent=1, ensure_ascii=False)
    # One line for a list of numbers. A JSON string holds no line break, so none is touched.
    text = re.sub(r"\[[^][{}]*\]", lambda m: re.sub(r"\n\s*", " ", m.group()), text)
    stem = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:10]
    return _write_beside(Path(folder or RESULTS) / experiment, stem, text + "\n")


def read(path: Path | str) -> Record:
    """Read one record. Raises ValueError, naming the file, where it is not one."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for part in ("final", "by_epoch", "extra"):
            content[part] = _map_leaves(_decode, content[part])
        return Record(**content, path=path)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a record: {error}") from error


def read_all(experiment: str, folder: Path | str | None = None) -> list[Record]:
    """All records of one experiment, oldest first; an empty list where there are none."""
    files = (Path(folder or RESULTS) / experiment).glob("*.json")
    return sorted(map(read, files), key=lambda r: (r.provenance["utc"], str(r.path)))


def find(experiment: str, config: Any, folder: Path | str | None = None) -> Record | None:
    """The newest record with this config, or None: what a sweep asks in order to resume.

    Settings that are at their default do not count: a record may be older than they are.
    """
    defaults = defaults_of(config)
    wanted = without_defaults(recorded_config(config), defaults)
    found = read_all(experiment, folder)
    same = [r for r in found if without_defaults(r.config, defaults) == wanted]
    return same[-1] if same else None


def newest(records: Sequence[Record]) -> list[Record]:
    """The newest record of each config, without the runs made with --quick."""
    by_config = {json.dumps(r.config, sort_keys=True): r for r in records}
    return [r for r in by_config.values() if not r.config.get("quick", False)]


def recorded_config(config: Any) -> dict[str, Any]:
    """The part of a config that decides the numbers, in JSON's types (tuples become lists)."""
    if dataclasses.is_dataclass(config):
        config = {f.name: getattr(config, f.name) for f in _recorded_fields(config)}
    config = plain(config)

    def check(leaf):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise ValueError(f"a config holds finite numbers, got {leaf}; write None for no limit")
        if isinstance(leaf, str) and Path(leaf).is_absolute():
            raise ValueError(
                "a config field that holds a path of this machine is not recorded: "
                "declare it with metadata=NOT_RECORDED"
            )
        return leaf

    return _map_leaves(check, config)


def defaults_of(config: Any) -> dict[str, Any]:
    """The defaults of the recorded fields of a dataclass or of its type; {} for a mapping."""
    if not dataclasses.is_dataclass(config):
        return {}
    values = {f.name: f.default for f in _recorded_fields(config)}
    return {k: plain(v) for k, v in values.items() if v is not dataclasses.MISSING}


def _recorded_fields(config):
    return [f for f in dataclasses.fields(config) if f.metadata.get("recorded", True)]


def plain(value: Any) -> Any:
    """Numbers, strings, lists and dicts only: arrays of any library become (nested) lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"a record holds numbers, strings, lists and dicts; got {type(value)}")


def _check_seeds(config, final, by_epoch):
    for name, values in final.items():
        if not isinstance(values, list) or any(type(v) not in (int, float) for v in values):
            raise ValueError(f"final {name} must be a list of one number a seed, got {values!r}")
    seeds = config.get("seeds", len(next(iter(final.values()))))
    lengths = {f"final {name}": len(v) for name, v in final.items()}
    lengths |= {f"by_epoch {name}": len(v) for name, v in by_epoch.items()}
    wrong = {name: n for name, n in lengths.items() if n != seeds}
    if wrong:
        raise ValueError(f"each metric needs one entry a seed, {seeds} in all; got {wrong}")


def _write_beside(folder: Path, stem: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as temporary:
        temporary.write(text)
    os.chmod(temporary.name, 0o644)
    for n in count(1):
        path = folder / (f"{stem}.json" if n == 1 else f"{stem}-{n}.json")
        try:
            path.touch(exist_ok=False)  # claims the name, so that no other run can be replaced
        except FileExistsError:
            continue
        os.replace(temporary.name, path)
        return path


def _map_leaves(function: Callable, value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _map_leaves(function, v) for k, v in value.items()}
    if isinstance(value, list):
        return [_map_leaves(function, v) for v in value]
    return function(value)


def _encode(value):
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _decode(value):
    return float(value) if value in _NOT_FINITE else value
