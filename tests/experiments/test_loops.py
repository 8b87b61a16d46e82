"""Loops made of a loop. What would make this wrong: epochs of one call that train otherwise, images
that a run should not see."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.nets import loops, mlp_run


def test_own_rows_are_all_that_a_run_sees():
    x, y = jnp.arange(12.0).reshape(6, 2), jnp.arange(6)
    seen = {}

    class Loop:
        def _replace(self, **functions):
            seen.update(functions)

        def epoch(self, state, data):
            return data

        evaluate = epoch

    loops.on_own_rows(Loop())
    state = dataclasses.make_dataclass("State", ["hyper"])({"rows": jnp.array([4, 1])})
    for function in seen.values():
        found = function(state, {"train": (x, y), "test": (x, y)})
        assert found["train"][1].tolist() == [4, 1] and len(found["test"][1]) == 6


@pytest.mark.slow
@pytest.mark.parametrize("batch", [100, 50])
def test_epochs_that_share_a_call_change_nothing(small_images, monkeypatch, batch):
    config = mlp_run.Config(
        seeds=2, hidden=(8,), training_cases=100, batch_size=batch, updates=24, evaluations=3
    )
    seen, in_passes = [], loops.in_passes
    monkeypatch.setattr(loops, "in_passes", lambda loop, n: seen.append(n) or in_passes(loop, n))
    together = mlp_run.run(config)
    monkeypatch.setattr(loops, "CALL_UPDATES", 1)
    apart = mlp_run.run(config)
    assert seen[0] > 1 == seen[1]
    assert together["extra"]["evaluated_at"].tolist() == [8, 16, 24]
    for part in ("final", "by_epoch"):
        for name, values in apart[part].items():
            np.testing.assert_array_equal(together[part][name], values, err_msg=name)


@pytest.mark.parametrize(
    ("epochs", "every", "per_epoch", "passes"),
    [(1_000_000, 50_000, 1, 400), (12, 4, 2, 4), (100, 5, 600, 1), (7, 7, 1, 7), (21, 4, 1, 1)],
)
def test_a_call_holds_few_updates_and_evaluations_fall_between_calls(
    epochs, every, per_epoch, passes
):
    assert loops.passes_of_a_call(epochs, every, per_epoch) == passes
    assert epochs % passes == every % passes == 0
    assert passes == 1 or passes * per_epoch <= loops.CALL_UPDATES
