"""Run a record again and compare: does this commit still give these numbers?

Command: python -m experiments.rerun experiments/results/mnist/<record>.json
         with --file mine.csv for a record of your own data
Takes what the record's own run took (its wall_seconds). Expected: every metric equal, bit for
bit, on the device, the versions and, of a CPU, as many cores as the record's; elsewhere the last
bits may differ, and training spreads them. Exit code 0: all equal. 1: some differ. 2: the record
cannot be run.
"""

import dataclasses
import hashlib
import importlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.harness.cli import cli, user_errors
from experiments.records import record
from experiments.records.config import RETIRED
from experiments.records.provenance import cores

_MISSING = object()


@dataclass(frozen=True)
class Config:
    file: Annotated[Path, tyro.conf.Positional]
    """the record to run again"""
    data_file: Annotated[Path | None, tyro.conf.arg(name="file")] = None
    """the file of your own that the record was made from, where it was (rate_advice --file)"""
    data_dir: Path | None = field(default=None, metadata=record.NOT_RECORDED)
    """folder that holds the data files; not given: where dropout_jax.data looks by itself"""


def main(argv: Sequence[str] | None = None) -> None:
    arguments = cli(Config, __doc__, argv)
    with user_errors():
        old = record.read(arguments.file)
        module = experiment_module(old.experiment)
        config = build_config(module.Config, old.config, arguments.data_dir)
        if arguments.data_file:
            config = with_file(config, arguments.data_file, old)
        new = record.plain(module.run(config)["final"])
    lines = {metric: compare(old.final.get(metric), new.get(metric)) for metric in old.final | new}
    for metric, difference in lines.items():
        print(f"{metric}: {difference or 'equal'}")
    if any(lines.values()):
        was = old.provenance
        print(f"the record was made on {was['device']['kind']} with {was['versions']}")
        if was["device"]["platform"] == "cpu":
            then, now = was.get("cores", "an unknown number of"), cores()
            print(f"on {then} cores, and now on {now}: sums on a CPU depend on how many share them")
    sys.exit(int(any(lines.values())))


def experiment_module(name: str) -> Any:
    """experiments.<name>; ValueError where it is no experiment of this checkout."""
    try:
        if not name.isidentifier():
            raise ModuleNotFoundError(name)
        module = importlib.import_module(f"experiments.{name}")
        for needed in ("Config", "run"):
            getattr(module, needed)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(f"the record's experiment {name!r} cannot be run: {error}") from error
    return module


def build_config(config_type: type, recorded: dict[str, Any], data_dir: Path | None) -> Any:
    """The Config of a record: a new field has its default, one that is retired has its last value.

    Raises:
      ValueError: for a field that this checkout does not know, or a retired one with another value.
    """
    fields = {f.name for f in dataclasses.fields(config_type) if f.metadata.get("recorded", True)}
    known = {k: v for k, v in recorded.items() if k in fields or RETIRED.get(k, _MISSING) != v}
    if unknown := set(known) - fields:
        raise ValueError(
            f"{sorted(unknown)} of the record are no settings of this checkout; check out the "
            "commit that it names"
        )
    config = config_type(**{name: _tuples(value) for name, value in known.items()})
    return config if data_dir is None else dataclasses.replace(config, data_dir=data_dir)


def with_file(config: Any, file: Path, old: record.Record) -> Any:
    """The config with a user's file; ValueError where it is not the file of the record."""
    if not hasattr(config, "file"):
        raise ValueError(f"a record of {old.experiment} is not of a file of your own: no --file")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest not in (old.provenance["data_sha256"] or {}).values():
        raise ValueError(f"{file} is not the file that the record was made from: it has changed")
    return dataclasses.replace(config, file=file)


def compare(old: list[float] | None, new: list[float] | None) -> str:
    """What differs between two lists of one number a seed; "" where nothing does."""
    if old is None or new is None:
        return "only in the record" if new is None else "not in the record"
    if len(old) != len(new):
        return f"{len(old)} seeds in the record, {len(new)} now"
    differing = [
        f"seed {seed}: {a} in the record, {b} now"
        for seed, (a, b) in enumerate(zip(old, new, strict=True))
        if a != b and not (math.isnan(a) and math.isnan(b))
    ]
    return f"differs in {len(differing)} of {len(old)} seeds; {differing[0]}" if differing else ""


def _tuples(value):
    """JSON has lists only; a frozen config holds tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


if __name__ == "__main__":
    main()
