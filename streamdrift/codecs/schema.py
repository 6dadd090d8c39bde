"""What is decoded of the events of one grid: just the fields that are needed.

The types refuse whatever the slow way must judge: another model's event, a value of a wrong type, an object that is
not there. What they take means the same there, only faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, Literal

from streamdrift.codecs.fields import (
    ABSENT,
    NOWHERE,
    REQUIRED,
    Collected,
    Conflict,
    Items,
    Leaf,
    Object,
    Reader,
    without,
)
from streamdrift.codecs.mapping import At, Const, Mapping, Path
from streamdrift.codecs.places import Model, beside, used_paths
from streamdrift.codecs.source import EventTime, Source
from streamdrift.events import SourceKind
from streamdrift.grids import Column, Kind, Role
from streamdrift.layout import Layout, field_type, keys_of
from streamdrift.records import RecordBatch

TIMESTAMP: Final = -2
IDENTITY: Final = -3
"""Targets of fields that are no columns."""


class Schema:
    """How the events of one grid are decoded. ``example`` is a message of the kind to expect."""

    def __init__(self, layout: Layout, source: Source, example: bytes) -> None:
        self.layout = layout
        self.grid = layout.grid
        self.model: Model = (layout.grid.model_id, layout.grid.model_version)
        # The objects of a block stay in the processor's cache; the more of them, the less a call costs each.
        events = 256 if len(layout.read) <= 32 else 128 if len(layout.read) <= 100 else 64  # noqa: PLR2004
        self.block = events if source.mapping.explode is None else events // 8
        self.nullable: set[int] = set()
        """Columns of numbers in which null was seen, which packs no number; only a hint."""
        self._reader: Reader | None = None
        if not layout.grid.blind and not layout.is_derived:
            with suppress(Conflict):  # a value that is an object too has no type
                self._reader = Reader(_Builder(layout, source).root(), example)

    def read(self, values: Sequence[bytes]) -> tuple[Collected, list[int]]:
        """What the types take of the messages, field by field; and the places of the messages that they refuse."""
        return self._reader.read(values) if self._reader else (Collected(), list(range(len(values))))


class Names:
    """Reads of a message only whose it is."""

    def __init__(self, mapping: Mapping) -> None:
        self._places = mapping.model_id, mapping.model_version
        self.are_typed = all(isinstance(place, At | Const) for place in self._places)
        """Whether the type of a grid's events tells whose they are: nothing else in the record does."""
        self.are_of_messages = all(not isinstance(place, At) or place.array is None for place in self._places)
        """Whether all events of a message have one model."""
        self._reader: Reader | None = None
        root = Object(required=True)
        try:
            for target, place in enumerate(self._places):
                if isinstance(place, At):
                    root.put(place.path, Leaf(str | int, "" if target else REQUIRED, target))
        except Conflict:  # one name would have to be inside the other: the slow way says so
            self.are_of_messages = False
        if root.children:
            self._reader = Reader(root)

    def of(self, records: RecordBatch, places: Sequence[int]) -> tuple[Iterator[tuple[object, object]], list[int]]:
        """What stands for model and version of each message; and the indices in ``places`` of those that refuse."""
        found, refused = Collected(), list[int]()
        if self._reader:
            values: Sequence[Any] = records.values
            found, refused = self._reader.read([values[i] for i in places])
            places = without(places, refused)
        names = (
            found.values.get(target, ()) if isinstance(place, At) else beside(place, records, places)
            for target, place in enumerate(self._places)
        )
        return zip(*names, strict=True), refused


class _Builder:
    """Puts the fields that an event is made of into a tree."""

    def __init__(self, layout: Layout, source: Source) -> None:
        self._columns = [(i, layout.grid.columns[i]) for i in layout.read]
        self._grid = layout.grid
        self._source = source
        self._mapping = source.mapping
        self._root: Object | Items = Items() if source.mapping.explode == () else Object(required=True)

    def root(self) -> Object | Items:
        """The whole tree. Raises ``Conflict``."""
        if self._mapping.explode is not None:
            self._items(self._mapping.explode)
        for place, name in (
            (self._mapping.model_id, self._grid.model_id),
            (self._mapping.model_version, self._grid.model_version),
        ):
            self._put(place, Leaf(_literal(name), name or REQUIRED, NOWHERE))
        if self._source.event_time is EventTime.EVENT:
            self._put(self._mapping.timestamp, Leaf(str | int | float | None, None, TIMESTAMP))
        self._put(self._mapping.prediction_id, Leaf(str | int | None, None, IDENTITY))
        self._put_features([(i, column) for i, column in self._columns if column.role is Role.FEATURE])
        self._put_prediction([(i, column) for i, column in self._columns if column.role is Role.PREDICTION])
        return self._root

    def _items(self, array: Path) -> Items:
        if isinstance(self._root, Object):
            return self._root.items_at(array)
        if array:
            raise Conflict
        return self._root

    def _object(self, place: At, *, required: bool = False) -> Object:
        if place.array is not None:
            return self._items(place.array).element().object_at(place.path, required=required)
        if not isinstance(self._root, Object):
            raise Conflict
        return self._root.object_at(place.path, required=required)

    def _put(self, place: object, leaf: Leaf) -> None:
        if not isinstance(place, At):
            return
        if place.array is not None and not place.path:
            self._items(place.array).put(leaf)
        else:
            self._object(At((), place.array)).put(place.path, leaf)

    def _put_features(self, columns: Sequence[tuple[int, Column]]) -> None:
        names, used = self._mapping.feature_names, list(used_paths(self._mapping))
        # An event without what it cannot do without goes the slow way, to be judged.
        base = self._object(self._mapping.features, required=bool(columns) or self._source.kind is SourceKind.FEATURES)
        if not names:
            for i, column in columns:
                _put_flattened(base, keys_of(column), _leaf(i, column), used)
            return
        if base.children:
            raise Conflict
        base.size = len(names)
        for i, column in columns:
            keys = keys_of(column)
            if column.name in names:
                base.children[names.index(column.name)] = _leaf(i, column)
            if any(".".join(keys[:end]) in names for end in range(1, len(keys))):
                raise Conflict  # an object in the array, which is seldom

    def _put_prediction(self, columns: Sequence[tuple[int, Column]]) -> None:
        place = self._mapping.prediction
        if isinstance(place, At):
            base = self._object(place, required=self._source.kind is SourceKind.PREDICTIONS)
            for i, column in columns:
                _put_flattened(base, keys_of(column), _leaf(i, column), [])
            return
        places = dict(place.items())
        for i, column in columns:
            part, *keys = keys_of(column)
            if part in places and not keys:
                self._put(places[part], _leaf(i, column))
            elif part in places:
                _put_flattened(self._object(places[part]), keys, _leaf(i, column), [])


def _leaf(target: int, column: Column) -> Leaf:
    return Leaf(field_type(column), math.nan if column.kind is Kind.NUMERIC else None, target)


def _literal(name: str) -> Any:  # noqa: ANN401 — a type that is made at run time
    """A name as a message may write it: an integer is a name too."""
    whole = name.removeprefix("-")
    is_integer = whole.isascii() and whole.isdecimal() and str(int(name)) == name and abs(int(name)) < 1 << 63
    return Literal[name, int(name)] if is_integer else Literal[name]


def _put_flattened(base: Object, keys: Sequence[str], leaf: Leaf, used: Sequence[Path]) -> None:
    """A column at its path, unless something else stands there; every other spelling of its name must be absent."""
    node = base
    for depth in range(len(keys)):
        for end in range(depth + 2, len(keys) + 1):
            node.children.setdefault(".".join(keys[depth:end]), ABSENT)
        if tuple(keys[: depth + 1]) in used:
            return
        if depth + 1 < len(keys):
            node = node.object_at(keys[depth : depth + 1])
    node.put(keys[-1:], leaf)
