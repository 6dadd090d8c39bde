"""What a distribution is compared with: the baseline on the bins of the ``shape`` detector.

Few, full bins: B = n₀/50, between 8 and 40, none with less than 0.2 % of the baseline or 10 events of it. What was
hardly ever seen is a matter of rates.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.detectors.contrasts import CONTRASTS, contrasts
from streamdrift.grids import SPECIAL_SLOTS, Kind
from streamdrift.merging import merge_bins, merge_categories
from streamdrift.windows import Reference

FEWEST_BINS: Final = 8
MOST_BINS: Final = 40
PER_BIN: Final = 50
"""Baseline events for each bin, on average."""
SMALLEST_SHARE: Final = 0.002
FEWEST_IN_BIN: Final = 10.0
"""Baseline events below which a bin is joined: its share is a guess, and X would wait for its share of live events."""


class Binning:
    """From the slots of a window to bins: rows are the columns of the grid."""

    def __init__(self, reference: Reference) -> None:
        rows = len(reference.grid.columns)
        groups = [_groups(reference, i) for i in range(rows)]
        self.bins = max((int(each.max(initial=-1)) + 1 for each in groups), default=0)
        """Of the widest row."""
        trash = rows * self.bins
        place = np.full(reference.slots, trash, dtype=np.int64)
        for i, each in enumerate(groups):
            start = int(reference.offsets[i])
            place[start : start + len(each)] = i * self.bins + each
        self._place, self._shape = place, (rows, self.bins)
        self.ordered = np.array([column.kind is Kind.NUMERIC for column in reference.grid.columns], dtype=np.bool_)
        """Which rows have bins in an order. Shape (rows,)."""
        self.used = np.array([each.max(initial=-1) + 1 for each in groups], dtype=np.int64)
        """Bins of each row. Shape (rows,)."""

    def reduce(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Counts of a window on the bins. Shape (rows, bins)."""
        size = self._shape[0] * self._shape[1]
        found = np.bincount(self._place, counts, minlength=size + 1)[:size]
        return np.asarray(found, dtype=np.float64).reshape(self._shape)


def _groups(reference: Reference, column: int) -> NDArray[np.int64]:
    """The bin of each of a column's slots but the special ones; small bins are joined with a neighbour."""
    counts = reference.of_column(reference.window.counts, column)[:-SPECIAL_SLOTS]
    limit = int(np.clip(counts.sum() // PER_BIN, FEWEST_BINS, MOST_BINS))
    if reference.grid.columns[column].kind is Kind.NUMERIC:
        groups = merge_bins(counts, limit, margins=False)
        return _joined(groups, counts, np.arange(int(groups.max(initial=-1)) + 1))
    groups = merge_categories(counts, limit)
    mass = np.bincount(groups, counts) if len(groups) else np.zeros(0)
    return _joined(groups, counts, np.argsort(-mass, kind="stable"))


def _joined(groups: NDArray[np.int64], counts: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bins numbered anew in ``order``, those that are too small joined with what follows, or with the last one."""
    if not len(groups):
        return groups
    mass = np.bincount(groups, counts)
    least = max(SMALLEST_SHARE * mass.sum(), min(FEWEST_IN_BIN, mass.sum() / 2))
    number, filled = np.zeros(len(mass), dtype=np.int64), 0.0
    current = 0
    for group in order.tolist():
        if filled >= least > 0:
            current, filled = current + 1, 0.0
        number[group] = current
        filled += mass[group]
    if filled < least and current:
        number[number == current] = current - 1
    return number[groups]


class Null:
    """Baselines of all rows: shares, contrasts, and what tests need to know of them."""

    def __init__(self, counts: NDArray[np.float64], binning: Binning) -> None:
        rows, bins = counts.shape
        self._binning = binning
        self.shares = np.zeros((rows, bins), dtype=np.float32)
        self.inverse = np.zeros((rows, bins), dtype=np.float32)
        self.contrasts = np.zeros((rows, CONTRASTS, bins), dtype=np.float32)
        """p, 1/p where there is a bin, and h. Shapes (rows, bins) twice, (rows, 4, bins)."""
        self.skewness = np.zeros((CONTRASTS, rows))
        """Of each contrast of one event. Shape (4, rows)."""
        self.events = np.zeros(rows)
        """Of the baseline."""
        self.smallest = np.ones(rows)
        """The smallest share of a bin."""
        self.freedom = np.maximum(binning.used - 1, 0).astype(np.float64)
        """One less than the bins of each row."""
        self.contrasted = binning.ordered & (np.arange(CONTRASTS)[:, None] < self.freedom)
        """Which contrasts there are. Shape (4, rows)."""
        self.replace(np.ones(rows, dtype=np.bool_), counts)

    def replace(self, rows: NDArray[np.bool_], counts: NDArray[np.float64]) -> None:
        """Compare some rows with other counts from now on; ``counts`` has a row for each of all."""
        used = np.arange(counts.shape[1]) < self._binning.used[rows, None]
        smoothed = np.where(used, counts[rows] + 0.5, 0.0)
        shares = smoothed / np.maximum(smoothed.sum(axis=1, keepdims=True), 1e-300)
        self.shares[rows] = shares
        self.inverse[rows] = np.where(used, 1.0 / np.where(used, shares, 1.0), 0.0)
        self.events[rows] = counts[rows].sum(axis=1)
        self.smallest[rows] = np.where(used, shares, 1.0).min(axis=1, initial=1.0)
        found = contrasts(shares)
        self.contrasts[rows] = found
        self.skewness[:, rows] = (shares[:, None, :] * found.astype(np.float64) ** 3).sum(axis=2).T

    def contrast(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Σ c_b·h(b) of counts, or of differences of shares. Shapes (…, rows, bins) to (…, 4, rows)."""
        return np.ascontiguousarray(np.einsum("rkb,...rb->...kr", self.contrasts, counts))

    def profile(self, contrast: NDArray[np.float32]) -> NDArray[np.float32]:
        """The difference of shares that has these contrasts, and no others. Shapes (4, rows) to (rows, bins)."""
        return np.asarray(np.einsum("kr,rkb,rb->rb", contrast, self.contrasts, self.shares), dtype=np.float32)

    def chi_square(self, difference: NDArray[np.float32]) -> NDArray[np.float32]:
        """X = Σ d²/p of differences of shares. Shapes (…, rows, bins) to (…, rows)."""
        return np.asarray((difference * difference * self.inverse).sum(axis=-1), dtype=np.float32)
