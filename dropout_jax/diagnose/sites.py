"""What can be wrong with one place of dropout, or with two: by the masks of a few steps."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from dropout_jax.diagnose.findings import Finding, chance
from dropout_jax.diagnose.masks import (
    ROUNDING,
    active,
    by_site,
    drawn,
    equal,
    independent,
    mask_of,
    share_dropped,
)
from dropout_jax.diagnose.probe import Pass
from dropout_jax.diagnose.watch import WHOLE, Site

ALPHA = 1e-6
"""The chance, at each place, that a sound one is accused of what is found by statistics."""


def site_findings(passes: Sequence[Pass], evaluated: Sequence[Pass]) -> Iterator[Finding]:
    """The findings at every place; `passes` are steps of training on the same inputs."""
    outputs = passes[0].outputs
    for calls in by_site(passes):
        yield from _of_one(calls, outputs)
    for calls in by_site(evaluated):
        if active(calls[0]):
            dropped = share_dropped(calls[0])
            yield Finding(
                "evaluation",
                calls[0].name,
                f"in evaluation its outputs differ from its inputs, and {dropped:.0%} of them are "
                "0; without dropout no value changes (a sound layer never shows it)",
                "model.eval() before predicting for NNX, and deterministic=True for Linen; a layer "
                "of your own returns x when it is deterministic",
            )
    yield from _of_pairs(passes)


def _of_one(calls: Sequence[Site], outputs) -> Iterator[Finding]:
    first = calls[0]
    rate = first.rate
    if rate == 0:
        return
    if not any(map(active, calls)):
        known = int(np.isfinite(first.noise).sum()) * len(calls)
        by_chance = 1.0 if rate is None else float((1 - rate) ** independent(first, known))
        if by_chance < ALPHA:
            yield Finding(
                "training",
                first.name,
                f"{len(calls)} steps of training left its inputs as they are, at a rate of "
                f"{rate:g} (by chance {chance(by_chance)})",
                "model.train() before training; for a model whose call takes training=False, call "
                "model(x, training=True); for Linen, deterministic=False and "
                'rngs={"dropout": key}',
            )
        return
    masks = [mask for site in calls if (mask := mask_of(site)) is not None]
    if len(masks) < len(calls):  # noise of another law than Bernoulli
        if equal(*(site.outputs for site in calls)):
            yield _constant(first, "its outputs are equal", 0.0)
        return
    share = float(np.nanmean([share_dropped(site) for site in calls]))
    same = share**2 + (1 - share) ** 2  # that two draws agree
    count = int(np.isfinite(first.noise).sum())
    constant = equal(*masks) and len(calls) > 1
    by_chance = same ** (independent(first, count) * (len(calls) - 1))
    if constant and by_chance < ALPHA:
        yield _constant(first, f"the {count} masked values are the same", by_chance)
    rows = [mask.reshape(len(mask), -1) for mask in masks]
    per_row = rows[0].shape[1] * (len(rows[0]) - 1)
    shared = all(equal(*row) for row in rows)
    if shared and 0 not in first.shared and same**per_row < ALPHA:
        yield Finding(
            "batch",
            first.name,
            f"all {len(rows[0])} rows of the batch have the same {rows[0].shape[1]} masked values "
            f"(by chance {chance(same**per_row)})",
            "draw the mask in the shape of the inputs, as dj.dropout(key, x, rate) does; where "
            "sharing is meant, say so with broadcast_dims=(0,)",
        )
    if rate is not None:
        yield from _of_rate(calls, masks, rate, constant)
    if first.gradient is not None:
        yield from _of_gradient(first)
    if rate and _is_last(first, outputs):
        yield Finding(
            "outputs",
            first.name,
            "what it gives is what the model gives, value by value: predictions of 0 are trained "
            "on (a sound model never shows it)",
            "leave the layer after the last linear layer out: dropout stands before it",
        )


def _constant(site: Site, what: str, by_chance: float) -> Finding:
    return Finding(
        "constant",
        site.name,
        f"in different steps {what} (by chance {chance(by_chance)})",
        "a new key for every step: NNX layers draw from nnx.Rngs(0) that they are given; write "
        "jax.random.fold_in(key, step), and pass the key as an argument of the compiled function",
    )


def _of_rate(calls, masks, rate, constant) -> Iterator[Finding]:
    # One draw for what is shared on purpose or by mistake, and one step for a constant mask.
    draws = [drawn(site, mask) for site, mask in zip(calls, masks, strict=True)]
    dropped = np.concatenate([d[np.isfinite(d)] == 0 for d in draws[: 1 if constant else None]])
    n, count = dropped.size, int(dropped.sum())
    low = float(stats.binom.cdf(count, n, rate))
    high = float(stats.binom.sf(count - 1, n, rate))
    if min(low, high) < ALPHA / 2:
        yield Finding(
            "rate",
            calls[0].name,
            f"{count} of {n} values were dropped, {count / n:.1%}, at a rate of {rate:.1%} (by "
            f"chance {chance(2 * min(low, high))})",
            f"rate={rate:g} is the probability of dropping; to keep a share of {rate:g} write "
            f"{1 - rate:g}",
        )
    kept = np.concatenate([m[np.isfinite(m) & (m != 0)] for m in masks])
    if kept.size and rate < 1:
        scale = float(np.median(kept))
        if abs(scale * (1 - rate) - 1) > ROUNDING and not min(low, high) < ALPHA / 2:
            yield Finding(
                "scale",
                calls[0].name,
                f"what is kept is multiplied by {scale:.4g}, and 1 / (1 - {rate:g}) is "
                f"{1 / (1 - rate):.4g}: the mean becomes {scale * (1 - rate):.3g} times what "
                "evaluation has (no chance is in it)",
                "jnp.where(mask, x / (1 - rate), 0), or dj.dropout(key, x, rate)",
            )


def _of_gradient(site: Site) -> Iterator[Finding]:
    known = np.isfinite(site.noise)
    off = known & (np.abs(site.gradient - np.nan_to_num(site.noise)) > ROUNDING)
    if off.any():
        yield Finding(
            "gradient",
            site.name,
            f"the derivative of {int(off.sum())} of {int(known.sum())} values is not the factor "
            "that they were multiplied by (no chance is in it)",
            "draw the mask once and use it in both passes, or the same key in both, as "
            'dj.dropout(key, x, rate, residual="key") does',
        )


def _of_pairs(passes: Sequence[Pass]) -> Iterator[Finding]:
    places = [c for c in by_site(passes) if c[0].rate != 0 and active(c[0])]
    for one, other in itertools.combinations(places, 2):
        pairs = []
        for a, b in zip(one, other, strict=True):
            masks = [mask for site in (a, b) if (mask := mask_of(site)) is not None]
            if a.noise.shape != b.noise.shape or len(masks) < 2:
                break
            known = np.isfinite(masks[0]) & np.isfinite(masks[1])
            pairs.append([(m[known] == 0) for m in masks])
        else:
            left, right = np.concatenate(pairs, axis=1)
            p, q = left.mean(), right.mean()
            n = left.size
            if n and 0 < p < 1 and 0 < q < 1:
                # Of equal keys a smaller rate drops a part of what a greater one drops.
                together = int((left & right).sum())
                by_chance = float(stats.binom.sf(together - 1, n, p * q))
                if by_chance < ALPHA:
                    yield Finding(
                        "sites",
                        f"{one[0].name} and {other[0].name}",
                        f"both drop {together} of {n} values, where masks of their own have "
                        f"{n * p * q:.0f} in common (by chance {chance(by_chance)})",
                        'a key for each place: dj.site_key(key, "hidden1"), or layers that are '
                        "each made with rngs=rngs",
                    )


def _is_last(site: Site, outputs) -> bool:
    return (
        len(outputs) == 1
        and site.name != WHOLE
        and np.array_equal(site.outputs, outputs[0])
        and not np.array_equal(site.inputs, site.outputs)
        and site.inputs.ndim == 2
    )
