"""Limits: how far the statistics of ``shape`` may go by chance, and how near to that they are.

A statistic's evidence is its ratio to its threshold: 1 is an alarm. Sums of squares are compared by their roots, so
that all ratios are in standard deviations. Where there are too few events to trust an approximation the ratio is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.detectors.contrasts import CONTRASTS
from streamdrift.detectors.nulls import Null
from streamdrift.detectors.thresholds import cornish_fisher, normal_quantile, weighted_chi_square_quantile
from streamdrift.sensitivity import Sensitivity

Floats = NDArray[np.float64]
Ratios = tuple[Floats, NDArray[np.bool_]]
"""Evidence of each row, and whether it is also beyond what a warning takes. Shapes (…, rows)."""
Powers = tuple[Floats, Floats, Floats]
"""Sums of values, of their squares and of their cubes."""

ON_SPANS: Final = CONTRASTS + 1
"""Statistics that are looked at on each span: the contrasts, and all of them together."""
ENOUGH: Final = 60.0
"""Independent events for a contrast that hardly leans to a side."""
ENOUGH_SKEWED: Final = 500.0
"""Independent events for one that does, and for the sum of all."""
SKEWED: Final = 0.5
ENOUGH_PER_BIN: Final = 10.0
ENOUGH_IN_SMALLEST: Final = 5.0
"""Independent events for X: on average, and in the smallest bin."""
MOST_LIKELY: Final = 0.1
"""Largest probability with which a look may alarm by chance, however much time has passed."""
TOGETHER_INFLATION: Final = 30.0
"""The sum of squares of n independent events has a heavier tail than χ²: by 1 + 30/n, measured."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What looks may spend: the event time since the looks before, and how many places share a row's budget."""

    elapsed_us: Floats
    """Shape (…)."""
    spans: int
    memories: int


class Limits:
    """Thresholds of all rows against one ``Null``. Each row has its share of the budget, which its statistics share."""

    def __init__(self, null: Null, sensitivity: Sensitivity, shares: Floats) -> None:
        self.null = null
        self.floor = float(np.sqrt(np.expm1(sensitivity.minimum_effect)))
        """The smallest effect that matters, as the root of χ²: of PSI that is √(e^PSI - 1)."""
        self._budgets = tuple(dict.fromkeys((sensitivity.false_alarms, sensitivity.warnings)))
        # Quantiles cost, and most rows have the same: those of one share that have contrasts, or have none.
        kinds, self._kind = np.unique(
            np.column_stack((shares, null.contrasted.any(axis=0))), axis=0, return_inverse=True
        )
        self._share, self._contrasted = kinds[:, 0], kinds[:, 1].astype(np.bool_)
        self._enough = np.where(np.abs(null.skewness) < SKEWED, ENOUGH, ENOUGH_SKEWED)
        self._others = null.freedom - null.contrasted.sum(axis=0)

    def of_contrasts(self, contrast: Floats, events: Floats, factors: Floats, spent: Spent) -> Ratios:
        """Evidence in contrasts (…, 4, rows) of ``events`` (…, rows), one by one and together.

        ``factors``: φ, shape (…, 5, rows).
        """
        null, there = self.null, self.null.contrasted
        factors = factors[..., :CONTRASTS, :]
        independent = np.maximum(events, 1e-9)[..., None, :] / factors
        variance = self._variance(independent, factors)
        looks = there & (independent >= self._enough)
        leaning = np.where(contrast > 0, null.skewness, -null.skewness) / np.sqrt(independent)

        sums = _powers(variance, there)
        least = np.where(there, independent, np.inf).min(axis=-2, initial=np.inf)
        looks_together = (least >= ENOUGH_SKEWED) & np.isfinite(least)
        together = _sum(contrast**2, there)

        def ratio(alpha: Floats) -> Floats:
            z = normal_quantile(alpha / 2)[..., None, self._kind]
            each = np.abs(contrast) / (self.floor + np.sqrt(variance) * cornish_fisher(z, leaning))
            limit = self._quantile(sums, normal_quantile(alpha)[..., self._kind]) * (1 + TOGETHER_INFLATION / least)
            all_four = np.where(looks_together, np.sqrt(together / limit), 0.0)
            return np.asarray(np.maximum(np.where(looks, each, 0.0).max(axis=-2), all_four), dtype=np.float64)

        return self._at_budgets(ratio, spent)

    def of_chi_square(self, chi_square: Floats, events: Floats, factors: Floats, spent: Spent) -> Ratios:
        """Evidence in X of ``events``, both of shape (…, rows)."""
        null, there = self.null, self.null.contrasted
        independent = np.maximum(events, 1e-9)[..., None, :] / factors
        variance = self._variance(independent, factors)
        of_contrasts, of_all = variance[..., :CONTRASTS, :], variance[..., CONTRASTS, :]
        # What is left of X when the contrasts are taken out varies as its other directions do.
        others = self._others
        total, squares, cubes = _powers(of_contrasts, there)
        rest = np.maximum(null.freedom * of_all - total, 0.0) / np.maximum(others, 1.0)
        sums = total + others * rest, squares + others * rest**2, cubes + others * rest**3
        enough = np.maximum(ENOUGH_PER_BIN * (null.freedom + 1), ENOUGH_IN_SMALLEST / null.smallest)
        looks = (independent[..., CONTRASTS, :] >= enough) & (null.freedom > 0)

        def ratio(alpha: Floats) -> Floats:
            limit = self._quantile(sums, normal_quantile(alpha)[..., self._kind])
            return np.where(looks, np.sqrt(chi_square / limit), 0.0)

        return self._at_budgets(ratio, spent)

    def _variance(self, independent: Floats, factors: Floats) -> Floats:
        """Variance of statistics of so many independent events, the baseline's own uncertainty in it."""
        return np.asarray(1 / independent + factors / np.maximum(self.null.events, 1e-9), dtype=np.float64)

    def _quantile(self, sums: Powers, z: Floats) -> Floats:
        # Where there is nothing to sum, any quantile will do.
        total, squares, cubes = (np.where(sums[0] > 0, each, 1.0) for each in sums)
        return weighted_chi_square_quantile((total, squares, cubes), np.full_like(total, self.floor**2), z)

    def _at_budgets(self, ratio: Callable[[Floats], Floats], spent: Spent) -> Ratios:
        """What ``ratio`` makes of the probabilities of each kind of rows. Shape (…, kinds)."""
        statistics = np.where(self._contrasted, ON_SPANS * spent.spans + spent.memories, spent.memories)
        times = spent.elapsed_us[..., None] * (self._share / statistics)
        found = [ratio(np.clip(budget * times, 1e-290, MOST_LIKELY)) for budget in self._budgets]
        return found[0], found[-1] >= 1


def _powers(values: Floats, there: NDArray[np.bool_]) -> Powers:
    squares = values * values
    return _sum(values, there), _sum(squares, there), _sum(squares * values, there)


def _sum(values: Floats, there: NDArray[np.bool_]) -> Floats:
    return np.asarray(np.where(there, values, 0.0).sum(axis=-2), dtype=np.float64)
