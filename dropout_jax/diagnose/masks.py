"""The masks of a layer of dropout, as they were seen: equal or not, shared or not, how much."""

from collections.abc import Sequence

import numpy as np

from dropout_jax.diagnose.probe import Pass
from dropout_jax.diagnose.watch import Site

ROUNDING = 2e-2
"""Of a scale in low precision: bfloat16 has 8 bits."""


def by_site(passes: Sequence[Pass]) -> list[tuple[Site, ...]]:
    """The calls of each place, in every step where there are as many."""
    if not passes:
        return []
    names = [[site.name for site in p.sites] for p in passes]
    return (
        list(zip(*(p.sites for p in passes), strict=True))
        if names == names[:1] * len(names)
        else [(site,) for site in passes[0].sites]
    )


def mask_of(site: Site) -> np.ndarray | None:
    """The factors if they are 0 or one other value; None for noise of another law."""
    known = site.noise[np.isfinite(site.noise)]
    kept = known[known != 0]
    if kept.size and np.ptp(kept) > ROUNDING * np.abs(kept).max():
        return None
    return site.noise


def active(site: Site) -> bool:
    return not np.array_equal(site.inputs, site.outputs)


def share_dropped(site: Site) -> float:
    known = site.noise[np.isfinite(site.noise)]
    return float((known == 0).mean()) if known.size else 0.0


def independent(site: Site, count: int) -> int:
    """How many of so many values are drawn for themselves."""
    for axis in site.shared:
        count //= max(site.noise.shape[axis], 1)
    return max(count, 1)


def drawn(site: Site, mask: np.ndarray) -> np.ndarray:
    """One value for each draw: what an axis shares is looked at once."""
    for axis in range(mask.ndim):
        first = np.take(mask, [0], axis)
        along = np.broadcast_to(first, mask.shape)
        both = np.isfinite(mask) & np.isfinite(along)
        repeats = mask.shape[axis] > 1 and np.array_equal(mask[both], along[both])
        if axis in site.shared or repeats:
            # The values that are known, of all that share the draw.
            with np.errstate(all="ignore"):
                mask = np.where(
                    np.isfinite(mask).any(axis, keepdims=True),
                    np.nanmax(np.where(np.isfinite(mask), mask, -np.inf), axis, keepdims=True),
                    np.nan,
                )
    return mask


def equal(*masks: np.ndarray) -> bool:
    """Equal wherever both are known."""
    for mask in masks[1:]:
        both = np.isfinite(mask) & np.isfinite(masks[0])
        if not np.array_equal(mask[both], masks[0][both]):
            return False
    return True
