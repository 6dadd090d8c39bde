"""Skew: columns that differed from their baseline before monitoring began, and what they are compared with instead.

Training–serving skew is no change, so it is told once. Against a baseline that is off for good, however, nothing else
would ever be seen; so a skewed column is compared with what came of it in the warm-up, until it is close to its
baseline again: its distance to that, as χ² without the bias of its own noise, is below a quarter of what it was.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.detectors.nulls import Null
from streamdrift.errors import StateError
from streamdrift.packing import pack, unpack

ENDS: Final = 0.25
"""Share of its size, as χ², below which skew has ended."""
LEAST: Final = 1_024.0
"""Events of a memory in which that may be seen."""

Mask = NDArray[np.bool_]


class Skew:
    """That of all rows of ``null``, which it keeps up to date: ``baseline`` has the counts, shape (rows, bins)."""

    def __init__(self, null: Null, baseline: NDArray[np.float64]) -> None:
        self._null = null
        self._baseline = baseline
        self.rows: Mask = np.zeros(len(baseline), dtype=np.bool_)
        """Which are skewed."""
        self._live = np.zeros_like(baseline)
        """Counts of all live events in the warm-up; then of those that skewed rows are compared with."""
        self._size = np.zeros(len(baseline))
        """χ² between these and the baseline."""

    def gather(self, counts: NDArray[np.float64]) -> None:
        """Take live events of the warm-up. Shape (rows, bins)."""
        self._live += counts

    def end_warm_up(self) -> None:
        """Compare what is skewed with its live self from now on."""
        self._size[:] = self._size_of(self._live)
        self._null.replace(self.rows, self._live)
        self._live[~self.rows] = 0.0

    def end(self, counts: NDArray[np.float32], enough: Mask) -> Mask:
        """Compare rows with their baseline again that are close to it by now; which. Shapes (rows, bins) to (rows,)."""
        size = self._size_of(counts.astype(np.float64))
        ends = self.rows & (size < ENDS * self._size) & enough
        if ends.any():
            self.rows &= ~ends
            self._null.replace(ends, self._baseline)
        return ends

    def _size_of(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        totals = np.maximum(counts.sum(axis=1), 1.0)
        used = self._baseline > 0
        p = self._baseline / np.maximum(self._baseline.sum(axis=1, keepdims=True), 1.0)
        moved = counts / totals[:, None] - p
        size = np.where(used, moved**2 / np.where(used, p, 1.0), 0.0).sum(axis=1)
        return np.asarray(size - self._null.freedom / totals, dtype=np.float64)

    def state(self, *, warm_up: bool) -> SkewState:
        """``warm_up``: whether that lasts, so that the counts of all rows are needed."""
        kept = self.rows | warm_up
        return SkewState(self.rows.tolist(), pack(self._live[kept].astype(np.int64).ravel()), self._size.tolist())

    def restore(self, state: SkewState, *, warm_up: bool) -> None:
        """Raises ``StateError`` for the state of other rows."""
        if not len(state.rows) == len(state.size) == len(self.rows):
            raise StateError(f"skew is not of {len(self.rows)} columns")
        rows, live = np.array(state.rows, np.bool_), np.zeros_like(self._live)
        try:
            live[rows | warm_up] = unpack(state.live).reshape(-1, live.shape[1])
        except ValueError as error:
            raise StateError(f"skew does not fit {len(rows)} columns: {error}") from None
        self.rows, self._live, self._size = rows, live, np.array(state.size, np.float64)
        if not warm_up:
            self._null.replace(rows, live)


class SkewState(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Skew in a snapshot."""

    rows: list[bool]
    live: bytes
    size: list[float]
