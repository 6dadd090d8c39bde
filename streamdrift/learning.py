"""From the first events of a model version to its baseline, where nobody gave one.

::

    rows of closed ticks ──► 2,000 of them: the grid is cut ──► counts on it ──► warm-up over: the baseline
         learning                                   calibrating                      watching

Everything is decided at the close of a tick, from closed ticks alone: the same events give the same grid and the same
baseline, whatever the partitioning, the batches and the restarts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from streamdrift import rows as raw
from streamdrift.baselines import Baseline
from streamdrift.detectors.detector import Ticks
from streamdrift.errors import StateError
from streamdrift.gridding import Reason, columns_of, distinct
from streamdrift.grids import Column, Grid, Role, Unmonitored
from streamdrift.packing import pack, unpack
from streamdrift.sensitivity import WarmUp
from streamdrift.summaries import Moments, Names, Row, Summary

ROWS_FOR_GRID: Final = 2_000
"""Events from which a grid is cut: enough for quantiles, and for categories of a hundredth."""
BYTES_FOR_GRID: Final = 4 << 20
"""Size of the rows from which it is cut, be they fewer."""
MAX_COLUMNS: Final = 1_000
"""Columns of a learned grid."""
MIN_VALUES: Final = 30
"""Fewer values make no column: nothing could be said of what is usual."""


@dataclass(frozen=True, slots=True)
class LearningConfig:
    """How the baseline of one model is learned."""

    warm_up: WarmUp = field(default_factory=WarmUp)
    watched: Callable[[str], bool] = lambda _: True
    """Whether a feature of this name is to be watched."""
    raw: Collection[str] = ()
    """The columns whose values are kept one by one for River."""


def grid_of(model_id: str, model_version: str, rows: Sequence[Row], watched: Callable[[str], bool]) -> Grid:
    """The grid on which events like these, given in order of time, are counted.

    Beyond ``MAX_COLUMNS`` the features with the fewest values are left out, the last by name among equals.
    """
    decided: list[tuple[int, Column | Unmonitored]] = []
    for (role, name), values in sorted(raw.columns_of([row.payload for row in rows]).items()):
        present = sum(value is not None for value in values.tolist())
        if role is Role.FEATURE and not watched(name):
            decided.append((present, Unmonitored(name, Reason.EXCLUDED)))
        elif present < min(MIN_VALUES, len(rows)):
            decided.append((present, Unmonitored(name, Reason.FEW_VALUES)))
        else:
            decided += ((present, column) for column in columns_of(name, values, role))
    named = distinct([column for _, column in decided if isinstance(column, Column)])
    columns = [(present, column) for present, column in decided if isinstance(column, Column) and column in named]
    unmonitored = [field for _, field in decided if isinstance(field, Unmonitored)]
    ranked = sorted(columns, key=lambda c: (c[1].role is Role.FEATURE, -c[0], c[1].name))
    kept = {column.name for _, column in ranked[:MAX_COLUMNS]}
    unmonitored += [Unmonitored(column.name, Reason.TOO_MANY) for _, column in ranked[MAX_COLUMNS:]]
    return Grid(
        model_id,
        model_version,
        tuple(column for _, column in columns if column.name in kept),
        tuple(sorted(unmonitored, key=lambda field: field.name)),
    )


def counted_on(grid: Grid, rows: Sequence[Row], raw_columns: Collection[str] = ()) -> Summary:
    """What summarise would have counted of these events on this grid."""
    if not rows:
        return Summary.empty(grid)
    hashes = np.array([row.hash for row in rows], dtype=np.uint64)
    times = np.array([row.time for row in rows], dtype=np.int64)
    batch = raw.batch_of(grid, hashes, times, [row.payload for row in rows])
    return Summary.of(batch, raw_columns)


CHUNK_BYTES: Final = 192 * 1024
"""Size up to which rows share a record of the state topic."""
_decode_rows: Final = msgspec.msgpack.Decoder(list[Row]).decode


class LearnerState(msgspec.Struct, array_like=True, frozen=True):
    """A learner between two ticks; its rows lie in chunks beside it."""

    first_tick: int | None
    waiting: bool
    reserved: int
    rows: int
    chunks: int
    grid_id: str | None
    events: int
    counts: bytes
    limbs: bytes


@dataclass(slots=True)
class Learner:
    """The learning of one model version. ``grid`` and ``baseline`` are None until there is one."""

    model_id: str
    model_version: str
    config: LearningConfig
    ticks: Ticks
    grid: Grid | None = None
    baseline: Baseline | None = None
    waiting: bool = False
    """Whether there was no room for the rows of the last tick: all learners of a partition share it."""
    first_tick: int | None = None
    rows: list[Row] = field(default_factory=list)
    """Events that are not counted on a grid yet, in the order (tick, time, hash, payload)."""
    reserved: int = 0
    """Bytes that ``at_least`` rows take: a learner that begins must be able to come to an end."""
    _bytes: int = 0
    """Of ``rows``."""
    _counted: Summary | None = None
    _chunks: int = 0
    """Chunks of rows that lie in the state topic."""
    _stored: int = 0
    """Rows in them."""

    @property
    def events(self) -> int:
        """Events from which it has learned so far."""
        return self._counted.events if self._counted else len(self.rows)

    @property
    def size(self) -> int:
        """Bytes that its rows take, or will take."""
        return 0 if self.grid else max(self._bytes, self.reserved)

    def close(self, tick: int, summary: Summary | None, room: int) -> None:
        """Take a closed tick; ``summary`` is on ``grid``, or holds rows while there is none.

        ``size`` grows by at most ``room``; what would need more is not learned from.
        """
        if summary and self.first_tick is None:
            self.first_tick = tick
        if self._counted and summary:
            self._counted += counts_of(summary)
        elif summary and self.grid is None:
            self._keep(summary.rows.series(), room)
        if self.grid is None and self._has_enough_for_grid(tick):
            self.adopt(grid_of(self.model_id, self.model_version, self.rows, self.config.watched))
        if self._counted and self._is_over(tick):
            self.baseline = Baseline(self._counted_grid, self._counted)

    def adopt(self, grid: Grid) -> None:
        """Count on ``grid`` from now on, first of all the rows that are kept."""
        self.grid, self.waiting = grid, False
        self._counted = counts_of(counted_on(grid, self.rows))

    def take_rows(self) -> Sequence[Row]:
        """The rows that the grid was cut from; they are not kept any longer."""
        rows, self.rows = self.rows, []
        return rows

    def so_far(self) -> Baseline | None:
        """What the baseline would be if the warm-up were over; None without a grid."""
        return Baseline(self.grid, self._counted) if self.grid and self._counted else None

    def due(self) -> int | None:
        """The tick at whose close it is over although no events come any more."""
        return self.last_tick if self.events >= self.config.warm_up.at_least else None

    @property
    def last_tick(self) -> int | None:
        """The tick at whose close learning ends if there is enough for a baseline; None before the first event."""
        if self.first_tick is None:
            return None
        return self.ticks.ending_at(self.first_tick * self.ticks.length_us + self.config.warm_up.at_most_us)

    @property
    def needed(self) -> int:
        """Events that the present phase takes: until the grid is cut, or until the baseline is complete."""
        return self.config.warm_up.events if self.grid else min(ROWS_FOR_GRID, self.config.warm_up.events)

    def _keep(self, rows: Sequence[Row], room: int) -> None:
        if not rows:
            return
        more = sum(row.size for row in rows)
        reserved = self.reserved or -(-more * self.config.warm_up.at_least // len(rows))
        self.waiting = max(self._bytes + more, reserved) - self.size > room
        if not self.waiting:
            self.reserved = reserved
            self.rows += rows
            self._bytes += more

    def _has_enough_for_grid(self, tick: int) -> bool:
        if len(self.rows) >= self.needed or self._bytes >= BYTES_FOR_GRID:
            return True
        # Without room to go on, and at the end of its time, a learner makes do with what is enough for a baseline.
        return len(self.rows) >= self.config.warm_up.at_least and (self.waiting or self._is_late(tick))

    def _is_over(self, tick: int) -> bool:
        warm_up = self.config.warm_up
        return self.events >= warm_up.events or (self.events >= warm_up.at_least and self._is_late(tick))

    def _is_late(self, tick: int) -> bool:
        last = self.last_tick
        return last is not None and tick >= last

    @property
    def _counted_grid(self) -> Grid:
        assert self.grid is not None  # noqa: S101 — what is counted is counted on a grid
        return self.grid

    # Snapshots

    def state(self) -> LearnerState:
        """The learner without its rows."""
        counted = self._counted
        return LearnerState(
            self.first_tick,
            self.waiting,
            self.reserved,
            self._stored,
            self._chunks,
            self.grid.id if self.grid else None,
            counted.events if counted else 0,
            pack(counted.counts) if counted else b"",
            pack(counted.moments.limbs.ravel()) if counted else b"",
        )

    @property
    def chunks(self) -> int:
        """How many records hold its rows: numbers 0 and up; any others are needed no more."""
        return 0 if self.grid else self._chunks

    def new_chunks(self) -> Iterator[tuple[int, bytes]]:
        """Numbered records of the rows that came since the last call."""
        if self.grid:
            return
        for chunk in _chunks_of(self.rows[self._stored :]):
            yield self._chunks, msgspec.msgpack.encode(chunk)
            self._chunks += 1
        self._stored = len(self.rows)

    def restore(self, state: LearnerState, chunks: Mapping[int, bytes], grid: Grid | None) -> None:
        """Go on from a state; ``grid`` is the one that it names. Raises ``StateError`` if that cannot be."""
        self.first_tick, self.waiting, self.grid = state.first_tick, state.waiting, grid
        if grid is None:
            self._restore_rows(state, chunks)
            return
        empty = Summary.empty(grid)
        try:
            counts = unpack(state.counts).reshape(empty.counts.shape)
            limbs = unpack(state.limbs).reshape(empty.moments.limbs.shape)
        except ValueError as error:
            raise StateError(f"a learned baseline does not fit its grid {grid.id}: {error}") from None
        self._counted = Summary(state.events, counts, Moments(limbs), Names(), {})

    def _restore_rows(self, state: LearnerState, chunks: Mapping[int, bytes]) -> None:
        try:
            rows = [row for number in range(state.chunks) for row in _decode_rows(chunks[number])]
        except (KeyError, msgspec.DecodeError):
            rows = []
        if len(rows) != state.rows:
            # Without transactions, a member that was taken for dead can have written over its successor's chunks, and
            # been stopped before it wrote what goes with them. Learning begins anew: nothing was watched yet.
            self.first_tick = None
            return
        self.rows, self.reserved, self._bytes = rows, state.reserved, sum(row.size for row in rows)
        self._chunks, self._stored = state.chunks, state.rows


def _chunks_of(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Consecutive rows, as many together as a record holds."""
    first, size = 0, 0
    for i, row in enumerate(rows):
        if i > first and size + row.size > CHUNK_BYTES:
            yield rows[first:i]
            first, size = i, 0
        size += row.size
    if rows:
        yield rows[first:]


def counts_of(summary: Summary) -> Summary:
    """What a baseline holds of a summary: neither names nor raw values."""
    return Summary(summary.events, summary.counts, summary.moments, Names(), {})
