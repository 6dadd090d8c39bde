"""A grids topic in memory."""

from __future__ import annotations

from collections.abc import Iterable

from streamdrift.baselines import Baseline
from streamdrift.gridbook import GridBook, baseline_record, grid_records
from streamdrift.grids import Grid
from streamdrift.records import OutputRecord


def book(baselines: Iterable[Baseline] = (), grids: Iterable[Grid] = ()) -> GridBook:
    """Knows these baselines, and these grids, which are in effect."""
    return book_of([baseline_record("", b) for b in baselines] + [r for grid in grids for r in grid_records("", grid)])


def book_of(records: list[OutputRecord]) -> GridBook:
    """Reads from a list of records that may grow."""
    position = 0

    def read() -> list[tuple[bytes, bytes | None]]:
        nonlocal position
        new, position = records[position:], len(records)
        return [(record.key or b"", record.value) for record in new]

    return GridBook(read)
