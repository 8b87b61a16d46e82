"""What can be wrong with a model as a whole: by its outputs, where no layer can be looked into."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from dropout_jax.diagnose.findings import Finding, chance
from dropout_jax.diagnose.probe import Pass, Runner
from dropout_jax.diagnose.sites import ALPHA
from dropout_jax.diagnose.watch import WHOLE

SHIFT, NORM_STEPS = 0.05, 24
"""The change of a variance that is no fault, and how many steps it is measured in."""
DIRECTIONS, APART = 8, 0.2
"""How many derivatives are measured, and how far they may be from the gradient."""
ALIKE = "(a sound model never shows it, but for rates so small that nothing was dropped)"


def output_findings(
    runner: Runner, passes: Sequence[Pass], evaluated: Sequence[Pass], x: Any, found: set[str]
) -> Iterator[Finding]:
    """What the outputs say, beyond the `found` problems of single layers."""
    steps = [p.outputs for p in passes]
    varies = not _same(*steps)
    if passes[0].sites and all(site.rate == 0 for site in passes[0].sites):
        return  # no dropout is what was asked for
    if not varies and not found & {"constant", "training"} and _draws(runner, x):
        yield Finding(
            "constant",
            "the whole model",
            f"random numbers are drawn, and the outputs of {len(steps)} steps are equal {ALIKE}",
            "a mask from the key that the function is given, and a new key for every step: "
            "jax.random.fold_in(key, step)",
        )
    elif not varies and not found & {"constant", "training"}:
        yield Finding(
            "training",
            "the whole model",
            f"the outputs of {len(steps)} steps of training are equal {ALIKE}",
            "a layer such as dj.layers.Dropout(0.5, rngs=rngs), model.train(), and for a function "
            "a mask from the key that it is given",
        )
    if varies:
        compiled = [runner.compiled(step, x) for step in range(1, 1 + len(steps))]
        if _same(*compiled):
            found = found | {"gradient"}  # it cannot be asked for
            yield Finding(
                "compiled",
                "the whole model",
                f"the outputs of {len(steps)} steps differ, and under jit they are equal {ALIKE}",
                "jax.random with a key that is an argument or in the model's nnx.Rngs; NumPy and "
                "Python draw while tracing, once for all steps",
            )
    if evaluated and not _same(*(p.outputs for p in evaluated)) and "evaluation" not in found:
        yield Finding(
            "evaluation",
            "the whole model",
            "two evaluations of the same inputs differ (a sound model never shows it)",
            "return x as it is when deterministic; model.eval() sets `deterministic`, and a switch "
            "of your own, such as self.training, it does not know",
        )
    if varies and "batch" not in found and not passes[0].sites and not runner.shares:
        yield from _of_rows(runner, x)
    alone = any(site.name == WHOLE for site in passes[0].sites)
    if varies and "outputs" not in found and evaluated and not alone:
        yield from _of_zeros(passes, evaluated)
    if "gradient" not in found:
        yield from _of_derivative(runner, x)
    if passes[0].sites and passes[0].norms:
        yield from _of_norms(runner, x)


def _of_rows(runner, x) -> Iterator[Finding]:
    alike = jax.tree.map(lambda a: jnp.repeat(a[:1], 8, axis=0), x)
    outputs = runner.train(1, alike).outputs
    if all(len(o) == 8 and np.array_equal(o, np.broadcast_to(o[:1], o.shape)) for o in outputs):
        yield Finding(
            "batch",
            "the whole model",
            f"8 equal examples have equal outputs, and another step has others {ALIKE}",
            "draw the mask in the shape of the inputs, as dj.dropout(key, x, rate) does",
        )


def _of_zeros(passes, evaluated) -> Iterator[Finding]:
    """Outputs that are 0 beside others of their example that are not: no sum of units is."""
    if len(evaluated[0].outputs) > 1:  # hidden units may be among them
        return
    for number, certain in enumerate(evaluated[0].outputs):
        noisy = np.stack([p.outputs[number] for p in passes])
        zeros = (noisy == 0) & (noisy != 0).any(-1, keepdims=True)
        signs = np.unique(np.sign(certain))  # a ReLU has no negative outputs, and zeros
        if zeros.any() and not (certain == 0).any() and len(signs) > 1 and certain.ndim > 1:
            yield Finding(
                "outputs",
                "the outputs",
                f"{zeros.mean():.1%} of them are exactly 0 in training, in other places in each "
                "step, and none is in evaluation (a sound model never shows it)",
                "leave the dropout after the last linear layer out: it stands before it",
            )


def _of_derivative(runner, x) -> Iterator[Finding]:
    """Along some directions of the inputs: the gradient, and differences of two widths."""
    leaves = jax.tree.leaves(x)
    if not all(jnp.issubdtype(a.dtype, jnp.floating) for a in leaves):
        return
    rng = np.random.default_rng(0)
    like = jax.tree.leaves(runner.pure(x))
    if not all(jnp.issubdtype(o.dtype, jnp.floating) for o in like):
        return
    size = max(float(jnp.abs(a).max()) for a in leaves) or 1.0

    @jax.jit
    def slopes(x, way, weights):
        def weighted(x):
            return sum(map(jnp.vdot, weights, jax.tree.leaves(runner.pure(x))))

        def ahead(step):
            return weighted(jax.tree.map(lambda a, w: a + step * w, x, way))

        gradients = jax.tree.leaves(jax.grad(weighted)(x))
        measured = [(ahead(h) - ahead(-h)) / (2 * h) for h in (1e-2 * size, 2.5e-3 * size)]
        return [sum(map(jnp.vdot, gradients, jax.tree.leaves(way))), *measured]

    def drawn(shape, dtype):
        return jnp.asarray(rng.normal(size=shape), dtype)

    rows = []
    for _ in range(DIRECTIONS):
        way = jax.tree.map(lambda a: drawn(a.shape, a.dtype), x)
        rows.append(slopes(x, way, [drawn(o.shape, o.dtype) for o in like]))
    slope, *measured = np.array(rows, np.float64).T
    longest = max(map(np.linalg.norm, (slope, *measured)))
    apart = min(np.linalg.norm(slope - m) for m in measured) / max(longest, 1e-30)
    if apart > APART:
        yield Finding(
            "gradient",
            "the whole model",
            f"along {DIRECTIONS} directions, finite differences under one mask are {apart:.0%} "
            f"away from the gradient, and a sound model is less than {APART:.0%} away, but for "
            "kinks of its activations",
            "draw the mask once and use it in both passes, or the same key in both",
        )


def _of_norms(runner, x) -> Iterator[Finding]:
    """Each step of training beside one in which all noise is left out, on the same batch."""
    certain = runner.train(0, x, quiet=True).norms
    noisy = [runner.train(step, x).norms for step in range(1, 1 + NORM_STEPS)] if certain else []
    for number, norm in enumerate(certain):
        means = [n[number].variance.mean() for n in noisy]
        ratios = np.array(means) / max(float(norm.variance.mean()), 1e-30)
        mean, spread = ratios.mean(), ratios.std(ddof=1) / len(ratios) ** 0.5
        if abs(mean - 1) > SHIFT + stats.t.isf(ALPHA / 2, NORM_STEPS - 1) * spread:
            yield Finding(
                "norm",
                norm.name,
                f"with dropout the variance of its inputs is {mean:.3f} ± {spread:.3f} times what "
                f"it is without, as in evaluation: more than {SHIFT:.0%} away (by chance "
                f"{chance(ALPHA)})",
                "dropout after the last batch normalisation; or, after training, running averages "
                "of passes without dropout",
            )


def _draws(runner, x) -> bool:
    """Whether the program of a step draws random numbers at all."""
    program = str(jax.make_jaxpr(runner.pure)(x))
    return any(name in program for name in ("random_bits", "threefry2x32", "random_unwrap"))


def _same(*outputs: Sequence[np.ndarray]) -> bool:
    return all(
        np.array_equal(a, b, equal_nan=True)
        for other in outputs[1:]
        for a, b in zip(outputs[0], other, strict=True)
    )
