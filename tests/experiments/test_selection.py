"""No committed run was chosen by a test image. What would make this wrong: a trial that read the
test set, a reported run whose settings are not those of its best trial, or one that took the place
of another without any trial."""

import pytest
from helpers.paper_records import write

from experiments import mnist_table2
from experiments.records import record, trials
from experiments.records.record import RESULTS
from experiments.report.mlp_settings import DEFAULTS

EXPERIMENTS = sorted({path.parent.name for path in RESULTS.glob("*/*.json")} - {"benchmark"})


def that_read_the_test_set(records):
    """Trials that hold a number of the test set."""
    return [
        r.path.stem
        for r in records
        if r.config.get("validation") and any("test" in name for name in r.final | r.by_epoch)
    ]


def chosen_otherwise(records):
    """Runs on the test set whose settings something other than their trials has chosen.

    Of runs that differ in tuned settings alone, the newest is reported. It has the settings of the
    best trial made before it, or, where nothing was compared, there is no other to choose from.
    """
    newest = record.newest(records)
    tested = {}
    for r in newest:
        if not r.config.get("validation"):
            tested.setdefault(trials.group(r.config, DEFAULTS), []).append(r)
    wrong = []
    for runs in tested.values():
        r = runs[-1]
        before = [t for t in newest if t.provenance["utc"] < r.provenance["utc"]]
        compared = trials.trials_of(before, r.config, DEFAULTS)
        settings = {str(trials.tuned(other.config)) for other in runs}
        if len(compared) > 1 or len(settings) > 1:
            best = trials.best(compared) if compared else None
            wrong += [r.path.stem] * (best != trials.tuned(r.config))
    return wrong


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_settings_come_from_validation_images(experiment):
    records = record.read_all(experiment)
    assert that_read_the_test_set(records) == []
    assert chosen_otherwise(records) == []


def test_the_long_runs_past_the_paper_were_chosen_by_trials():
    """Otherwise the test above would pass for want of trials."""
    for experiment in ("mnist_table2", "past_the_paper"):
        assert sum(bool(r.config.get("validation")) for r in record.read_all(experiment)) > 5


def test_a_run_that_was_chosen_by_its_test_error_is_found(tmp_path):
    row, more = "dropout_relu_maxnorm_3x1024", dict(updates=7)

    def found():
        return chosen_otherwise(record.read_all("mnist_table2", tmp_path))

    for rate, error in ((0.05, 1.3), (0.2, 1.1)):
        write(tmp_path, mnist_table2, row, [error], validation=10_000, learning_rate=rate, **more)
    write(tmp_path, mnist_table2, row, [1.2], learning_rate=0.2, **more)
    assert found() == []
    path = write(tmp_path, mnist_table2, row, [1.1], learning_rate=0.05, **more)
    assert found() == [path.stem]


def test_two_settings_on_the_test_set_without_trials_are_found(tmp_path):
    row = "dropout_relu_maxnorm_3x1024"
    write(tmp_path, mnist_table2, row, [1.2], learning_rate=0.2)
    assert chosen_otherwise(record.read_all("mnist_table2", tmp_path)) == []
    path = write(tmp_path, mnist_table2, row, [1.1], learning_rate=0.05)
    assert chosen_otherwise(record.read_all("mnist_table2", tmp_path)) == [path.stem]
