"""The fast way: events of one grid become columns, a block at a time, without being looked at one by one."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, compress, groupby, repeat, starmap
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from streamdrift.codecs.documents import Rejected, dead_letters
from streamdrift.codecs.fields import without
from streamdrift.codecs.mapping import At
from streamdrift.codecs.places import beside, identity_of, timestamp
from streamdrift.codecs.schema import IDENTITY, TIMESTAMP, Schema
from streamdrift.codecs.source import DecodedBatch, EventTime, Source
from streamdrift.codecs.template import Template
from streamdrift.codecs.times import Written, event_times
from streamdrift.derived import vectors
from streamdrift.events import Batch, DeadLetter, SourceKind
from streamdrift.grids import Derived, category_name
from streamdrift.records import RecordBatch

_BLOCK: Final = 1 << 20
"""Bytes of messages that are read at once: they stay in the processor's cache."""
_OFTEN: Final = 8
"""Where one message in so many looks otherwise than all that is known, it is looked at more closely."""


class Columns:
    """The events of one grid among the messages of a batch."""

    def __init__(self, schema: Schema, source: Source, records: RecordBatch, messages: int) -> None:
        self._schema = schema
        self._source = source
        self._records = records
        self._values = np.empty((len(schema.grid.columns), _width(messages)))
        self._index: list[int] = []
        self._elements: list[int] = []
        """Number of each event in its message, where messages are exploded."""
        self._timestamps: list[Written] = []
        self._hashes: list[NDArray[np.uint64]] = []
        self._type_errors: list[tuple[int, int]] = []
        self._unseen: list[tuple[int, int, str]] = []
        self.exploded = 0
        self.eventless = 0

    def take(self, places: Sequence[int]) -> list[int]:
        """Add the events of messages. Returns the places of those that are refused."""
        schema, messages = self._schema, len(places)
        for template in list(schema.templates):
            places = [left for block in self._blocks(places) for left in self._take_alike(template, block)]
        refused: list[int] = []
        for start in range(0, len(places), schema.block):
            refused += self._take_typed(places[start : start + schema.block])
        if (len(places) - len(refused)) * _OFTEN > messages:
            others = set(refused)
            schema.learn(next(self._records.values[i] or b"" for i in places if i not in others))
        return refused

    def _blocks(self, places: Sequence[int]) -> Iterator[Sequence[int]]:
        """Messages to be read at once: as many as stay in the processor's cache."""
        if not places:
            return
        size = max(1, _BLOCK // len(self._records.values[places[0]] or b"0"))
        for start in range(0, len(places), size):
            yield places[start : start + size]

    def _take_alike(self, template: Template, places: Sequence[int]) -> Sequence[int]:
        """Add the events of messages that look like the template. Returns the places of the others."""
        start, room = len(self._index), self._with_room(len(places))
        values = room[:, start:] if not template.arrays else np.empty((template.targets, len(places)))
        found = template.read(self._messages(places), values)
        taken = places if found.taken.all() else list(compress(places, found.taken.tolist()))
        if not taken:
            return places
        stop = start + len(taken)
        if template.arrays:
            room[:, start:stop] = values[: len(room), : len(taken)]
        room[template.missing, start:stop] = np.nan
        for target, rows in template.arrays.items():
            made = vectors(values[rows.start : rows.stop, : len(taken)].T.copy())
            self._put_derived(self._schema.derived[target], made, np.arange(start, stop))
        said: dict[int, Any] = {TIMESTAMP: found.timestamps, IDENTITY: found.identities}
        self._identify({target: of for target, of in said.items() if of is not None}, taken, None)
        return () if taken is places else list(compress(places, (~found.taken).tolist()))

    def _messages(self, places: Sequence[int]) -> Sequence[Any]:
        values = self._records.values
        if isinstance(places, range):
            return values[places.start : places.stop]
        return [values[i] for i in places]

    def _take_typed(self, places: Sequence[int]) -> list[int]:
        """Add the events of a block of messages that the type takes. Returns the places of the others."""
        values: Sequence[Any] = self._records.values
        found, refused = self._schema.read([values[i] for i in places])
        taken, elements = without(places, refused), None
        if found.counts is not None:
            taken = list(chain.from_iterable(map(repeat, taken, found.counts)))
            elements = list(chain.from_iterable(map(range, found.counts)))
            self.eventless += found.counts.count(0)
            self.exploded += len(taken) - len(found.counts) + found.counts.count(0)
        if taken:
            self._add(found.by_element(), taken, elements)
        return [places[i] for i in refused]

    def batch(self) -> tuple[DecodedBatch, list[DeadLetter]]:
        """The events that were taken; and dead letters, of those whose time cannot be read."""
        n, grid = len(self._index), self._schema.grid
        index = np.array(self._index, dtype=np.int64)
        times, wrong = event_times(
            self._source, self._timestamps, lambda row: self._records.timestamps[self._index[row]]
        )
        events = Batch(
            grid,
            times,
            np.concatenate(self._hashes) if n else np.empty(0, dtype=np.uint64),
            self._values[:, :n].T,
            np.array(self._type_errors, dtype=np.int64).reshape(-1, 2),
            tuple(self._unseen),
            None,
            np.ones(n, dtype=np.bool_) if self._source.kind is SourceKind.FEATURES else None,
        )
        if not wrong and (np.diff(index) >= 0).all():
            return DecodedBatch(events, index), []
        order = np.argsort(index, kind="stable")  # messages that look alike were taken before the others
        keep = np.ones(n, dtype=np.bool_)
        keep[list(wrong)] = False
        order = order[keep[order]]
        return DecodedBatch(events.take(order), index[order]), list(self._letters(wrong))

    def _letters(self, wrong: Mapping[int, str]) -> Iterator[DeadLetter]:
        for place, rows in groupby(sorted(wrong, key=self._index.__getitem__), self._index.__getitem__):
            elements = ((row, self._elements[row] if self._elements else None) for row in rows)
            yield from dead_letters(place, (Rejected("timestamp", wrong[row], element) for row, element in elements))

    def _add(self, found: Mapping[int, Sequence[Any]], places: Sequence[int], elements: Sequence[int] | None) -> None:
        start, n = len(self._index), len(places)
        matrix, codes, pack = self._with_room(n), self._schema.layout.codes, _pack(n)
        nullable = self._schema.nullable
        packed: dict[int, bytes] = {}
        written: set[int] = set()
        for target, values in found.items():
            if target in self._schema.derived:
                self._derive(self._schema.derived[target], values, start)
                written.update(self._schema.derived[target])
            if not 0 <= target < len(matrix):
                continue
            if target in self._schema.hashed:
                values = self._hashed(values)  # noqa: PLW2901 — nothing else is known of them from here on
            numbers: Iterable[Any] = values
            if target in codes:
                numbers = map(codes[target].__getitem__, values)
            elif target in nullable:
                numbers = [math.nan if value is None else value for value in values]
            try:
                packed[target] = pack(*numbers)
            except struct.error:  # nulls, which become NaN
                nullable.add(target)
                matrix[target, start : start + n] = values
            except KeyError:
                matrix[target, start : start + n] = self._codes(target, values, start)
            written.add(target)
        matrix[list(packed), start : start + n] = np.frombuffer(b"".join(packed.values())).reshape(-1, n)
        for target in set(range(len(matrix))) - written:
            matrix[target, start : start + n] = np.nan
        self._identify(found, places, elements)

    def _identify(
        self, found: Mapping[int, Sequence[Any]], places: Sequence[int], elements: Sequence[int] | None
    ) -> None:
        """Add to the events' values when and what they were."""
        self._timestamps.append(self._timestamps_of(found, places))
        self._hashes.append(self._hashes_of(found, places, elements))
        self._index += places
        self._elements += elements or ()

    def _with_room(self, n: int) -> NDArray[np.float64]:
        """The matrix of values, (columns, events), with room for ``n`` events more."""
        needed, (columns, width) = len(self._index) + n, self._values.shape
        if needed > width:
            larger = np.empty((columns, _width(max(needed, 2 * width))))
            larger[:, :width] = self._values
            self._values = larger
        return self._values

    def _derive(self, columns: Sequence[int], values: Sequence[Any], start: int) -> None:
        """Fill the columns that are derived of one field, from its texts or arrays."""
        of = self._schema.grid.columns
        present = [i for i, value in enumerate(values) if value is not None]
        if of[columns[0]].derived is Derived.LENGTH:
            made = np.array([[len(values[i])] for i in present], dtype=np.float64).reshape(-1, 1)
        else:
            made = vectors(_matrix([values[i] for i in present], of[columns[0]].dimension))
        self._values[columns, start : start + len(values)] = np.nan
        self._put_derived(columns, made, start + np.array(present, dtype=np.int64))

    def _put_derived(self, columns: Sequence[int], made: NDArray[np.float64], rows: NDArray[np.int64]) -> None:
        """Put what was made of one field's values at these rows: (n,), of shape (n, kinds)."""
        of = self._schema.grid.columns
        wrong = ~np.isfinite(made).all(axis=1)
        made[wrong] = np.nan
        for column in columns:
            place = 1 + of[column].index if of[column].derived is Derived.PROJECTION else 0
            self._values[column, rows] = made[:, place]
            self._type_errors += [(row, column) for row in rows[wrong].tolist()]

    def _hashed(self, values: Sequence[Any]) -> Sequence[str | None]:
        names = [None if value is None else category_name(value) for value in values]
        hashes = {name: self._source.privacy.hashed(name) for name in set(names) if name is not None}
        return [None if name is None else hashes[name] for name in names]

    def _codes(self, column: int, values: Sequence[Any], start: int) -> list[float]:
        """Numbers of categories some of which the grid does not know."""
        codes: list[Any] = list(map(self._schema.layout.codes[column].get, values))
        for i, code in enumerate(codes):
            if code is None:
                unseen: list[tuple[int, str]] = []
                codes[i] = self._schema.layout.code(column, values[i], unseen)
                self._unseen += [(start + i, *what) for what in unseen]
        return codes

    def _timestamps_of(self, found: Mapping[int, Sequence[Any]], places: Sequence[int]) -> Written:
        if self._source.event_time is EventTime.RECORD:
            return [None] * len(places)
        place = self._source.mapping.timestamp
        if isinstance(place, At):
            return found.get(TIMESTAMP, [None] * len(places))
        return [*map(timestamp, beside(place, self._records, places))]

    def _hashes_of(
        self, found: Mapping[int, Sequence[Any]], places: Sequence[int], elements: Sequence[int] | None
    ) -> NDArray[np.uint64]:
        place = self._source.mapping.prediction_id
        said: Sequence[Any]
        if isinstance(place, At):
            said = found.get(IDENTITY, [None] * len(places))
        else:
            said = beside(place, self._records, places)
        kinds = set(map(type, said)) if elements is None else set()
        hashed: Iterable[bytes]
        if kinds == {bytes}:
            hashed = said
        elif kinds == {str}:
            hashed = map(str.encode, said)
        else:
            messages: Iterator[Any] = map(self._records.values.__getitem__, places)
            hashed = map(identity_of, repeat(place), said, messages, elements or repeat(None))
        return np.fromiter(map(xxh3_64_intdigest, hashed), dtype=np.uint64, count=len(places))


def _width(n: int) -> int:
    """At least ``n``: a number of columns that does not put the values of one event into one set of the cache."""
    return (n + 7) // 8 * 8 + 8 * ((n + 7) // 8 % 2 == 0)


@lru_cache(maxsize=512)
def _pack(n: int) -> Callable[..., bytes]:
    """Makes bytes of ``n`` floats, four times as fast as numpy makes an array of them."""
    return struct.Struct(f"{n}d").pack


def _matrix(arrays: Sequence[Sequence[float]], dimension: int) -> NDArray[np.float64]:
    """Arrays of one length as the rows of a matrix. Shape (n, dimension)."""
    return np.frombuffer(b"".join(starmap(_pack(dimension), arrays))).reshape(-1, dimension)
