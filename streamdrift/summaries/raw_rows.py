"""Raw events of a model version whose grid is not known yet, so that it can be learned from them.

A multiset of (hash, time, payload), held as distinct rows with their multiplicity, like ``Pairs``. Beyond
``MAX_ROWS`` distinct rows or ``MAX_BYTES`` a tick, what comes first in the order (hash, time, payload) is kept::

    hashes of all rows    |x x  x x   x|x    x  x x
                           kept         first_left_out

A row that is kept in a union was kept in each part, since it has no more before it there; and what is at or behind
the first row that any part left out is left out of the union. So the rest is a sample that is the same however the
traffic was split, and ``total`` counts all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

MAX_ROWS: Final = 10_000
"""Distinct rows kept, and rows in ``series``, a tick and model version."""
MAX_BYTES: Final = 4 << 20
"""Size of the rows kept: 10,000 of 20 features, 160 of 1,000 features."""
MAX_ROW_BYTES: Final = 96 * 1024
"""A larger payload is only counted: a record of it alone could be one that brokers refuse."""
_ROW_BYTES: Final = 32
"""What a row takes beside its payload."""


class Row(NamedTuple):
    """One event's monitored material: see ``streamdrift.rows``. ``time`` is in microseconds since the epoch."""

    hash: int
    time: int
    payload: bytes

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return len(self.payload) + _ROW_BYTES


@dataclass(frozen=True, slots=True)
class RawRows:
    """Rows in no particular order, and how many there were."""

    rows: Mapping[Row, int] = field(default_factory=dict)
    """How often each row was there."""
    total: int = 0
    """How many events there were, kept or not."""
    first_left_out: Row | None = None
    """The first row in order that the bounds cut off; None if nothing was cut off."""

    @classmethod
    def of(cls, rows: Iterable[Row]) -> RawRows:
        """The multiset of the given rows."""
        counted = Counter(rows)
        kept = {row: n for row, n in counted.items() if len(row.payload) <= MAX_ROW_BYTES}
        return _bounded(kept, counted.total(), None)

    def __add__(self, other: RawRows) -> RawRows:
        if not (self and other):
            return self or other
        rows = dict(self.rows)
        for row, n in other.rows.items():
            rows[row] = rows.get(row, 0) + n
        bounds = [part.first_left_out for part in (self, other) if part.first_left_out is not None]
        return _bounded(rows, self.total + other.total, min(bounds, default=None))

    def __bool__(self) -> bool:
        """Whether anything is said: a piece of what a record holds may carry rows but not their total."""
        return bool(self.rows or self.total or self.first_left_out)

    @property
    def size(self) -> int:
        """About how many bytes the rows take."""
        return sum(row.size for row in self.rows)

    @property
    def sampled(self) -> bool:
        """Whether ``series`` leaves events out."""
        return len(self.series()) < self.total

    def series(self) -> Sequence[Row]:
        """At most ``MAX_ROWS`` events in the order (time, hash, payload), a row each time that it was there."""
        kept, room = [], MAX_ROWS
        for row in sorted(self.rows):
            repeats = min(self.rows[row], room)
            kept += [row] * repeats
            room -= repeats
        return sorted(kept, key=lambda row: (row.time, row))


def _bounded(rows: Mapping[Row, int], total: int, first_left_out: Row | None) -> RawRows:
    """The longest run of rows from the smallest on that keeps within the bounds and ends before ``first_left_out``."""
    if first_left_out is None and len(rows) <= MAX_ROWS and sum(row.size for row in rows) <= MAX_BYTES:
        return RawRows(rows, total)
    kept: dict[Row, int] = {}
    size = 0
    for row in sorted(rows):
        size += row.size
        if first_left_out is not None and row >= first_left_out:
            break
        if len(kept) == MAX_ROWS or size > MAX_BYTES:
            first_left_out = row
            break
        kept[row] = rows[row]
    return RawRows(kept, total, first_left_out)
