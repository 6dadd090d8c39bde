"""Sums of losses and of their squares, exact, so that their means and standard errors do not depend on the order.

Each loss is counted as q = round(loss * 2**30); what rounding adds to a mean is below 5e-10. Beyond 1,024 in absolute
value it is limited, with a count. Totals are Python's integers, which have no end to run over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.outcome_grids import UNIT_BITS
from streamdrift.summaries.moments import Moments

_UNIT: Final = 1 << UNIT_BITS
_COUNT, _SUM, _SQUARES, _CLAMPED = range(4)
_WIDTH: Final = 4


@dataclass(frozen=True, slots=True)
class Losses:
    """Count, sum, sum of squares and number of limited values of each of the ``names``."""

    names: tuple[str, ...]
    totals: tuple[int, ...]
    """Four a name, in the order above."""

    @classmethod
    def empty(cls, names: tuple[str, ...]) -> Losses:
        return cls(names, (0,) * (_WIDTH * len(names)))

    @classmethod
    def of_groups(cls, names: tuple[str, ...], values: NDArray[np.float64], starts: NDArray[np.int64]) -> list[Losses]:
        """Losses of consecutive groups of rows; group g begins at row ``starts[g]``, none is empty.

        ``values`` has shape (names, rows); NaN where a row has no such loss.
        """
        with np.errstate(over="ignore"):  # what overflows here is limited and counted as such
            moments = Moments.of(np.where(np.isnan(values), 0.0, values * _UNIT), starts)
        counts = np.add.reduceat((~np.isnan(values)).astype(np.int64), starts, axis=1).T.tolist()
        return [
            cls(
                names, tuple(total for i in range(len(names)) for total in (n[i], m.sum(i), m.squares(i), m.clamped(i)))
            )
            for n, m in zip(counts, moments, strict=True)
        ]

    def __add__(self, other: Losses) -> Losses:
        return Losses(self.names, tuple(a + b for a, b in zip(self.totals, other.totals, strict=True)))

    def __neg__(self) -> Losses:
        return Losses(self.names, tuple(-total for total in self.totals))

    def __sub__(self, other: Losses) -> Losses:
        return self + -other

    def _total(self, name: str, part: int) -> int:
        return self.totals[_WIDTH * self.names.index(name) + part]

    @property
    def possible(self) -> bool:
        """Whether some rows have these losses: no count is below 0, and no variance."""
        return all(
            self.count(name) >= 0 and self.count(name) * self._total(name, _SQUARES) >= self._total(name, _SUM) ** 2
            for name in self.names
        )

    def count(self, name: str) -> int:
        """How many rows have this loss."""
        return self._total(name, _COUNT)

    def clamped(self, name: str) -> int:
        """How many of them were limited."""
        return self._total(name, _CLAMPED)

    def mean(self, name: str) -> float:
        """Raises ``ZeroDivisionError`` without a value."""
        return self._total(name, _SUM) / (self.count(name) * _UNIT)

    def mean_square(self, name: str) -> float:
        """Mean of the squares. Raises ``ZeroDivisionError`` without a value."""
        return self._total(name, _SQUARES) / (self.count(name) * _UNIT * _UNIT)

    def variance(self, name: str) -> float:
        """Population variance; from exact integers, so never negative. Raises ``ZeroDivisionError`` without a value."""
        n, total = self.count(name), self._total(name, _SUM)
        return (n * self._total(name, _SQUARES) - total * total) / (n * n * _UNIT * _UNIT)

    def standard_error(self, name: str) -> float:
        """Standard error of the mean: sd / √n, the sd with n − 1 where there are two values or more."""
        n = self.count(name)
        return math.sqrt(self.variance(name) / max(1, n - 1))
