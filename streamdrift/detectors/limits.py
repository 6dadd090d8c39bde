"""Limits: how far the statistics of ``shape`` may go by chance, and how near to that they are.

A statistic's evidence is its ratio to its threshold: 1 is an alarm. Sums of squares are compared by their roots, so
that all ratios are in standard deviations. Where there are too few events to trust an approximation the ratio is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.detectors.contrasts import CONTRASTS
from streamdrift.detectors.nulls import Null
from streamdrift.detectors.thresholds import WeightedChiSquare, cornish_fisher, normal_quantile
from streamdrift.sensitivity import Sensitivity

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
"""Precise enough for a ratio, and twice as fast."""
Ratios = tuple[Singles, NDArray[np.bool_]]
"""Evidence of each row, and whether it is also beyond what a warning takes. Shapes (…, rows)."""
Indices = Sequence[int] | NDArray[np.int64]

ON_SPANS: Final = CONTRASTS + 1
"""Statistics that are looked at on each span: the contrasts, and all of them together."""
OF_CHI_SQUARE: Final = 0.25
"""The part of the budget of a row with contrasts that X has, on all memories: what it sees, nothing else does."""
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
_HARDLY_ANY: Final = np.float32(1e-9)
TOGETHER_INFLATION: Final = 30.0
"""The sum of squares of n independent events has a heavier tail than χ²: by 1 + 30/n, measured."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What looks may spend: the event time since the looks before, and of how many places each has its part."""

    elapsed_us: Floats
    """Shape (…)."""
    places: int


@dataclass(frozen=True, slots=True)
class ContrastNoise:
    """What φ makes of the contrasts of n events, whatever n is: contrast k varies by φ_k·(1/n + 1/n₀)."""

    spread: Singles
    leaning: Singles
    needed: Singles
    """√φ, skewness · √φ, and the events from which it is looked at: infinitely many where there is no such contrast.

    Shapes (…, 4, rows).
    """
    together: WeightedChiSquare
    together_needed: Singles
    together_inflation: Singles
    """Of all four: events from which they are looked at, and by how much each event's share widens their tail.

    Shapes (…, rows).
    """

    def at(self, memories: Indices) -> ContrastNoise:
        """At some of the memories."""
        places = np.asarray(memories)
        return ContrastNoise(
            self.spread.take(places, axis=0),
            self.leaning.take(places, axis=0),
            self.needed.take(places, axis=0),
            self.together.at(places),
            self.together_needed.take(places, axis=0),
            self.together_inflation.take(places, axis=0),
        )


@dataclass(frozen=True, slots=True)
class ChiSquareNoise:
    """What φ makes of X of n events, whatever n is, and the events from which it is looked at. Shapes (…, rows)."""

    law: WeightedChiSquare
    needed: Singles

    def at(self, memories: Indices) -> ChiSquareNoise:
        """At some of the memories."""
        places = np.asarray(memories)
        return ChiSquareNoise(self.law.at(places), self.needed.take(places, axis=0))


class Limits:
    """Thresholds of all rows against one ``Null``. Each row has its share of the budget, which its statistics share."""

    def __init__(self, null: Null, sensitivity: Sensitivity, shares: Floats) -> None:
        self.null = null
        self.floor = float(np.sqrt(np.expm1(sensitivity.minimum_effect)))
        """The smallest effect that matters, as the root of χ²: of PSI that is √(e^PSI - 1)."""
        self._squared_floor = np.float32(self.floor**2)
        self._budget, self._of_warnings = sensitivity.false_alarms, sensitivity.warnings
        self._unsure = (1 / np.maximum(null.events, 1e-9)).astype(np.float32)
        """Variance of a contrast of one event for what the finite baseline does not know. Shape (rows,)."""
        # Quantiles cost, and most rows have the same: those of one share that have contrasts, or have none.
        kinds, self._kind = np.unique(
            np.column_stack((shares, null.contrasted.any(axis=0))), axis=0, return_inverse=True
        )
        self._share = np.asarray(kinds[:, 0], dtype=np.float64)
        contrasted = np.asarray(kinds[:, 1], dtype=np.bool_)
        self._of_contrasts = np.where(contrasted, (1 - OF_CHI_SQUARE) / ON_SPANS, 0.0)
        self._of_chi_square = np.where(contrasted, OF_CHI_SQUARE, 1.0)

    def of_contrasts(self, contrast: Singles, events: Singles, noise: ContrastNoise, spent: Spent) -> Ratios:
        """Evidence in contrasts (…, 4, rows) of ``events`` (…, rows), one by one and together."""
        size, events = np.abs(contrast), np.maximum(events, _HARDLY_ANY)
        variance = 1 / events + self._unsure
        looks, looks_together = events[..., None, :] >= noise.needed, events >= noise.together_needed
        # It leans upwards by so much, and a contrast that went down by as much the other way.
        leaning = np.copysign(noise.leaning, noise.leaning * contrast) / np.sqrt(events)[..., None, :]
        spread = noise.spread * np.sqrt(variance)[..., None, :]
        together = (size * size).sum(axis=-2) / (1 + noise.together_inflation / events)

        def ratio(alpha: Floats) -> Singles:
            z = self._z(alpha / 2)[..., None, :]
            each = size / (self.floor + spread * cornish_fisher(z, leaning)) * looks
            limit = noise.together.quantile(variance, self._squared_floor, self._z(alpha))
            return np.asarray(np.maximum(each.max(axis=-2), np.sqrt(together / limit) * looks_together), np.float32)

        return self._at_budgets(ratio, spent, self._of_contrasts)

    def of_chi_square(self, chi_square: Singles, events: Singles, noise: ChiSquareNoise, spent: Spent) -> Ratios:
        """Evidence in X of ``events``, both of shape (…, rows)."""
        events = np.maximum(events, _HARDLY_ANY)
        variance, looks = 1 / events + self._unsure, events >= noise.needed

        def ratio(alpha: Floats) -> Singles:
            limit = noise.law.quantile(variance, self._squared_floor, self._z(alpha))
            return np.asarray(np.sqrt(chi_square / limit) * looks, np.float32)

        return self._at_budgets(ratio, spent, self._of_chi_square)

    def _z(self, alpha: Floats) -> Singles:
        """Quantiles of all rows, at the probabilities of their kinds. Shapes (…, kinds) to (…, rows)."""
        return normal_quantile(alpha).astype(np.float32)[..., self._kind]

    def noise(self, factors: Floats) -> tuple[ContrastNoise, ChiSquareNoise]:
        """What follows from φ alone. ``factors``: shape (…, 5, rows)."""
        null, there = self.null, self.null.contrasted
        factors, of_rest = factors[..., :CONTRASTS, :], factors[..., CONTRASTS, :]
        sums: list[Floats] = [np.where(there, factors**power, 0.0).sum(axis=-2) for power in (1, 2, 3)]
        largest = np.where(there, factors, 0.0).max(axis=-2, initial=0.0)
        spread = np.sqrt(factors)
        enough = np.where(np.abs(null.skewness) < SKEWED, ENOUGH, ENOUGH_SKEWED) * factors
        contrasts = ContrastNoise(
            spread.astype(np.float32),
            (null.skewness * spread).astype(np.float32),
            np.where(there, enough, np.inf).astype(np.float32),
            WeightedChiSquare.of(*sums),
            np.where(largest > 0, ENOUGH_SKEWED * largest, np.inf).astype(np.float32),
            (TOGETHER_INFLATION * largest).astype(np.float32),
        )
        # What is left of X when the contrasts are taken out varies as its other directions do.
        others = null.freedom - there.sum(axis=0)
        rest = np.maximum(null.freedom * of_rest - sums[0], 0.0) / np.maximum(others, 1.0)
        sums_of_all = [each + others * rest**power for power, each in enumerate(sums, 1)]
        needed = np.maximum(ENOUGH_PER_BIN * (null.freedom + 1), ENOUGH_IN_SMALLEST / null.smallest) * of_rest
        chi_square = ChiSquareNoise(
            WeightedChiSquare.of(*sums_of_all), np.where(null.freedom > 0, needed, np.inf).astype(np.float32)
        )
        return contrasts, chi_square

    def _at_budgets(self, ratio: Callable[[Floats], Singles], spent: Spent, part: Floats) -> Ratios:
        """What ``ratio`` makes of the probabilities of each kind of rows, of whose budgets looks have a ``part``."""
        times = spent.elapsed_us[..., None] * (self._share * part / spent.places)

        def at(budget: float) -> Singles:
            return ratio(np.clip(budget * times, 1e-290, MOST_LIKELY))

        found = at(self._budget)
        is_confirmed = found >= 1
        # A warning takes more evidence than an alarm, so that mostly there is nothing to look for.
        if self._of_warnings != self._budget and is_confirmed.any():
            is_confirmed = at(self._of_warnings) >= 1
        return found, is_confirmed
