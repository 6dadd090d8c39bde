"""Raw values of one stream, for detectors that must see every value in order (River).

A multiset of (hash, time, value), held as distinct entries with their multiplicity. Beyond ``MAX_ENTRIES``
distinct entries a tick, those with the smallest hashes are kept and the rest is only counted: a sample that
is the same however the traffic was split. Identical messages have identical hashes and stand in one entry, so
their number needs no numbering of its own, and no order of arrival enters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_ENTRIES: Final = 10_000
"""Distinct entries kept, and values fed to a detector, a tick and stream."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Entries in the order (hash, time, bits of the value), each once. All arrays have shape (entries,)."""

    hashes: NDArray[np.uint64]
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    repeats: NDArray[np.int64]
    total: int
    """How many values there were, kept or not."""

    @classmethod
    def empty(cls) -> Pairs:
        return cls(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64), 0)

    @classmethod
    def of(cls, hashes: NDArray[np.uint64], times: NDArray[np.int64], values: NDArray[np.float64]) -> Pairs:
        """The multiset of the given rows (microseconds since the epoch; finite values)."""
        order = np.argsort(hashes)
        once = np.ones(len(hashes), dtype=np.int64)
        return cls._merged(hashes[order], times[order], values[order], once, len(hashes))

    @classmethod
    def _merged(
        cls,
        hashes: NDArray[np.uint64],
        times: NDArray[np.int64],
        values: NDArray[np.float64],
        repeats: NDArray[np.int64],
        total: int,
    ) -> Pairs:
        """The multiset of entries of which long runs are in the order of their hashes."""
        order = np.argsort(hashes, kind="stable")  # merges such runs
        ascending = hashes[order]
        if not (ascending[1:] == ascending[:-1]).any():
            order = order[:MAX_ENTRIES]
            return cls(hashes[order], times[order], values[order], repeats[order], total)
        bits = values.view(np.int64)
        order = np.lexsort((bits, times, hashes))
        hashes, times, bits = hashes[order], times[order], bits[order]
        new = np.ones(len(hashes), dtype=np.bool_)
        new[1:] = (np.diff(times) != 0) | (bits[1:] != bits[:-1]) | (hashes[1:] != hashes[:-1])
        first = np.flatnonzero(new)
        repeats = np.add.reduceat(repeats[order], first)[:MAX_ENTRIES]
        first = first[:MAX_ENTRIES]
        return cls(hashes[first], times[first], bits[first].view(np.float64), repeats, total)

    def __add__(self, other: Pairs) -> Pairs:
        ours, theirs = self._columns(), other._columns()
        hashes, times, values, repeats = (np.concatenate(both) for both in zip(ours, theirs, strict=True))
        return self._merged(hashes, times, values, repeats, self.total + other.total)

    def _columns(self) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        return self.hashes, self.times, self.values, self.repeats

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Pairs)
            and self.total == other.total
            and np.array_equal(self.values.view(np.int64), other.values.view(np.int64))
            and all(np.array_equal(a, b) for a, b in zip(self._columns(), other._columns(), strict=True))
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays: equal pairs could not hash alike cheaply

    @property
    def sampled(self) -> bool:
        """Whether ``series`` leaves values out."""
        return min(int(self.repeats.sum()), MAX_ENTRIES) < self.total

    def series(self) -> NDArray[np.float64]:
        """At most ``MAX_ENTRIES`` values in the order (time, hash, value): what a detector is fed. Shape (n,)."""
        room = np.clip(MAX_ENTRIES - (np.cumsum(self.repeats) - self.repeats), 0, None)
        kept = np.minimum(self.repeats, room)
        order = np.argsort(self.times, kind="stable")  # the entries are in the order (hash, time, value)
        return np.repeat(self.values[order], kept[order])
