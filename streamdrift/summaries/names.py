"""Names of categories that the grid does not know, so that an alert can say which one is new."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Final

from xxhash import xxh3_64_intdigest

MAX_NAMES: Final = 32
"""Names kept a column: those with the smallest hashes. The exact total stands in the column's unseen slot."""
MAX_LENGTH: Final = 128
"""Longer names are cut to so many characters."""


def _bound(counts: dict[str, int]) -> dict[str, int]:
    if len(counts) <= MAX_NAMES:
        return counts
    # A name in the union's k smallest is in the k smallest of every part that holds it: its count is exact.
    return {name: counts[name] for name in nsmallest(MAX_NAMES, counts, key=rank)}


def rank(name: str) -> tuple[int, str]:
    """The order in which names are kept where there are too many: by hash."""
    return xxh3_64_intdigest(name.encode("utf-8", "surrogatepass")), name


@dataclass(frozen=True, slots=True)
class Names:
    """Occurrences of unknown names, by column."""

    columns: Mapping[int, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, occurrences: Iterable[tuple[int, str]]) -> Names:
        """Count (column, name) pairs."""
        columns: dict[int, dict[str, int]] = {}
        for column, name in occurrences:
            counts = columns.setdefault(column, {})
            counts[name[:MAX_LENGTH]] = counts.get(name[:MAX_LENGTH], 0) + 1
        return cls({column: _bound(counts) for column, counts in columns.items()})

    def __add__(self, other: Names) -> Names:
        if not (self.columns and other.columns):
            return self if self.columns else other
        columns = dict(self.columns)
        for column, theirs in other.columns.items():
            ours = dict(columns.get(column, {}))
            for name, count in theirs.items():
                ours[name] = ours.get(name, 0) + count
            columns[column] = _bound(ours)
        return Names(columns)
