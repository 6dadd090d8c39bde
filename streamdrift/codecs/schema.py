"""What is decoded of the events of one grid: just the fields that are needed.

The types refuse whatever the slow way must judge: another model's event, a value of a wrong type, an object that is
not there. What they take means the same there, only faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Annotated, Any, Final, Literal

import msgspec

from streamdrift.codecs import tokens
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
from streamdrift.codecs.template import Targets, Template, Unsuitable, is_available
from streamdrift.codecs.times import takes_texts
from streamdrift.events import SourceKind
from streamdrift.grids import Column, Derived, Grid, Kind, Role
from streamdrift.layout import Layout, field_type, keys_of
from streamdrift.privacy import Fate
from streamdrift.records import RecordBatch

MAX_TEMPLATES: Final = 4
"""Looks of messages that are known at once, of one grid."""
TIMESTAMP: Final = -2
IDENTITY: Final = -3
"""Targets of fields that are no columns."""


class Schema:
    """How the events of one grid are decoded. ``example`` is a message of the kind to expect."""

    def __init__(self, layout: Layout, source: Source, example: bytes, max_templates: int = MAX_TEMPLATES) -> None:
        self._max_templates = max_templates if is_available() else 0
        self._takes_texts = takes_texts(source)
        self.layout = layout
        self.grid = layout.grid
        self.model: Model = (layout.grid.model_id, layout.grid.model_version)
        self.block = _block(layout.grid) if source.mapping.explode is None else _block(layout.grid) // 8
        """Messages to be read at once."""
        self.derived: dict[int, list[int]] = {}
        """Derived columns by the target of the field that they are of."""
        self.nullable: set[int] = set()
        """Columns of numbers in which null was seen, which packs no number; only a hint."""
        self._reader: Reader | None = None
        self.hashed: set[int] = set()
        """Columns whose values are replaced by their hashes."""
        self.templates: list[Template] = []
        """What messages looked like of late; a hint too."""
        self._root: Object | Items | None = None
        if not layout.grid.blind:
            with suppress(Conflict):  # a value that is an object too has no type
                builder = _Builder(layout, source)
                self._root = builder.root()
                self._reader = Reader(self._root, example)
                self.derived, self.hashed = builder.derived, builder.hashed
        if self._reader and not self._reader.read([example])[1]:
            self.learn(example)

    def learn(self, example: bytes) -> None:
        """Expect more messages that look like this one, which the type takes."""
        if self._root is None or self.hashed or len(self.templates) == self._max_templates:
            return
        dimensions = {target: self.grid.columns[columns[0]].dimension for target, columns in self.derived.items()}
        targets = Targets(
            len(self.grid.columns),
            self.layout.codes,
            {target: columns[0] for target, columns in self.derived.items() if not dimensions[target]},
            {target: dimension for target, dimension in dimensions.items() if dimension},
            {TIMESTAMP: tokens.TIME if self._takes_texts else tokens.EPOCH, IDENTITY: tokens.IDENTITY},
        )
        with suppress(Unsuitable):
            self.templates.append(Template(self._root, targets, example))

    def read(self, values: Sequence[bytes]) -> tuple[Collected, list[int]]:
        """What the types take of the messages, field by field; and the places of the messages that they refuse."""
        return self._reader.read(values) if self._reader else (Collected(), list(range(len(values))))


def _block(grid: Grid) -> int:
    """The objects of a block stay in the processor's cache; the more of them, the less a call costs each."""
    numbers = sum(column.dimension for column in grid.columns if column.derived is Derived.NORM) + len(grid.columns)
    return next((block for most, block in ((34, 256), (100, 128), (400, 64)) if numbers <= most), 16)


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
        self.derived: dict[int, list[int]] = {}
        self.hashed: set[int] = set()
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
            self._put(place, Leaf(_literal(name), REQUIRED if name else name, NOWHERE))
        if self._source.event_time is EventTime.EVENT:
            self._put(self._mapping.timestamp, Leaf(str | int | float | None, None, TIMESTAMP))
        self._put(self._mapping.prediction_id, Leaf(str | int | None, None, IDENTITY))
        self._put_features(list(self._fields(Role.FEATURE)))
        self._put_prediction(list(self._fields(Role.PREDICTION)))
        return self._root

    def _fields(self, role: Role) -> Iterator[tuple[Column, Leaf]]:
        """What is read of features or prediction: a value for each column, or for several that are derived of it."""
        of_source: dict[str, list[int]] = {}
        for i, column in self._columns:
            fate = self._source.privacy.fate(column.source)
            if column.role is not role or fate is Fate.DROPPED:
                continue
            if fate is Fate.HASHED and column.kind is Kind.NUMERIC:
                raise Conflict  # a hash is no number: every value is of a wrong type
            if fate is Fate.HASHED:
                self.hashed.add(i)
                yield column, Leaf(str | bool | int | float | None, None, i)
            elif column.derived:
                of_source.setdefault(column.source, []).append(i)
            else:
                yield column, Leaf(field_type(column), math.nan if column.kind is Kind.NUMERIC else None, i)
        for columns in of_source.values():
            target = len(self._grid.columns) + len(self.derived)
            self.derived[target] = columns
            types = {_source_type(self._grid.columns[i]) for i in columns}
            if len(types) > 1:
                raise Conflict
            yield self._grid.columns[columns[0]], Leaf(types.pop(), None, target)

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

    def _put_features(self, fields: Sequence[tuple[Column, Leaf]]) -> None:
        names, used = self._mapping.feature_names, list(used_paths(self._mapping))
        # An event without what it cannot do without goes the slow way, to be judged.
        base = self._object(self._mapping.features, required=bool(fields) or self._source.kind is SourceKind.FEATURES)
        if not names:
            for column, leaf in fields:
                _put_flattened(base, keys_of(column), leaf, used)
            return
        if base.children:
            raise Conflict
        base.size = len(names)
        for column, leaf in fields:
            keys = keys_of(column)
            if column.source in names:
                base.children[names.index(column.source)] = leaf
            if any(".".join(keys[:end]) in names for end in range(1, len(keys))):
                raise Conflict  # an object in the array, which is seldom

    def _put_prediction(self, fields: Sequence[tuple[Column, Leaf]]) -> None:
        place = self._mapping.prediction
        if isinstance(place, At):
            base = self._object(place, required=self._source.kind is SourceKind.PREDICTIONS)
            for column, leaf in fields:
                _put_flattened(base, keys_of(column), leaf, [])
            return
        places = dict(place.items())
        for column, leaf in fields:
            part, *keys = keys_of(column)
            if part in places and not keys:
                self._put(places[part], leaf)
            elif part in places:
                _put_flattened(self._object(places[part]), keys, leaf, [])


def _source_type(column: Column) -> Any:  # noqa: ANN401 — a type that is made at run time
    """What a derived column is made of."""
    if column.derived is Derived.LENGTH:
        return str | None
    return Annotated[list[float], msgspec.Meta(min_length=column.dimension, max_length=column.dimension)] | None


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
