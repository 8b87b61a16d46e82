"""Is dropout working? Run a model and find wrong masks, rates, modes and gradients of dropout."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dropout_jax._checks import check_key
from dropout_jax.diagnose.findings import Finding
from dropout_jax.diagnose.probe import Runner, runner_of
from dropout_jax.diagnose.sites import site_findings
from dropout_jax.diagnose.whole import output_findings
from dropout_jax.typing import Key

STEPS, ROWS = 6, 16


def check_dropout(
    model: Any,
    x: Any,
    *,
    variables: Any = None,
    key: Key | None = None,
    train: Mapping[str, Any] | None = None,
    evaluate: Mapping[str, Any] | Callable | None = None,
    verbose: bool = True,
) -> list[Finding]:
    r"""Find out whether dropout in a model does what it should, by running the model.

    It runs six steps of training and two evaluations, watches every layer of dropout on the way,
    and looks for: a mask that is the same in every step (a constant under jit, a key used again); a
    mask that the whole batch shares without being asked to; dropout that is on in evaluation or off
    in training; dropout on the outputs; another mask in the backward pass; a share that is dropped,
    or a scale, that is not the stated one; two places with one mask; and batch normalisation that
    sees another variance in training than in evaluation. A share that is dropped is tested by its
    binomial distribution, $\text{Binomial}(n, \text{rate})$, at 1e-6. The model stays as it is.

    Args:
      model: an `nnx.Module`; or a Linen module, with its `variables`; or a function (key, x) ->
        outputs in training, such as your forward pass.
      x: a batch of inputs (examples, ...), as you train on; an array or a pytree of them.
      variables: of a Linen module.
      key: a typed key; `jax.random.key(0)` by default.
      train: arguments of the model's call in training, such as {"training": True}, for a model that
        needs them. Linen's `train`, `training` and `deterministic` are set by themselves.
      evaluate: likewise in evaluation; for a function, a function (key, x) -> outputs in
        evaluation, and None leaves evaluation out.
      verbose: print the findings.

    Returns:
      The findings, each with `problem`, `where`, `how` and `instead`; empty for a sound model.

    Raises:
      TypeError: a model of another kind; a Linen module without variables.
      ValueError: inputs without examples.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> def forgets_the_key(key, x):
      ...     return dj.dropout(jax.random.key(0), x, 0.5) @ jnp.ones((8, 2))
      >>> found = dj.check_dropout(forgets_the_key, jnp.ones((4, 8)), verbose=False)
      >>> [f.problem for f in found]
      ['constant']
      >>> def sound(key, x):
      ...     return dj.dropout(key, x, 0.5) @ jnp.ones((8, 2))
      >>> dj.check_dropout(sound, jnp.ones((4, 8)))
      Nothing wrong was found: 6 steps of training.
      []

    Source: Li et al. 2019, "Understanding the Disharmony between Dropout and Batch Normalization by
    Variance Shift", for the variance.
    """
    key = jax.random.key(0) if key is None else check_key(key)
    runner = runner_of(model, variables, key, train, evaluate)
    found = _findings(runner, _enough_rows(x))
    if verbose:
        evaluations = " and 2 evaluations" if runner.evaluate else ""
        sound = f"Nothing wrong was found: {STEPS} steps of training{evaluations}."
        print("\n".join(map(str, found)) or sound)
    return found


def _findings(runner: Runner, x: Any) -> list[Finding]:
    passes = [runner.train(step, x) for step in range(1, 1 + STEPS)]
    evaluated = [runner.evaluate(step, x) for step in (1, 2)] if runner.evaluate else []
    found = list(site_findings(passes, evaluated))
    found += output_findings(runner, passes, evaluated, x, {f.problem for f in found})
    return list(dict.fromkeys(found))


def _enough_rows(x: Any) -> Any:
    """The inputs, repeated to some rows, so that a mask that they share is seen."""
    x = jax.tree.map(jnp.asarray, x)
    sizes = {a.shape[:1] for a in jax.tree.leaves(x)}
    if len(sizes) != 1 or () in sizes or (0,) in sizes:
        raise ValueError(
            f"x has the shape {jax.tree.map(jnp.shape, x)}; write a batch of inputs (examples, "
            "...), with one example or more."
        )
    rows = sizes.pop()[0]
    times = -(-ROWS // rows)
    return jax.tree.map(lambda a: jnp.concatenate([a] * times), x)
