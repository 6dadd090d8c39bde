"""The summary of the events of one model, segment and tick: one object that adds up."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamdrift.events import Batch
from streamdrift.grids import Grid
from streamdrift.summaries.counting import count
from streamdrift.summaries.moments import Moments
from streamdrift.summaries.names import Names
from streamdrift.summaries.pairs import Pairs
from streamdrift.summaries.raw_rows import RawRows, Row


class SummaryKey(NamedTuple):
    """What a summary is of. ``segment`` is empty for the model as a whole."""

    model_id: str
    model_version: str
    segment: str
    tick: int


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """Counts on a grid, moments, unknown names, raw values and raw rows. See the package for its laws."""

    events: int
    counts: NDArray[np.int64]
    """Events in each slot of the grid. Shape (grid.slots,)."""
    moments: Moments
    names: Names
    pairs: Mapping[str, Pairs]
    """Raw values by column name, for the columns that a value-by-value detector watches."""
    rows: RawRows = field(default_factory=RawRows)
    """The events themselves where the grid is blind: another grid is to be learned from them."""

    @classmethod
    def empty(cls, grid: Grid) -> Summary:
        return cls(0, np.zeros(grid.slots, dtype=np.int64), Moments.empty(len(grid.columns)), Names(), {})

    @classmethod
    def of(cls, batch: Batch, raw: Collection[str] = ()) -> Summary:
        """Summary of all events of a batch; ``raw`` names the columns whose values are kept one by one."""
        if not len(batch):
            return cls.empty(batch.grid)
        return summarise(batch, np.zeros(len(batch), dtype=np.int64), raw)[0]

    def __add__(self, other: Summary) -> Summary:
        pairs = dict(self.pairs)
        for name, theirs in other.pairs.items():
            pairs[name] = pairs[name] + theirs if name in pairs else theirs
        return Summary(
            self.events + other.events,
            self.counts + other.counts,
            self.moments + other.moments,
            self.names + other.names,
            pairs,
            self.rows + other.rows,
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Summary)
            and self.events == other.events
            and np.array_equal(self.counts, other.counts)
            and self.moments == other.moments
            and self.names == other.names
            and self.pairs == other.pairs
            and self.rows == other.rows
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays: equal summaries could not hash alike cheaply


def summarise(batch: Batch, groups: NDArray[np.int64], raw: Collection[str] = ()) -> list[Summary]:
    """Summaries of the groups of a batch, in one pass. ``groups`` numbers each row's group from 0, none empty."""
    size = int(groups.max()) + 1
    order = None if (groups[1:] >= groups[:-1]).all() else np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups, np.arange(size), sorter=order)
    counts, limbs = count(batch, groups, order, starts)

    names: list[list[tuple[int, str]]] = [[] for _ in range(size)]
    for row, column, name in batch.unseen:
        names[groups[row]].append((column, name))

    pairs, rows = _pairs(batch, order, starts, raw), _rows(batch, groups, size)
    events = np.diff(starts, append=len(batch)).tolist()
    return [
        Summary(events[g], counts[g], Moments(limbs[g]), Names.of(names[g]), pairs[g], rows[g]) for g in range(size)
    ]


def _pairs(
    batch: Batch, order: NDArray[np.int64] | None, starts: NDArray[np.int64], raw: Collection[str]
) -> list[dict[str, Pairs]]:
    """Raw values of the named columns, by group."""
    pairs: list[dict[str, Pairs]] = [{} for _ in starts]
    watched = [i for i, name in enumerate(batch.grid.names) if name in raw]
    rows = slice(None) if order is None else order
    hashes, times, values = batch.hashes[rows], batch.times[rows], batch.values[:, watched][rows]
    for group, (start, stop) in enumerate(pairwise([*starts.tolist(), len(batch)])):
        for place, column in enumerate(watched):
            series = values[start:stop, place]
            there = ~np.isnan(series)
            if there.any():
                kept = hashes[start:stop][there], times[start:stop][there], series[there]
                pairs[group][batch.grid.names[column]] = Pairs.of(*kept)
    return pairs


def _rows(batch: Batch, groups: NDArray[np.int64], size: int) -> list[RawRows]:
    """The events themselves, by group, where the batch carries them."""
    if batch.rows is None:
        return [RawRows()] * size
    rows: list[list[Row]] = [[] for _ in range(size)]
    for group, row in zip(
        groups.tolist(), map(Row, batch.hashes.tolist(), batch.times.tolist(), batch.rows), strict=True
    ):
        rows[group].append(row)
    return [RawRows.of(part) for part in rows]
