"""Spans: sums over about the last w events, for w = 64, 128, 256, … at once.

Events are kept as sums of runs, the newest ones one tick long and older ones ever longer: of runs between 2^k and
2^(k+1) events there are four at most, then the two oldest become one::

    oldest ────────────────────────────────────────────────▶ newest
    |      512      |  256  |  256  |128|128|128|64|64|64|64|
                            └───────── span of 832 ─────────┘

So a span is a suffix of runs, at most a quarter longer than asked for. Other than a memory that fades it holds nothing
from before its first event, so that after a change it soon holds nothing else: where an effect must be told from one
that is only a little smaller, that takes half of the events.

Source: Datar, Gionis, Indyk & Motwani 2002, "Maintaining stream statistics over sliding windows", for exponential
histograms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.errors import StateError
from streamdrift.packing import pack_floats, unpack_floats

SHORTEST: Final = 64
LOOKS: Final = 4
"""Looks in the time that a span lasts."""
RUNS: Final = 4
"""Runs of one size before two of them are joined."""


class Spans:
    """Sums of ``values`` numbers an event over ``rows`` rows, with spans of these ``lengths`` in events."""

    def __init__(self, lengths: Sequence[float], rows: int, values: int) -> None:
        self.lengths = np.asarray(lengths, dtype=np.float64)
        self._shape = values, rows
        self._sizes: list[int] = []
        self._ticks: list[int] = []
        """Events of each run, the oldest first, and the tick in which it began."""
        self._sums: list[NDArray[np.float32]] = []
        self._totals: list[NDArray[np.float32]] = []
        """Sums, shape (values, rows), and how many events of each row they are of, shape (rows,)."""
        self._since = np.zeros(len(self.lengths))

    def add(self, tick: int, sums: NDArray[np.float32], totals: NDArray[np.float32], events: int) -> None:
        """Take the sums of a tick of ``events`` events."""
        self._since += events
        if self._sizes and self._sizes[-1] + events <= SHORTEST // RUNS:
            self._sizes[-1] += events
            self._sums[-1] = self._sums[-1] + sums
            self._totals[-1] = self._totals[-1] + totals
        else:
            self._sizes.append(events)
            self._ticks.append(tick)
            self._sums.append(sums)
            self._totals.append(totals)
        self._join()
        longest = float(self.lengths[-1])
        while sum(self._sizes[1:]) >= longest:
            for runs in (self._sizes, self._ticks, self._sums, self._totals):
                runs.pop(0)

    def _join(self) -> None:
        """Join the two oldest of more than four runs of one size; that may make too many of the next one."""
        end = len(self._sizes)
        while end:
            size = self._sizes[end - 1].bit_length()
            start = end
            while start and self._sizes[start - 1].bit_length() <= size:
                start -= 1
            if end - start <= RUNS:
                end = start
                continue
            self._sizes[start : start + 2] = [sum(self._sizes[start : start + 2])]
            self._sums[start : start + 2] = [self._sums[start] + self._sums[start + 1]]
            self._totals[start : start + 2] = [self._totals[start] + self._totals[start + 1]]
            del self._ticks[start + 1]
            end = start + 1

    def due(self) -> tuple[list[range], NDArray[np.float32], NDArray[np.float32]]:
        """The spans that are to be looked at now, the shortest first: numbers, sums and totals.

        Shapes (looks, values, rows) and (looks, rows). Neighbours that hold the same events, as those do that are no
        longer than the newest tick, are looked at together, by what is asked of the last of them.
        """
        wanted = np.flatnonzero((self._since * LOOKS >= self.lengths) & (sum(self._sizes) >= self.lengths)).tolist()
        self._since[wanted] = 0.0
        place = len(self._sizes)
        events, sums, totals = 0, np.zeros(self._shape, np.float32), np.zeros(self._shape[1], np.float32)
        spans: list[range] = []
        found: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        for span in wanted:
            before = place
            while events < self.lengths[span]:
                place -= 1
                events += self._sizes[place]
                sums, totals = sums + self._sums[place], totals + self._totals[place]
            if place < before:
                spans.append(range(span, span + 1))
                found.append((sums, totals))
            else:
                spans[-1] = range(spans[-1].start, span + 1)
        return (
            spans,
            np.array([each for each, _ in found]).reshape(-1, *self._shape),
            np.array([each for _, each in found]).reshape(-1, self._shape[1]),
        )

    def suffixes(self, row: int) -> tuple[NDArray[np.float64], NDArray[np.float64], list[int], list[int]]:
        """Of one row, every suffix of runs, the shortest first: sums, totals, events, and the tick of its first event.

        Shapes (runs, values) and (runs,).
        """
        sums = np.cumsum([each[:, row] for each in reversed(self._sums)], axis=0, dtype=np.float64)
        totals = np.cumsum([each[row] for each in reversed(self._totals)], dtype=np.float64)
        return sums, totals, np.cumsum(self._sizes[::-1]).tolist(), self._ticks[::-1]

    def forget(self, rows: NDArray[np.bool_]) -> None:
        """Begin anew in some rows."""
        if rows.any():
            for runs in (self._sums, self._totals):
                for i, each in enumerate(runs):
                    runs[i] = np.where(rows, np.float32(0), each)

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Let go of the spans that are not chosen."""
        self.lengths, self._since = self.lengths[chosen], self._since[chosen]

    def state(self) -> SpansState:
        return SpansState(
            self.lengths.tolist(),
            self._since.tolist(),
            list(self._sizes),
            list(self._ticks),
            [pack_floats(each) for each in self._sums],
            [pack_floats(each) for each in self._totals],
        )

    def restore(self, state: SpansState) -> None:
        """Raises ``StateError`` for a state of other rows."""
        runs = len(state.sizes)
        try:
            sums = [unpack_floats(data, self._shape, np.float32) for data in state.sums]
            totals = [unpack_floats(data, self._shape[1:], np.float32) for data in state.totals]
        except ValueError as error:
            raise StateError(f"spans do not fit {self._shape[1]} rows: {error}") from None
        if not runs == len(state.ticks) == len(sums) == len(totals) or len(state.since) != len(state.lengths):
            raise StateError("spans are not as long as they say")
        self.lengths, self._since = np.array(state.lengths), np.array(state.since)
        self._sizes, self._ticks, self._sums, self._totals = list(state.sizes), list(state.ticks), sums, totals


class SpansState(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Spans in a snapshot."""

    lengths: list[float]
    since: list[float]
    sizes: list[int]
    ticks: list[int]
    sums: list[bytes]
    totals: list[bytes]
