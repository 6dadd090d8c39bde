"""Reach: the smallest change that a detector would see in some time, given what it knows of its stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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


def root(ratio: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    """Where an ascending ``ratio`` is 1, between ``low`` and ``high``, by bisection; infinite where it is less."""
    found = np.where(ratio(high) >= 1, high, np.inf)
    for _ in range(50):
        middle = (low + high) / 2
        reached = ratio(middle) >= 1
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.where(np.isfinite(found), high, np.inf)
