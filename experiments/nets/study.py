"""An experiment as a grid of runs: its budgets, its command, and how its settings are chosen.

The protocol is that of appendix B.1 of Srivastava et al. 2014: `--tune` compares settings on the
last 10 000 training images at the full number of updates; without it, each row takes the best of
the settings that were compared for it, if any were, and trains on all images for as many updates.
The test error is recorded along the way and decides nothing; the last is reported.
"""

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dropout_jax.train.runner import NonFiniteLossError
from experiments.harness import cli, once
from experiments.nets import mlp_parts, mlp_run
from experiments.nets.mlp_run import Config
from experiments.records import record, stats, trials

VALIDATION = 10_000
MOMENTUM = {"cpu": 0.9, "paper": 0.95}
MAX_NORM = 2.0  # the paper's c, in the paper's convention


@dataclass(frozen=True)
class Budget:
    """How much of the experiment to run when nothing else is asked for."""

    updates: int
    seeds: int
    rows: tuple[str, ...] = ()
    """which rows; () for all"""


@dataclass(frozen=True)
class Study(cli.Common):
    seeds: int | None = None
    """how many runs a row, side by side in one program; not given: as the budget says"""
    budget: Literal["cpu", "paper"] = "cpu"
    """cpu: what one core makes in minutes or a few hours; paper: as many updates as the paper's"""
    rows: tuple[str, ...] = ()
    """which rows of the table or points of the figure; not given: as the budget says"""
    updates: int | None = None
    """how many updates; not given: as the budget says"""
    life: int = 0
    """train thinned sub-networks, each for so many updates and at most an epoch, which want a
    smaller learning rate; 0 for element-wise dropout"""
    products: Literal["float32", "bfloat16"] = "float32"
    """to what the factors of a matrix product are rounded"""
    in_turn: bool = False
    """the seeds take turns, an epoch each: faster on a CPU whose caches one network fills"""
    tuned_at: int = 0
    """take the settings that --tune --updates N found the best, for a run of other length; 0:
    those found at as many updates as the run's"""
    tune: bool = False
    """compare settings on the last 10 000 training images, with one seed; leave the test set be"""
    resume: bool = field(default=True, metadata=record.NOT_RECORDED)
    """skip a run whose record is there already, and go on with one that was interrupted"""


def launch(
    experiment: str,
    description: str,
    argv: Sequence[str] | None,
    *,
    budgets: Mapping[str, Budget],
    grid: Callable[[str], Sequence[Config]],
    run: Callable[..., dict[str, Any]],
    tried: Callable[[Config], Sequence[Config]],
    check: Callable[[Config], None] = mlp_run.check,
) -> None:
    """The command of an experiment: make the runs of its grid that have no record, print them all.

    A row that diverges costs a line on stderr and, after the other rows, exit code 1; a trial that
    diverges has a record, so that it is not made again.

    Args:
      experiment: the module's name.
      description: its docstring.
      argv: the arguments.
      budgets: by name.
      grid: the name of a budget -> a config a row, whose updates and seeds do not matter.
      run: (config, folder for checkpoints) -> a result.
      tried: a config -> those that `--tune` compares.
      check: raises ValueError for a config that cannot be run; all are checked before the first.
    """
    study = cli.cli(Study, description, argv, module=f"experiments.{experiment}")
    with cli.user_errors():
        lines, diverged = [], False
        configs_of_rows = planned(study, budgets[study.budget], grid(study.budget))
        for config in configs_of_rows:
            check(config)
            if study.tuned_at:
                check_tuned_at(study, experiment, config)
        for config in configs_of_rows:
            if study.tune:
                configs = [
                    dataclasses.replace(c, validation=VALIDATION, seeds=study.seeds or 1)
                    for c in tried(config)
                ]
            else:
                say_if_untuned(experiment, config, tried(config))
                configs = [chosen(experiment, config)]
            for c in configs:
                try:
                    found = once.record_of(experiment, c, trial(run) if study.tune else run)
                except NonFiniteLossError as error:
                    print(f"{c.row}: {error}", file=sys.stderr)
                    diverged = True
                    continue
                lines.append(line(found))
                print(*lines[-1][:3], flush=True)
        header = ["row", "held-out error %", "settings", "train error %", "updates", "record"]
        print(cli.text_table(header, lines))
        if diverged:
            sys.exit(1)


def trial(run: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """`run`, with errors of NaN where all seeds diverge: a result that is never the best."""

    def run_trial(config: Config, checkpoint_dir: Path) -> dict[str, Any]:
        try:
            return run(config, checkpoint_dir)
        except NonFiniteLossError:
            unknown = [math.nan] * config.seeds
            final = {"val_error": unknown, "train_error": unknown}
            return {"final": final, "extra": {"updates": 0}}

    return run_trial


def settled(config: Config, budget: str, *, c: float | None = MAX_NORM) -> Config:
    """A row with the momentum of a budget, and with max-norm c on every layer; None for none."""
    lengths = None if c is None else mlp_parts.max_norms(c, config.rates)
    return dataclasses.replace(config, momentum=MOMENTUM[budget], max_norm=lengths)


def untuned(config: Config) -> list[Config]:
    """What `--tune` makes of a row with one setting: what it reaches on validation data."""
    return [config]


def planned(study: Study, budget: Budget, grid: Sequence[Config]) -> list[Config]:
    """The rows that were asked for, with the updates and seeds of the budget or of the flags."""
    names = study.rows or budget.rows or tuple(config.row for config in grid)
    unknown = set(names) - {config.row for config in grid}
    if unknown:
        raise ValueError(
            f"no row is called {sorted(unknown)[0]!r}; choose from "
            f"{', '.join(config.row for config in grid)}"
        )
    return [
        dataclasses.replace(
            config,
            # A run of other length is not to be shown as one at the budget.
            budget="own" if study.updates not in (None, budget.updates) else study.budget,
            updates=study.updates or budget.updates,
            seeds=study.seeds or budget.seeds,
            life=study.life,
            products=study.products,
            in_turn=study.in_turn,
            tuned_at=study.tuned_at,
            quick=study.quick,
            data_dir=study.data_dir,
            out=study.out,
            resume=study.resume,
        )
        for config in grid
        if config.row in names
    ]


def check_tuned_at(study: Study, experiment: str, config: Config) -> None:
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


def trials_of(experiment: str, config: Config) -> list[record.Record]:
    return trials.trials_of(record.read_all(experiment, config.out), record.recorded_config(config))


def say_if_untuned(experiment: str, config: Config, tried: Sequence[Config]) -> None:
    compared = trials.different(trials_of(experiment, config))
    if compared < len(tried) > 1:
        print(
            f"{config.row}: {compared} of {len(tried)} settings were compared on validation data "
            f"under {config.out}; --tune {f'--updates {at} ' if (at := config.tuned_at) else ''}"
            "compares them",
            file=sys.stderr,
        )


def chosen(experiment: str, config: Config) -> Config:
    """The config with the settings of its best trial on validation data, if it has any."""
    found = trials_of(experiment, config)
    if not found:
        return config
    settings = trials.best(found)
    return dataclasses.replace(
        config, **{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    )


def line(found: record.Record) -> list[str]:
    """A row of the closing table."""
    held_out = "val_error" if found.config["validation"] else "test_error"
    settings = ", ".join(
        f"{name.replace('_', '-')} {value}"
        for name, value in trials.tuned(found.config).items()
        if value not in (None, 0)
    )
    return [
        found.config["row"],
        stats.plus_minus(found.final[held_out]),
        settings,
        stats.plus_minus(found.final["train_error"]),
        str(found.extra["updates"]),
        found.path.name,
    ]
