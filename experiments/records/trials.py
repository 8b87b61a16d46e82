"""Settings that were compared on validation data: which records are the trials of which run.

Standard library only, so that the tables can say how a row's settings were chosen.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.records import record, stats
from experiments.records.record import Record

# The fields that a trial may vary: a run that differs in another is a trial of another row.
TUNED = ("learning_rate", "max_norm", "l2", "l1", "kl_sparsity", "alpha")


def trials_of(records: Sequence[Record], config: Mapping[str, Any]) -> list[Record]:
    """The runs on validation data that differ from a config in nothing but what may be tuned; and
    where it says after how many updates that was, in their length, whatever budget has it."""
    length, also = {}, ()
    if config.get("tuned_at"):
        length, also = {"updates": config["tuned_at"]}, ("budget",)
    of_trials = [r for r in record.newest(records) if r.config.get("validation")]
    return [r for r in of_trials if fixed(r.config, also) == fixed({**config, **length}, also)]


def fixed(config: Mapping[str, Any], also: Sequence[str] = ()) -> str:
    """What a run and its trials have in common, as text; `also` are more fields to leave out."""
    left_out = (*TUNED, "tuned_at", "validation", "seeds", "in_turn", *also)
    return json.dumps({k: v for k, v in config.items() if k not in left_out}, sort_keys=True)


def different(trials: Sequence[Record]) -> int:
    """How many settings were tried, each with any number of seeds."""
    return len({json.dumps(tuned(trial.config)) for trial in trials})


def best(trials: Sequence[Record]) -> dict[str, Any]:
    """The settings of the trial of the lowest mean validation error."""

    def error(trial):
        mean = stats.mean_and_stderr(trial.final["val_error"])[0]
        return math.inf if math.isnan(mean) else mean

    return tuned(min(trials, key=error).config)


def tuned(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that may be tuned."""
    return {name: config[name] for name in TUNED if name in config}
