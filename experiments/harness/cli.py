"""The command line that all experiments share: one frozen dataclass, read by tyro.

A bad flag, a bad value or a folder that cannot be written costs one line on stderr and exit
code 2. Run as `python -m experiments.<name>`; `--help` shows the docstring of each field.
"""

import codecs
import contextlib
import io
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import tyro

from dropout_jax._checks import check_rate
from dropout_jax.data import DataError
from experiments.records import provenance
from experiments.records.record import NOT_RECORDED

ConfigT = TypeVar("ConfigT")
T = TypeVar("T")


def _parse_rate(arguments: list[str]) -> float:
    return check_rate(float(arguments[0]))


# The type of a config field that is a rate: 0.5, in the range and the words of the library.
Rate = Annotated[
    float,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="RATE",
        instance_from_str=_parse_rate,
        is_instance=lambda value: isinstance(value, (int, float)),
        str_from_instance=lambda value: [str(value)],
    ),
]


# A field that a study sets for each of its runs, and the command line does not: Set[float].
Set = Annotated[T, tyro.conf.Fixed, tyro.conf.Suppress]


@dataclass(frozen=True)
class Common:
    """Fields of every experiment; a Config inherits them and sets its own defaults."""

    seeds: int = 5
    """how many runs: the seeds 0 to seeds - 1, side by side in one program"""
    quick: bool = False
    """a few seconds at a size that only shows that it runs; tables leave such records out"""
    data_dir: Path | None = field(default=None, metadata=NOT_RECORDED)
    """folder that holds the data files; not given: where dropout_jax.data looks by itself"""
    out: Path = field(default=Path("runs"), metadata=NOT_RECORDED)
    """folder for records and pictures; experiments/results holds those that are committed"""
    fresh: bool = field(default=False, metadata=NOT_RECORDED)
    """make every run anew, in place of reading the record of its settings or going on from where it
    was interrupted"""


@dataclass(frozen=True)
class Divided(Common):
    """Fields of the experiments whose runs may be divided among devices."""

    devices: int = field(default=1, metadata=NOT_RECORDED)
    """divide the runs among so many devices: each trains some of them"""


def shared(study: Common) -> dict[str, Any]:
    """The fields that a study hands on to each of its runs."""
    return {f.name: getattr(study, f.name) for f in fields(Divided) if hasattr(study, f.name)}


def cli(
    config_type: type[ConfigT],
    description: str,
    argv: Sequence[str] | None = None,
    *,
    module: str | None = None,
) -> ConfigT:
    """Read a config from the command line, or exit: 0 after --help, 2 with one line of error.

    Args:
      config_type: a dataclass with a default for every field.
      description: what --help says first; an experiment passes its `__doc__`.
      argv: the arguments; those of the process where it is None.
      module: what is started with python -m; not given: where `config_type` is from.

    Raises:
      SystemExit: code 2 for an unknown flag, a bad value, or an `out` that cannot be written.
    """
    for stream in (sys.stdout, sys.stderr):
        spell_out(stream)
    program = f"python -m {module or _module(config_type)}"
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            config = tyro.cli(
                config_type,
                prog=program,
                description=description,
                args=argv,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if stop.code:
            _fail(f"{_first_message(stderr.getvalue())} (see {program} --help)")
        raise
    runs = getattr(config, "runs", config)  # of a study, what all its runs share
    if hasattr(runs, "out"):
        check_writable(runs.out)
    provenance.code()  # as it is loaded, whatever is edited while the run goes on
    return config


# For terminals that cannot show a sign.
SPELLED_OUT = {"±": "+-", "×": "x", "–": "-", "²": "^2", "≤": "<=", "≥": ">=", "µ": "u"}


def spell_out(stream: Any) -> None:
    """Have a stream write "+-" for "±" where its encoding has no such sign."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="spelled_out")


def _spelled_out(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(SPELLED_OUT.get(sign, "?") for sign in signs), error.end


codecs.register_error("spelled_out", _spelled_out)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn what the library says about a bad input, file or run into one line and exit code 2.

    Ctrl-C ends with code 130, after the line that the run printed.
    """
    try:
        yield
    except (ValueError, OSError, DataError, FloatingPointError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def check_writable(folder: Path) -> None:
    """Make the folder and try it, before hours are spent on a run that could not be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        _fail(f"--out {folder} cannot be written ({error.strerror}); give a folder that can")


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Plain text with aligned columns: the first to the left, the others to the right.

    >>> print(text_table(["net", "error %"], [["800-800", "1.25 ± 0.02"], ["512", 1.5]]))
    net          error %
    800-800  1.25 ± 0.02
    512              1.5
    """
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _fail(message: str) -> NoReturn:
    print("error:", " ".join(message.split()), file=sys.stderr)
    raise SystemExit(2) from None


def _module(config_type: type) -> str:
    module = config_type.__module__
    if module == "__main__":  # started with python -m
        module = getattr(sys.modules["__main__"].__spec__, "name", module)
    return module


def _first_message(box: str) -> str:
    """The first paragraph of tyro's framed error."""
    lines = [line.strip("│ \n") for line in box.splitlines() if line.startswith("│")]
    message = []
    for line in lines:
        if re.fullmatch("─+", line):
            break
        message.append(line)
    return " ".join(message) or " ".join(box.split())
