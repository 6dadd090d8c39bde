"""Reach: the smallest change that a detector would see in some time, given what it knows of its stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.detectors.contrasts import CONTRASTS
from streamdrift.detectors.limits import Limits, Spent
from streamdrift.detectors.memories import BETWEEN_LOOKS
from streamdrift.detectors.overdispersion import UNMEASURED
from streamdrift.detectors.spans import LOOKS
from streamdrift.sensitivity import Sensitivity

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

LARGEST: Final = 30.0
"""Largest change that is thought of, as the root of χ²."""


@dataclass(frozen=True, slots=True)
class ShapeReach:
    """What ``shape`` would see of one column."""

    floor_psi: float
    """PSI below which nothing alarms."""
    floor_sd: float
    """The same as a shift of the mean, in standard deviations."""
    smallest_psi: float
    """The smallest change that would be seen, as PSI."""
    smallest_sd: float | None
    """Likewise as a shift of the mean in standard deviations; None for categories."""
    events: int
    """In how many events it shows."""


@dataclass(frozen=True, slots=True)
class RateReach:
    """What ``rate`` would see of one channel of a column."""

    detector: str
    baseline: float
    """The rate in the baseline."""
    bound: float
    """The highest rate that never alarms."""
    smallest: float | None
    """The smallest rate that would be seen; None if none would be."""


def root(ratio: Callable[[Floats], Floats | Singles], low: Floats, high: Floats) -> Floats:
    """Where an ascending ``ratio`` is 1, between ``low`` and ``high``, by bisection; infinite where it is less."""
    found = np.where(ratio(high) >= 1, high, np.inf)
    for _ in range(50):
        middle = (low + high) / 2
        reached = ratio(middle) >= 1
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.where(np.isfinite(found), high, np.inf)


def shape_reach(
    limits: Limits,
    sensitivity: Sensitivity,
    lengths: tuple[Floats, Floats],
    factors: Floats,
    column: int,
    events_per_us: float,
    within_us: int,
) -> ShapeReach:
    """The smallest change of a column that ``shape`` would see within a time, at so many events a microsecond.

    ``lengths``: of its spans and of its memories, in events; ``factors``: φ, shape (memories, 5, rows).
    """
    spans, memories = lengths
    extents = np.concatenate((spans, 2 * memories))
    looks = np.repeat((LOOKS, 1 / BETWEEN_LOOKS), (len(spans), len(memories)))
    between_us = extents / looks / max(events_per_us, 1e-12)
    came = max(events_per_us * within_us, 1.0)
    filled = np.minimum(came / extents, 1.0)
    on_spans, on_memories = np.split(np.arange(len(extents)), [len(spans)])
    # Without any traffic to measure it on, events are taken to be independent.
    factors = np.where(factors == UNMEASURED, 1.0, factors)
    on_contrasts, on_chi_square = limits.noise(factors)
    rows, of_spans = factors.shape[-1], np.repeat(np.arange(len(memories)), len(spans) // len(memories))
    worth = np.repeat(extents.astype(np.float32)[:, None], rows, axis=1)

    def of_shift(sizes: Floats) -> Singles:
        contrast = np.zeros((len(spans), CONTRASTS, rows), np.float32)
        contrast[:, 0] = (sizes * filled[on_spans])[:, None]
        spent = Spent(between_us[on_spans], len(spans))
        return limits.of_contrasts(contrast, worth[on_spans], on_contrasts.at(of_spans), spent)[0][:, column]

    def of_any(sizes: Floats) -> Singles:
        size = np.repeat(((sizes * filled[on_memories]) ** 2)[:, None], rows, axis=1)
        chi_square = (size + limits.null.freedom / worth[on_memories]).astype(np.float32)
        spent = Spent(between_us[on_memories], len(memories))
        return limits.of_chi_square(chi_square, worth[on_memories], on_chi_square, spent)[0][:, column]

    shifts = root(of_shift, np.zeros(len(spans)), np.full(len(spans), LARGEST))
    others = root(of_any, np.zeros(len(memories)), np.full(len(memories), LARGEST))
    sizes = np.concatenate((shifts, others))
    best = int(sizes.argmin())
    floor = sensitivity.minimum_effect
    return ShapeReach(
        floor,
        float(np.sqrt(floor)),
        float(np.log1p(sizes[best] ** 2)),
        float(sizes[best]) if limits.null.contrasted[0, column] else None,
        int(min(extents[best], came)),
    )
