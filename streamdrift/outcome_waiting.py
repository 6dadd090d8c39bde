"""Outcomes that wait, row by row, until it is known how they are counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from operator import add
from typing import Final

import msgspec

from streamdrift.outcome_entries import PackedCoverage, pack_coverage, unpack_coverage
from streamdrift.packing import PackedRows, pack_rows, unpack_rows
from streamdrift.summaries import RawRows
from streamdrift.summaries.outcome_summary import UncountedOutcomes

MAX_WAITING: Final = 1_000
"""Windows whose rows are kept; the oldest are given up."""


class PackedWaiting(msgspec.Struct, array_like=True, frozen=True):
    """What waits of one window."""

    window: int
    rows: list[PackedRows]
    coverage: PackedCoverage


class Waiting:
    """By window of the predictions."""

    def __init__(self) -> None:
        self._windows: dict[int, UncountedOutcomes] = {}

    def __bool__(self) -> bool:
        return bool(self._windows)

    @property
    def rows(self) -> RawRows:
        """All of them."""
        return reduce(add, (each.rows for each in self._windows.values()), RawRows())

    def take(self, outcomes: Iterable[tuple[int, UncountedOutcomes]]) -> int:
        """Keep what came, by window; how many labels had to be given up for it."""
        for window, summary in outcomes:
            kept = self._windows.get(window)
            self._windows[window] = summary if kept is None else kept + summary
        return sum(self._windows.pop(window).rows.total for window in sorted(self._windows)[:-MAX_WAITING])

    def release(self) -> Mapping[int, UncountedOutcomes]:
        """All that waits, which then waits no more."""
        released, self._windows = self._windows, {}
        return released

    def packed(self) -> list[PackedWaiting]:
        """As a snapshot holds it."""
        return [
            PackedWaiting(window, list(pack_rows(each.rows, 0)), pack_coverage(each.coverage))
            for window, each in sorted(self._windows.items())
        ]

    def restore(self, packed: Iterable[PackedWaiting]) -> None:
        """Go on from ``packed``. Raises ``ValueError`` for what it never gave."""
        self._windows = {
            each.window: UncountedOutcomes(
                reduce(add, (unpack_rows(rows, 0) for rows in each.rows), RawRows()), unpack_coverage(each.coverage)
            )
            for each in packed
        }
