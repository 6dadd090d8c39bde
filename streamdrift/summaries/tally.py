"""Sparse integer counts: the free commutative group on integer keys.

Most keys of a histogram of scores are empty in any one tick, so only the others are held. A count may be negative: what
is taken back later and elsewhere adds up to nothing with what it takes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Counts by key. Both arrays have shape (entries,); equal tallies are equal arrays."""

    keys: NDArray[np.int64]
    """Ascending, each once."""
    counts: NDArray[np.int64]
    """None of them 0."""

    @classmethod
    def empty(cls) -> Tally:
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))

    @classmethod
    def of(cls, keys: NDArray[np.int64]) -> Tally:
        """How often each key occurs. Shape (n,)."""
        return cls(*np.unique(keys, return_counts=True))

    @classmethod
    def of_groups(cls, keys: NDArray[np.int64], groups: NDArray[np.int64], size: int, span: int) -> list[Tally]:
        """Tallies of ``size`` groups; all keys are in [0, ``span``). Shapes (n,)."""
        found, counts = np.unique(groups * span + keys, return_counts=True)
        bounds = np.searchsorted(found, np.arange(size + 1) * span)
        return [
            cls(found[start:stop] - g * span, counts[start:stop])
            for g, (start, stop) in enumerate(pairwise(bounds.tolist()))
        ]

    def __add__(self, other: Tally) -> Tally:
        if not len(self.keys):
            return other
        if not len(other.keys):
            return self
        keys = np.concatenate((self.keys, other.keys))
        order = np.argsort(keys, kind="stable")
        keys, counts = keys[order], np.concatenate((self.counts, other.counts))[order]
        first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
        keys, counts = keys[first], np.add.reduceat(counts, first)
        return Tally(keys[counts != 0], counts[counts != 0])

    def __neg__(self) -> Tally:
        return Tally(self.keys, -self.counts)

    def __sub__(self, other: Tally) -> Tally:
        return self + -other

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Tally)
            and np.array_equal(self.keys, other.keys)
            and np.array_equal(self.counts, other.counts)
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays: equal tallies could not hash alike cheaply

    def __getitem__(self, key: int) -> int:
        """The count of a key, 0 where there is none."""
        place = int(np.searchsorted(self.keys, key))
        return int(self.counts[place]) if place < len(self.keys) and self.keys[place] == key else 0

    def dense(self, start: int, stop: int) -> NDArray[np.int64]:
        """Counts of all keys in [start, stop). Shape (stop - start,)."""
        first, last = np.searchsorted(self.keys, (start, stop))
        counts = np.zeros(stop - start, dtype=np.int64)
        counts[self.keys[first:last] - start] = self.counts[first:last]
        return counts
