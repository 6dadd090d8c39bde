"""Sensitivity: how many false alarms a model may give, and which changes do not matter.

The two things that an operator sets, as plain values; everything else follows from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

DAY_US: Final = 86_400_000_000
MONTH_US: Final = 30 * DAY_US


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How much traffic makes a learned baseline, and how much of it calibrates detectors."""

    events: int = 20_000
    at_most_us: int = 7 * DAY_US
    """Longest time to count, in event time from the model's first tick on."""
    at_least: int = 200
    """Fewest events, however long it takes."""

    def is_over(self, events: int, elapsed_us: int) -> bool:
        return events >= self.events or (events >= self.at_least and elapsed_us >= self.at_most_us)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """By how much a rate may exceed the baseline's before it matters: shares of events, absolute."""

    missing: float = 0.005
    unseen: float = 0.002
    type_error: float = 0.005
    out_of_range: float = 0.005
    """Of numbers where the baseline has hardly any."""
    error: float = 0.01


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What may alarm of one model, and how readily."""

    false_alarms: float = 1 / MONTH_US
    """Expected false incidents a microsecond of event time while nothing has changed, over all that it is given to."""
    warnings: float = 1 / MONTH_US
    """Likewise, of those that may be warnings: the model's share of the fleet's budget. Not more than the former."""
    minimum_effect: float = 0.02
    """PSI below which drift never alarms."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Importance of features by name, 1 where it is not given: their parts of the budget."""
    tolerance: Tolerance = field(default_factory=Tolerance)
    shortest_us: int = 1_000_000
    longest_us: int = 7 * DAY_US
    """The shortest and the longest time over which live traffic is compared with the baseline."""
    warm_up: WarmUp = field(default_factory=WarmUp)
    """How much live traffic calibrates."""

    def part(self, share: float) -> Sensitivity:
        """The same with this share of the budgets."""
        return replace(self, false_alarms=self.false_alarms * share, warnings=self.warnings * share)

    def shares(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Which part of the budget each of these columns has; all together 1. Shape (columns,)."""
        weights = np.array([self.weights.get(name, 1.0) for name in names], dtype=np.float64)
        return weights / max(float(weights.sum()), np.finfo(np.float64).tiny)
