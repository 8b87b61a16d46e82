"""An experiment as a grid of runs: its budgets, its command, and how its settings are chosen.

The protocol is that of appendix B.1 of Srivastava et al. 2014: `--tune` compares settings on the
last 10 000 training images at the full number of updates; without it, each row takes the best of
the settings that were compared for it, if any were, and trains on all images for as many updates.
The test error is recorded along the way and decides nothing; the last is reported.
"""

import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dropout_jax.train.runner import NonFiniteLossError
from experiments.harness import cli
from experiments.harness.launch import ERRORS, Columns, file_name, launch
from experiments.harness.once import Run
from experiments.records import record, trials

VALIDATION = 10_000
Candidates = Callable[[Any], Sequence[Any]]
"""A config -> those that `--tune` compares for its row."""
COLUMNS: Columns = {
    "held-out error %": ERRORS["held-out error %"],
    "settings": lambda r: tuned_settings(r),
    "train error %": ERRORS["train error %"],
    "updates": lambda r: r.extra["updates"],
    "record": file_name,
}


@dataclass(frozen=True)
class Budget:
    """How much of the experiment to run when nothing else is asked for."""

    updates: int
    seeds: int
    rows: tuple[str, ...] = ()
    """which rows; () for all"""


@dataclass(frozen=True)
class Study(cli.Divided):
    """The command line of a grid. A field that a config has too is handed on to it."""

    seeds: int | None = None
    """how many runs a row, side by side in one program; not given: as the budget says"""
    budget: Literal["cpu", "paper"] = "cpu"
    """cpu: what one core makes in minutes or a few hours; paper: as many updates as the paper's"""
    rows: tuple[str, ...] = ()
    """which rows of the table or points of the figure; not given: as the budget says"""
    updates: int | None = None
    """how many updates; not given: as the budget says"""
    tuned_at: int = 0
    """take the settings that --tune --updates N found the best, for a run of other length; 0:
    those found at as many updates as the run's"""
    tune: bool = False
    """compare settings on the last 10 000 training images, with one seed; leave the test set be"""


def no_candidates(config: Any) -> list[Any]:
    """What `--tune` makes of a row with one setting: what it reaches on validation data."""
    return [config]


def launch_grid(
    experiment: str,
    description: str,
    argv: Sequence[str] | None,
    *,
    budgets: Mapping[str, Budget],
    grid: Callable[[str], Sequence[Any]],
    run: Run,
    candidates: Candidates = no_candidates,
    study: type[Study] = Study,
    check: Callable[[Any], None] = lambda config: None,
    columns: Columns = COLUMNS,
) -> list[record.Record]:
    """The command of an experiment: make the runs of its grid that have no record, print them all.

    A trial that diverges has a record, so that it is not made again.

    Args:
      experiment: the module's name.
      description: its docstring.
      argv: the arguments.
      budgets: by name.
      grid: the name of a budget -> a config a row, whose updates and seeds do not matter.
      run: (config, folder for checkpoints) -> a result.
      candidates: a config -> those that `--tune` compares.
      study: the command line.
      check: raises ValueError for a config that cannot be run; all are checked before the first.
      columns: of the table that is printed.
    """
    asked = cli.cli(study, description, argv, module=f"experiments.{experiment}")
    with cli.user_errors():
        planned = configs_of(asked, budgets[asked.budget], grid(asked.budget))
        for config in planned:
            check(config)
            if asked.tuned_at:
                check_tuned_at(asked, experiment, config)
        configs = to_run(asked, experiment, planned, candidates)
        make = keep_diverged(run) if asked.tune else run
        return launch(experiment, configs, make, label=lambda c: c.row, columns=columns)


def to_run(
    study: Study,
    experiment: str,
    planned: Sequence[Any],
    candidates: Callable[[Any], Sequence[Any]],
) -> Iterator[Any]:
    """With --tune the settings to compare; else each row with the best that was found for it."""
    for config in planned:
        if study.tune:
            for trial in candidates(config):
                seeds = study.seeds or 1
                yield dataclasses.replace(trial, validation=VALIDATION, seeds=seeds)
        else:
            say_if_untuned(experiment, config, candidates(config))
            yield with_best_settings(experiment, config)


def keep_diverged(run: Run) -> Run:
    """`run`, with errors of NaN where all seeds diverge: a result that is never the best."""

    def run_trial(config: Any, checkpoint_dir: Path) -> dict[str, Any]:
        try:
            return run(config, checkpoint_dir)
        except NonFiniteLossError:
            unknown = [math.nan] * config.seeds
            final = {"val_error": unknown, "train_error": unknown}
            return {"final": final, "extra": {"updates": 0}}

    return run_trial


def configs_of(study: Study, budget: Budget, grid: Sequence[Any]) -> list[Any]:
    """The rows that were asked for, with the updates and seeds of the budget or of the flags."""
    names = study.rows or budget.rows or tuple(config.row for config in grid)
    unknown = set(names) - {config.row for config in grid}
    if unknown:
        raise ValueError(
            f"no row is called {sorted(unknown)[0]!r}; choose from "
            f"{', '.join(config.row for config in grid)}"
        )
    flags = {f.name: getattr(study, f.name) for f in dataclasses.fields(study)}
    flags |= {
        "updates": study.updates or budget.updates,
        "seeds": study.seeds or budget.seeds,
        # A run of other length is not to be shown as one at the budget.
        "budget": "own" if study.updates not in (None, budget.updates) else study.budget,
    }
    return [
        dataclasses.replace(config, **{k: v for k, v in flags.items() if hasattr(config, k)})
        for config in grid
        if config.row in names
    ]


def check_tuned_at(study: Study, experiment: str, config: Any) -> None:
    """Raise ValueError unless there are trials of the length that --tuned-at names."""
    if study.tune or study.quick:
        raise ValueError("--tuned-at is for whole runs after --tune: leave out --tune and --quick")
    if study.tuned_at < 1 or study.tuned_at == config.updates:
        raise ValueError(
            f"--tuned-at is {study.tuned_at} and the run makes {config.updates} updates; write the "
            "updates of trials of other length, or leave it out"
        )
    if not trials_of(experiment, config):
        raise ValueError(
            f"{config.row} has no trials of {study.tuned_at} updates under {config.out}; make them "
            f"with --tune --updates {study.tuned_at}"
        )


def trials_of(experiment: str, config: Any) -> list[record.Record]:
    """The trials on validation data that there are for a config."""
    found = record.read_all(experiment, config.out)
    return trials.trials_of(found, record.recorded_config(config), record.defaults_of(config))


def say_if_untuned(experiment: str, config: Any, candidates: Sequence[Any]) -> None:
    """A line on stderr where settings could be compared, and have not all been."""
    if len(candidates) < 2:
        return
    compared = trials.count_settings(trials_of(experiment, config))
    if compared < len(candidates):
        print(
            f"{config.row}: {compared} of {len(candidates)} settings were compared on validation "
            f"data under {config.out}; --tune "
            f"{f'--updates {at} ' if (at := config.tuned_at) else ''}compares them",
            file=sys.stderr,
        )


def with_best_settings(experiment: str, config: Any) -> Any:
    """The config with the settings of its best trial on validation data, if it has any."""
    if not hasattr(config, "validation"):
        return config
    found = trials_of(experiment, config)
    if not found:
        return config
    settings = trials.best(found)
    return dataclasses.replace(
        config, **{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    )


def tuned_settings(found: record.Record) -> str:
    """The settings of a run that may be tuned, and are not at 0 or None."""
    return ", ".join(
        f"{name.replace('_', '-')} {value}"
        for name, value in trials.tuned(found.config).items()
        if value not in (None, 0)
    )
