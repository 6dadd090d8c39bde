"""Probabilities against what happened: fine histograms for ROC curves, coarse ones with sums for calibration.

A *curve* is the probability of one class, and whether that class was the true one (a *hit*). Its histogram has the bins
of ``EDGES``, 1/1,024 wide in the middle and finer towards both ends, where the scores of rare classes crowd::

    0  2⁻²⁰  2⁻¹⁹        1/32      1/16                 1/2                  15/16     31/32      1
    |····|·32·|···  ··|·32·|··32···|······ 1/1,024 each ···|··· 1/1,024 ······|··32···|·32·|··  ··|

so a bin is never wider than 1/1,024, nor, from 2⁻²⁰ on, than 1/32 of its distance from the nearer end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.outcome_grids import UNIT_BITS
from streamdrift.summaries.tally import Tally

_OCTAVES: Final = 20
_MIDDLE, _PER_OCTAVE = 1024, 32
CALIBRATION_BINS: Final = 16
"""Equal bins of [0, 1]; their edges are edges of the histogram, so that counts need not be held twice."""

_UNIT: Final = 1 << UNIT_BITS
_TOTALS: Final = 1 + CALIBRATION_BINS
"""Of each curve: the sum of squared errors, and the sum of the probabilities of each calibration bin."""


def _edges() -> NDArray[np.float64]:
    octaves = (
        np.linspace(2.0 ** -(k + 1), 2.0**-k, max(_PER_OCTAVE, _MIDDLE >> (k + 1)), endpoint=False)
        for k in range(_OCTAVES - 1, 0, -1)
    )
    lower = np.concatenate(list(octaves))
    return np.concatenate((lower, [0.5], 1 - lower[::-1]))


EDGES: Final = _edges()
"""Inner edges of the histograms: bin i holds EDGES[i-1] <= p < EDGES[i]."""
BINS: Final = len(EDGES) + 1
CALIBRATION_BIN: Final = (np.concatenate(([0.0], EDGES)) * CALIBRATION_BINS).astype(np.int64)
"""The calibration bin that holds each bin of the histogram. Shape (BINS,)."""


@dataclass(frozen=True, slots=True)
class Curves:
    """All curves of one model version."""

    histograms: Tally
    """Key ((curve * 2) + hit) * BINS + bin."""
    totals: tuple[int, ...]
    """Exact sums in units of 2**-30, ``_TOTALS`` a curve."""

    @classmethod
    def empty(cls, curves: int) -> Curves:
        return cls(Tally.empty(), (0,) * (curves * _TOTALS))

    @classmethod
    def of_groups(
        cls, probabilities: NDArray[np.float64], hits: NDArray[np.bool_], groups: NDArray[np.int64], size: int
    ) -> list[Curves]:
        """Curves of ``size`` groups. Probabilities in [0, 1] and hits have shape (rows, curves), groups (rows,)."""
        curves = probabilities.shape[1]
        bins = np.searchsorted(EDGES, probabilities, side="right")
        number = np.arange(curves)
        keys = (2 * number + hits) * BINS + bins
        histograms = Tally.of_groups(keys.ravel(), np.repeat(groups, curves), size, 2 * curves * BINS)
        # Sums of integers below 2**53 are exact in float64, whatever the order: 2**30 units times 2**20 rows.
        q = np.rint(probabilities * _UNIT)
        squares = np.rint(np.square(probabilities - hits) * _UNIT)
        place = (groups[:, None] * curves + number) * _TOTALS
        totals = np.bincount(place.ravel(), squares.ravel(), size * curves * _TOTALS)
        totals += np.bincount((place + 1 + CALIBRATION_BIN[bins]).ravel(), q.ravel(), len(totals))
        rows = totals.astype(np.int64).reshape(size, curves * _TOTALS).tolist()
        return [cls(histogram, tuple(row)) for histogram, row in zip(histograms, rows, strict=True)]

    def __add__(self, other: Curves) -> Curves:
        totals = tuple(a + b for a, b in zip(self.totals, other.totals, strict=True))
        return Curves(self.histograms + other.histograms, totals)

    def __neg__(self) -> Curves:
        return Curves(-self.histograms, tuple(-total for total in self.totals))

    def __sub__(self, other: Curves) -> Curves:
        return self + -other

    def histogram(self, curve: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Misses and hits of a curve in each bin. Shapes (BINS,)."""
        start = 2 * curve * BINS
        misses, hits = self.histograms.dense(start, start + 2 * BINS).reshape(2, BINS)
        return misses, hits

    def calibration(self, curve: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """Rows, sum of their probabilities, and hits in each calibration bin. Shapes (CALIBRATION_BINS,)."""
        rows, found = np.zeros(CALIBRATION_BINS, dtype=np.int64), np.zeros(CALIBRATION_BINS, dtype=np.int64)
        misses, hits = self.histogram(curve)
        np.add.at(rows, CALIBRATION_BIN, misses + hits)
        np.add.at(found, CALIBRATION_BIN, hits)
        first = curve * _TOTALS + 1
        sums = np.array([total / _UNIT for total in self.totals[first : first + CALIBRATION_BINS]])
        return rows, sums, found

    def squared_error(self, curve: int) -> float:
        """Sum of (p − hit)² of a curve."""
        return self.totals[curve * _TOTALS] / _UNIT
