"""Sums of values and of their squares as exact integers, so that the order of adding cannot matter.

A value x counts as q = round((x - center) / unit), limited to |q| <= 2**40, with a count of the limited
ones. q**2 then needs 80 bits and its sum over a day of traffic more than 100: int64 would overflow after 838
events at the limit, and numpy would wrap without a word. So sums are held in limbs of 32 bits::

    sum of q      = limb1 * 2**32 + limb0                       limb0 in [0, 2**32), limb1 signed
    sum of q**2   = limb2 * 2**64 + limb1 * 2**32 + limb0       limb0, limb1 in [0, 2**32)

which is a unique representation: equal sums are equal arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

LIMIT: Final = 1 << 40
"""Largest |q|: with a unit of range / 2**20 that is a million times the baseline's range."""
MAX_ROWS: Final = 1 << 20
"""Most rows of one batch: the partial sums of ``of`` stay below 2**63."""

_LIMB_BITS: Final = 32
_LIMB_MASK: Final = (1 << _LIMB_BITS) - 1
_HALF_BITS: Final = 20
_HALF_MASK: Final = (1 << _HALF_BITS) - 1
_SUM, _SQUARES, _CLAMPED = slice(0, 2), slice(2, 5), 5
WIDTH: Final = 6
"""Limbs a column."""
_EXACT: Final = float(1 << 53)
"""Below that, float64 holds every integer."""


def _carry(limbs: NDArray[np.int64]) -> None:
    """Bring all limbs but the last into [0, 2**32), in place. Shape (..., limbs), lowest first."""
    for i in range(limbs.shape[-1] - 1):
        limbs[..., i + 1] += limbs[..., i] >> _LIMB_BITS
        limbs[..., i] &= _LIMB_MASK


def limbs_of(quanta: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Limbs of the moments of consecutive groups of rows; group g begins at row ``starts[g]``.

    ``quanta`` are (x - center) / unit, 0 where there is no value. Shape (columns, rows); no group is empty, and there
    are at most ``MAX_ROWS`` rows. The result has shape (columns, groups, ``WIDTH``).
    """
    if quanta.shape[1] > MAX_ROWS:
        raise ValueError(f"{quanta.shape[1]} rows in one batch, at most {MAX_ROWS} keep the partial sums exact")
    q = np.rint(quanta)
    with np.errstate(over="ignore", invalid="ignore"):  # then a sum is not below the bound
        total = np.add.reduceat(q, starts, axis=1)
        squares = np.add.reduceat(np.square(q, out=q), starts, axis=1)
    limbs = np.zeros((*total.shape, WIDTH), dtype=np.int64)
    # If the sum of squares is an exact integer, no partial sum of squares or of values was rounded either.
    exact = (squares < _EXACT).all(axis=1)
    whole, whole_squares = total[exact].astype(np.int64), squares[exact].astype(np.int64)
    limbs[exact, :, 0] = whole & _LIMB_MASK
    limbs[exact, :, 1] = whole >> _LIMB_BITS
    limbs[exact, :, 2] = whole_squares & _LIMB_MASK
    limbs[exact, :, 3] = whole_squares >> _LIMB_BITS
    if not exact.all():
        limbs[~exact] = _wide_limbs_of(quanta[~exact], starts)
    return limbs


def _wide_limbs_of(quanta: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same for any values: with integers in place of floats."""
    limited = np.abs(quanta) > LIMIT
    q = np.rint(np.clip(quanta, -LIMIT, LIMIT)).astype(np.int64)
    magnitude = np.abs(q)
    high, low = magnitude >> _HALF_BITS, magnitude & _HALF_MASK
    total, hh, hl, ll, clamped = (
        np.add.reduceat(part, starts, axis=1)
        for part in (q, high * high, high * low, low * low, limited.astype(np.int64))
    )
    limbs = np.empty((*total.shape, WIDTH), dtype=np.int64)
    limbs[..., 0] = total & _LIMB_MASK
    limbs[..., 1] = total >> _LIMB_BITS
    # q² = hh·2⁴⁰ + hl·2²¹ + ll; each product is cut where a limb ends, so that no shift overflows.
    limbs[..., 2] = (ll & _LIMB_MASK) + ((hl & 0x7FF) << 21)
    limbs[..., 3] = (ll >> _LIMB_BITS) + (hl >> 11) + ((hh & 0xFFFFFF) << 8)
    limbs[..., 4] = hh >> 24
    _carry(limbs[..., _SQUARES])
    limbs[..., _CLAMPED] = clamped
    return limbs


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Σq, Σq² and the number of limited values of each column. Categorical columns stay 0."""

    limbs: NDArray[np.int64]
    """Shape (columns, 6): two limbs of Σq, three of Σq², the count of limited values."""

    @classmethod
    def empty(cls, columns: int) -> Moments:
        return cls(np.zeros((columns, WIDTH), dtype=np.int64))

    @classmethod
    def of(cls, quanta: NDArray[np.float64], starts: NDArray[np.int64]) -> list[Moments]:
        """Moments of consecutive groups of rows: see ``limbs_of``."""
        return [cls(limbs) for limbs in limbs_of(quanta, starts).swapaxes(0, 1)]

    def __add__(self, other: Moments) -> Moments:
        limbs = self.limbs + other.limbs
        _carry(limbs[:, _SUM])
        _carry(limbs[:, _SQUARES])
        return Moments(limbs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Moments) and np.array_equal(self.limbs, other.limbs)

    __hash__ = None  # type: ignore[assignment]  # holds an array: equal moments could not hash alike cheaply

    def sum(self, column: int) -> int:
        """Σq of a column, exact."""
        low, high = (int(limb) for limb in self.limbs[column, _SUM])
        return (high << _LIMB_BITS) + low

    def squares(self, column: int) -> int:
        """Σq² of a column, exact."""
        low, middle, high = (int(limb) for limb in self.limbs[column, _SQUARES])
        return (((high << _LIMB_BITS) + middle) << _LIMB_BITS) + low

    def clamped(self, column: int) -> int:
        """How many values of a column were limited."""
        return int(self.limbs[column, _CLAMPED])

    def limited_side(self, column: int, n: int) -> int:
        """Where those of ``n`` values that were limited lie: 1 if all are too high, -1 if all are too low, else 0.

        So the mean is at most, at least, or just not the true one. 0 also where the sums leave it open.
        """
        limited, total = self.clamped(column), self.sum(column)
        # By Cauchy and Schwarz, the sum of the others is at most the root of their number times their squares' sum.
        others = math.isqrt((n - limited) * (self.squares(column) - limited * LIMIT**2)) + 1
        one_turned = (limited - 2) * LIMIT + others  # the largest sum with one of them on the other side
        if not limited or abs(total) <= one_turned:
            return 0
        return 1 if total > 0 else -1

    def possible(self, column: int, n: int) -> bool:
        """Whether some ``n`` values have these moments: limbs as they are written here, no negative variance."""
        low = self.limbs[column, [0, 2, 3]]
        if low.min() < 0 or low.max() > _LIMB_MASK or not 0 <= self.clamped(column) <= n:
            return False
        return n * self.squares(column) >= self.sum(column) ** 2

    def mean(self, column: int, n: int) -> float:
        """Mean of q over ``n`` values, in units."""
        return self.sum(column) / n

    def variance(self, column: int, n: int) -> float:
        """Population variance of q over ``n`` values, in units squared; from exact integers, so never negative."""
        total = self.sum(column)
        return (n * self.squares(column) - total * total) / (n * n)
