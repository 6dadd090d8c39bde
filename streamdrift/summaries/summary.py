"""The summary of the events of one model, segment and tick: one object that adds up."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamdrift.events import Batch
from streamdrift.grids import MISSING, TYPE_ERROR, UNSEEN, Grid, Kind, Role
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
    grid, size = batch.grid, int(groups.max()) + 1
    order: slice | NDArray[np.int64] = (
        slice(None) if (np.diff(groups) >= 0).all() else np.argsort(groups, kind="stable")
    )
    grouped, values = groups[order], batch.values[order]
    starts = np.searchsorted(grouped, np.arange(size))

    width = grid.slots + 1  # one more than the grid has: where rows without this part of the event are dropped
    slots = _slots(batch) + (groups * width)[:, None]
    counts = np.bincount(slots.ravel(), minlength=size * width).reshape(size, width)[:, :-1]
    counts = np.ascontiguousarray(counts, dtype=np.int64)

    numeric = [i for i, column in enumerate(grid.columns) if column.kind is Kind.NUMERIC]
    quanta = np.full(values.shape, np.nan)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows here is limited and counted as such
        quanta[:, numeric] = (values[:, numeric] - grid.centers[numeric]) / grid.units[numeric]
    moments = Moments.of(quanta, starts) if grid.columns else [Moments.empty(0)] * size

    names: list[list[tuple[int, str]]] = [[] for _ in range(size)]
    for row, column, name in batch.unseen:
        names[groups[row]].append((column, name))

    pairs = _pairs(batch, order, grouped, starts, [name for name in grid.names if name in raw])
    events = np.bincount(groups, minlength=size)
    rows = _rows(batch, groups, size)
    return [Summary(int(events[g]), counts[g], moments[g], Names.of(names[g]), pairs[g], rows[g]) for g in range(size)]


def _slots(batch: Batch) -> NDArray[np.int64]:
    """The flat slot of every value; ``grid.slots`` for what is not to be counted. Shape (n, columns)."""
    grid, values = batch.grid, batch.values
    slots = np.empty(values.shape, dtype=np.int64)
    for i, column in enumerate(grid.columns):
        x = values[:, i]
        if column.kind is Kind.NUMERIC:
            slots[:, i] = np.searchsorted(np.asarray(column.edges), x, side="left")
        else:
            # An unseen category has the number behind the last one, which is the slot UNSEEN.
            slots[:, i] = np.where(np.isnan(x), 0, x)
    slots += grid.offsets[:-1]
    missing = np.isnan(values)
    if missing.any():
        slots[missing] = np.broadcast_to(grid.specials[:, MISSING], slots.shape)[missing]
    rows, columns = batch.type_errors.T
    slots[rows, columns] = grid.specials[columns, TYPE_ERROR]
    for without, role in ((batch.without_features, Role.FEATURE), (batch.without_prediction, Role.PREDICTION)):
        if without is not None:
            of_role = np.array([column.role is role for column in grid.columns], dtype=np.bool_)
            slots[np.ix_(without, of_role)] = grid.slots
    return slots


assert UNSEEN == 0, "the slot behind the last category is the one for unseen categories"  # noqa: S101 — ties two files


def _pairs(
    batch: Batch,
    order: slice | NDArray[np.int64],
    grouped: NDArray[np.int64],
    starts: NDArray[np.int64],
    names: Sequence[str],
) -> list[dict[str, Pairs]]:
    """Raw values of the named columns, by group."""
    pairs: list[dict[str, Pairs]] = [{} for _ in starts]
    ends = np.append(starts[1:], len(grouped))
    for name in names:
        values = batch.values[order, batch.grid.names.index(name)]
        present = ~np.isnan(values)
        for group, (start, end) in enumerate(zip(starts, ends, strict=True)):
            rows = start + np.flatnonzero(present[start:end])
            if len(rows):
                hashes, times = batch.hashes[order][rows], batch.times[order][rows]
                pairs[group][name] = Pairs.of(hashes, times, values[rows])
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
