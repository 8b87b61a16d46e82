"""Trials on validation data: which records compared settings for which run, and which was best.

Standard library only, so that the tables can say how a row's settings were chosen.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.records import record
from experiments.records.config import without_defaults
from experiments.records.record import Record
from experiments.records.stats import mean_and_stderr

# The fields that a trial may vary: a run that differs in another is a trial of another row.
TUNED = (
    "learning_rate", "max_norm", "l2", "l1", "kl_sparsity", "alpha",
    "law", "amount", "input_amount", "ema",
)  # fmt: skip
# The fields in which a run differs from its trials anyway.
OTHERWISE = ("tuned_at", "validation", "seeds", "in_turn")

Defaults = Mapping[str, Any]
"""Name of a setting -> its default: what a record that does not name it was made with."""


def trials_of(
    records: Sequence[Record], config: Mapping[str, Any], defaults: Defaults
) -> list[Record]:
    """The runs on validation data that settings of `config` may be taken from.

    They differ from it in settings that may be tuned and in nothing else. Where `tuned_at` names
    another number of updates, they have that length, whatever budget they belong to.
    """
    length, also = {}, ()
    if config.get("tuned_at"):
        length, also = {"updates": config["tuned_at"]}, ("budget",)
    wanted = group({**config, **length}, defaults, also)
    of_trials = [r for r in record.newest(records) if r.config.get("validation")]
    return [r for r in of_trials if group(r.config, defaults, also) == wanted]


def group(config: Mapping[str, Any], defaults: Defaults, also: Sequence[str] = ()) -> str:
    """The same text for a run and its trials; `also` are more fields to leave out."""
    left_out = (*TUNED, *OTHERWISE, *also)
    kept = {k: v for k, v in config.items() if k not in left_out}
    return json.dumps(without_defaults(kept, defaults), sort_keys=True)


def count_settings(trials: Sequence[Record]) -> int:
    """How many settings were tried, each with any number of seeds."""
    return len({json.dumps(tuned(trial.config)) for trial in trials})


def best(trials: Sequence[Record], names: Sequence[str] = TUNED) -> dict[str, Any]:
    """The settings of the trial of the lowest mean validation error, of equal ones the first."""

    def error(trial):
        mean = mean_and_stderr(trial.final["val_error"])[0]
        return math.inf if math.isnan(mean) else mean

    return tuned(min(trials, key=error).config, names)


def tuned(config: Mapping[str, Any], names: Sequence[str] = TUNED) -> dict[str, Any]:
    """The part of a config that may be tuned."""
    return {name: config[name] for name in names if name in config}
