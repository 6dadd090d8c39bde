"""The fast way: events of one grid become columns, a block at a time, without being looked at one by one."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from streamdrift.codecs.mapping import At
from streamdrift.codecs.places import beside, identity_bytes, timestamp
from streamdrift.codecs.schema import IDENTITY, TIMESTAMP, Found, Schema, without
from streamdrift.codecs.source import DecodedBatch, EventTime, Source
from streamdrift.codecs.times import event_times
from streamdrift.events import Batch, DeadLetter, SourceKind
from streamdrift.records import RecordBatch


class Columns:
    """The events of one grid among the messages of a batch; ``capacity`` is the most that may come."""

    def __init__(self, schema: Schema, source: Source, records: RecordBatch, capacity: int) -> None:
        self._schema = schema
        self._source = source
        self._records = records
        self._values = np.empty((len(schema.grid.columns), capacity))
        self._bytes = self._values.reshape(-1).view(np.uint8)
        self._written: set[int] = set()
        self._index: list[int] = []
        self._timestamps: list[Any] = []
        self._hashes: list[NDArray[np.uint64]] = []
        self._unseen: list[tuple[int, int, str]] = []

    def take(self, places: Sequence[int]) -> list[int]:
        """Add the events of a block of messages. Returns the places of those that are refused."""
        values = self._records.values
        found, refused = self._schema.read([values[i] for i in places])  # type: ignore[misc]  # empty ones were taken out
        if len(refused) < len(places):
            self._add(found, without(places, refused))
        return [places[i] for i in refused]

    def batch(self) -> tuple[DecodedBatch, list[DeadLetter]]:
        """The events that were taken; and dead letters, of those whose time cannot be read."""
        n, grid = len(self._index), self._schema.grid
        for column in set(range(len(grid.columns))) - self._written:
            self._values[column] = np.nan
        times, wrong = event_times(
            self._source, self._timestamps, map(self._records.timestamps.__getitem__, self._index)
        )
        events = Batch(
            grid,
            times,
            np.concatenate(self._hashes) if n else np.empty(0, dtype=np.uint64),
            self._values[:, :n].T,
            np.empty((0, 2), dtype=np.int64),
            tuple(self._unseen),
            None,
            np.ones(n, dtype=np.bool_) if self._source.kind is SourceKind.FEATURES else None,
        )
        index = np.array(self._index, dtype=np.int64)
        dead = [DeadLetter(self._index[i], "timestamp", message) for i, message in wrong.items()]
        if wrong:
            keep = np.ones(n, dtype=np.bool_)
            keep[list(wrong)] = False
            events, index = events.where(keep), index[keep]
        return DecodedBatch(events, index), dead

    def _add(self, found: Found, places: Sequence[int]) -> None:
        start, n = len(self._index), len(places)
        codes, capacity, pack = self._schema.layout.codes, self._values.shape[1], _pack(n)
        for target, values in found.items():
            if target < 0:
                continue
            try:
                numbers = map(codes[target].__getitem__, values) if target in codes else values
                pack(self._bytes, (target * capacity + start) * 8, *numbers)
            except struct.error:  # nulls, which become NaN
                self._values[target, start : start + n] = values
            except KeyError:
                self._values[target, start : start + n] = self._codes(target, values, start)
            self._written.add(target)
        self._timestamps += self._timestamps_of(found, places)
        self._hashes.append(self._hashes_of(found, places))
        self._index += places

    def _codes(self, column: int, values: Sequence[Any], start: int) -> list[float]:
        """Numbers of categories some of which the grid does not know."""
        codes: list[Any] = list(map(self._schema.layout.codes[column].get, values))
        for i, code in enumerate(codes):
            if code is None:
                unseen: list[tuple[int, str]] = []
                codes[i] = self._schema.layout.code(column, values[i], unseen)
                self._unseen += [(start + i, *what) for what in unseen]
        return codes

    def _timestamps_of(self, found: Found, places: Sequence[int]) -> Sequence[object]:
        if self._source.event_time is EventTime.RECORD:
            return [None] * len(places)
        place = self._source.mapping.timestamp
        return found[TIMESTAMP] if isinstance(place, At) else [*map(timestamp, beside(place, self._records, places))]

    def _hashes_of(self, found: Found, places: Sequence[int]) -> NDArray[np.uint64]:
        place = self._source.mapping.prediction_id
        identities = found[IDENTITY] if isinstance(place, At) else beside(place, self._records, places)
        hashed: Sequence[Any]
        try:
            hashed = list(map(str.encode, identities))
        except TypeError:  # other ids than texts, or none
            own = map(self._records.values.__getitem__, places)
            hashed = [
                own if known is None else known for known, own in zip(map(identity_bytes, identities), own, strict=True)
            ]
        return np.fromiter(map(xxh3_64_intdigest, hashed), dtype=np.uint64, count=len(places))


@lru_cache(maxsize=512)
def _pack(n: int) -> Callable[..., None]:
    """Writes ``n`` floats, four times as fast as an assignment."""
    return struct.Struct(f"{n}d").pack_into
