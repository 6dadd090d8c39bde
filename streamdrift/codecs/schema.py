"""The types that the events of one grid are decoded into: nested msgspec Structs with just the fields that are needed.

A type refuses whatever the slow way must judge: another model's event, a value of a wrong type, an object that is not
there. What it takes means the same there, only faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import msgspec

from streamdrift.codecs.mapping import At, Const, Mapping, Path
from streamdrift.codecs.places import Model, beside, used_paths
from streamdrift.codecs.source import EventTime, Source
from streamdrift.events import SourceKind
from streamdrift.grids import Column, Kind, Role
from streamdrift.layout import Layout, field_type, keys_of
from streamdrift.records import RecordBatch

TIMESTAMP: Final = -1
IDENTITY: Final = -2
"""Targets of fields that are no columns."""
_NOWHERE: Final = -3
_MUST_BE_ABSENT: Final = -4
"""A key that holds dots itself, and may mean a column: found in the slow way only."""

_astuple: Final = msgspec.structs.astuple
_REQUIRED: Final = msgspec.NODEFAULT

_T = TypeVar("_T")

Found = dict[int, Sequence[Any]]
"""The values of events by target: the number of a column, ``TIMESTAMP`` or ``IDENTITY``. Each of shape (n,)."""


class Schema:
    """How the events of one grid are decoded.

    ``example`` is a message of the kind to expect: fields that stand in the order of its keys are found sooner.
    """

    def __init__(self, layout: Layout, source: Source, example: bytes) -> None:
        self.layout = layout
        self.grid = layout.grid
        self.model: Model = (layout.grid.model_id, layout.grid.model_version)
        self._decode: Callable[[bytes], Any] | None = None
        # The objects of a block stay in the processor's cache; the more of them, the less a call costs each.
        self.block = 256 if len(layout.read) <= 32 else 128 if len(layout.read) <= 100 else 64  # noqa: PLR2004
        self._root = _Node(required=True)
        if layout.grid.blind or layout.is_derived or source.mapping.explode is not None:
            return
        try:
            _Builder(self._root, layout, source).build()
        except _Conflict:  # a value that is an object too has no type
            return
        self._decode = msgspec.json.Decoder(self._root.make_type(_document(example))).decode

    def read(self, values: Sequence[bytes]) -> tuple[Found, list[int]]:
        """What the type takes of the messages, field by field; and the places of the messages that it refuses."""
        if self._decode is None:
            return {}, list(range(len(values)))
        events: Sequence[Any]
        events, refused = decode_all(self._decode, values)
        while True:
            found: Found = {}
            dotted: set[int] = set()
            self._root.collect(events, found, dotted)
            if not dotted:
                return found, refused
            taken = without(range(len(values)), refused)
            refused = sorted([*refused, *(taken[i] for i in dotted)])
            events = without(events, dotted)


def _document(value: bytes) -> object:
    try:
        return msgspec.json.decode(value)
    except _REFUSED:
        return None


class Names:
    """Reads of a message only whose it is."""

    def __init__(self, mapping: Mapping) -> None:
        self._places = mapping.model_id, mapping.model_version
        self._root = _Node(required=True)
        for target, place in enumerate(self._places):
            if isinstance(place, At):
                self._root.put(place.path, _Leaf(str | int, "" if target else _REQUIRED, target))
        self._decode = msgspec.json.Decoder(self._root.make_type(None)).decode if self._root.children else None
        self.are_typed = all(isinstance(place, At | Const) for place in self._places)
        """Whether the type of a grid's events tells whose they are: nothing else in the record does."""

    def of(self, records: RecordBatch, places: Sequence[int]) -> tuple[Iterator[tuple[object, object]], list[int]]:
        """What stands for model and version of each message; and the indices in ``places`` of those that refuse."""
        found: Found = {}
        refused: list[int] = []
        if self._decode:
            values: Sequence[Any] = records.values
            heads, refused = decode_all(self._decode, [values[i] for i in places])
            self._root.collect(heads, found, set())
            places = without(places, refused)
        names = (
            found.get(target, ()) if isinstance(place, At) else beside(place, records, places)
            for target, place in enumerate(self._places)
        )
        return zip(*names, strict=True), refused


class _Conflict(Exception):
    """Two values stand at one place, or one inside the other."""


@dataclass(frozen=True, slots=True)
class _Leaf:
    type: Any
    default: Any
    target: int


_DOTTED: Final = _Leaf(msgspec.UnsetType | msgspec.Raw, msgspec.UNSET, _MUST_BE_ABSENT)


class _Node:
    """An object of fields, or an array (then the keys are the positions)."""

    def __init__(self, *, required: bool = False) -> None:
        self.children: dict[Any, _Node | _Leaf] = {}
        self.size: int | None = None
        self.required = required
        self.empty: Any = None

    def object_at(self, path: Sequence[str], *, required: bool = False) -> _Node:
        """The object at a path, which is made where there is none yet. Raises ``_Conflict``."""
        node = self
        for key in path:
            child = node.children.setdefault(key, _Node())
            if isinstance(child, _Leaf):
                raise _Conflict
            node = child
            node.required |= required
        return node

    def put(self, path: Sequence[str], leaf: _Leaf) -> None:
        """Raises ``_Conflict`` where something stands already."""
        node = self.object_at(path[:-1], required=leaf.default is _REQUIRED)
        if node.children.setdefault(path[-1], leaf) is not leaf:
            raise _Conflict

    def make_type(self, example: object) -> Any:  # noqa: ANN401 — a type that is made at run time
        if self.size is None:
            return self._struct(example)
        self.empty = (None,) * self.size
        return tuple[*(_type_of(self.children.get(i), None) for i in range(self.size))]  # type: ignore[misc]

    def _struct(self, example: object) -> type[msgspec.Struct]:
        """The type. Fields have made-up names, since JSON keys need not be identifiers."""
        known = example if isinstance(example, dict) else {}
        order = {key: place for place, key in enumerate(known)}
        self.children = dict(sorted(self.children.items(), key=lambda item: order.get(item[0], len(order))))
        fields: list[Any] = []
        for i, (key, child) in enumerate(self.children.items()):
            kind = _type_of(child, known.get(key))
            if isinstance(child, _Leaf):
                fields.append((f"f{i}", kind, child.default))
            else:
                fields.append((f"f{i}", kind, _REQUIRED) if child.required else (f"f{i}", kind | None, None))
        rename = {f"f{i}": key for i, key in enumerate(self.children)}
        made = msgspec.defstruct("Fields", fields, rename=rename, gc=False, kw_only=True)
        self.empty = None if self.required else made()
        return made

    def collect(self, objects: Sequence[Any], found: Found, refused: set[int]) -> None:
        """Add the values of the leaves to ``found``, and the places of objects that cannot be read to ``refused``."""
        columns = zip(*(objects if self.size is not None else map(_astuple, objects)), strict=True)
        for child, values in zip(self._fields(), columns, strict=False):
            if isinstance(child, _Node):
                if not child.required and None in values:
                    child.collect([child.empty if value is None else value for value in values], found, refused)
                else:
                    child.collect(values, found, refused)
            elif child is _DOTTED:
                if values.count(msgspec.UNSET) < len(values):
                    refused.update(i for i, value in enumerate(values) if value is not msgspec.UNSET)
            elif child is not None and child.target != _NOWHERE:
                found[child.target] = values

    def _fields(self) -> Iterator[_Node | _Leaf | None]:
        return iter(self.children.values()) if self.size is None else map(self.children.get, range(self.size))


def _type_of(child: _Node | _Leaf | None, example: object) -> Any:  # noqa: ANN401 — a type that is made at run time
    if child is None:
        return msgspec.Raw
    return child.type if isinstance(child, _Leaf) else child.make_type(example)


class _Builder:
    """Puts the fields that an event is made of into a tree."""

    def __init__(self, root: _Node, layout: Layout, source: Source) -> None:
        self._root = root
        self._columns = [(i, layout.grid.columns[i]) for i in layout.read]
        self._grid = layout.grid
        self._source = source
        self._mapping = source.mapping

    def build(self) -> None:
        """Raises ``_Conflict``."""
        self._put_names()
        if isinstance(self._mapping.timestamp, At) and self._source.event_time is EventTime.EVENT:
            self._root.put(self._mapping.timestamp.path, _Leaf(str | int | float | None, None, TIMESTAMP))
        if isinstance(self._mapping.prediction_id, At):
            self._root.put(self._mapping.prediction_id.path, _Leaf(str | int | None, None, IDENTITY))
        self._put_features([(i, column) for i, column in self._columns if column.role is Role.FEATURE])
        self._put_prediction([(i, column) for i, column in self._columns if column.role is Role.PREDICTION])

    def _put_names(self) -> None:
        for place, name in (
            (self._mapping.model_id, self._grid.model_id),
            (self._mapping.model_version, self._grid.model_version),
        ):
            if isinstance(place, At):
                self._root.put(place.path, _Leaf(_literal(name), name or _REQUIRED, _NOWHERE))

    def _put_features(self, columns: Sequence[tuple[int, Column]]) -> None:
        names, used = self._mapping.feature_names, list(used_paths(self._mapping))
        # An event without what it cannot do without goes the slow way, to be judged.
        needed = bool(columns) or self._source.kind is SourceKind.FEATURES
        base = self._root.object_at(self._mapping.features.path, required=needed)
        if not names:
            for i, column in columns:
                _put_flattened(base, keys_of(column), _leaf(i, column), used)
            return
        base.size = len(names)
        for i, column in columns:
            keys = keys_of(column)
            if column.name in names:
                base.children[names.index(column.name)] = _leaf(i, column)
            if any(".".join(keys[:end]) in names for end in range(1, len(keys))):
                raise _Conflict  # an object in the array, which is seldom

    def _put_prediction(self, columns: Sequence[tuple[int, Column]]) -> None:
        place = self._mapping.prediction
        if isinstance(place, At):
            base = self._root.object_at(place.path, required=self._source.kind is SourceKind.PREDICTIONS)
            for i, column in columns:
                _put_flattened(base, keys_of(column), _leaf(i, column), [])
            return
        places = dict(place.items())
        for i, column in columns:
            part, *keys = keys_of(column)
            if part in places and not keys:
                self._root.put(places[part].path, _leaf(i, column))
            elif part in places:
                _put_flattened(self._root.object_at(places[part].path), keys, _leaf(i, column), [])


def _leaf(target: int, column: Column) -> _Leaf:
    return _Leaf(field_type(column), math.nan if column.kind is Kind.NUMERIC else None, target)


def _literal(name: str) -> Any:  # noqa: ANN401 — a type that is made at run time
    """A name as a message may write it: an integer is a name too."""
    whole = name.removeprefix("-")
    is_integer = whole.isascii() and whole.isdecimal() and str(int(name)) == name and abs(int(name)) < 1 << 63
    return Literal[name, int(name)] if is_integer else Literal[name]


def _put_flattened(base: _Node, keys: Sequence[str], leaf: _Leaf, used: Sequence[Path]) -> None:
    """A column at its path, unless something else stands there, and at every other spelling what tells of it."""
    node = base
    for depth in range(len(keys)):
        for end in range(depth + 2, len(keys) + 1):
            node.children.setdefault(".".join(keys[depth:end]), _DOTTED)
        if tuple(keys[: depth + 1]) in used:
            return
        if depth + 1 < len(keys):
            node = node.object_at(keys[depth : depth + 1])
    node.put(keys[-1:], leaf)


_REFUSED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a type raises on a message that it does not take."""


def decode_all(decode: Callable[[bytes], Any], values: Sequence[bytes]) -> tuple[list[Any], list[int]]:
    """What is made of the values that are taken, in their order, and the places of the others."""
    taken: list[Any] = []
    refused: list[int] = []
    rest = iter(values)
    while True:
        try:
            taken.extend(map(decode, rest))  # what came before a value that is refused stays
        except _REFUSED:
            refused.append(len(taken) + len(refused))
        else:
            return taken, refused


def without(values: Sequence[_T], places: Collection[int]) -> Sequence[_T]:
    """The values but for those at the places."""
    if not places:
        return values
    out = set(places)
    return [value for i, value in enumerate(values) if i not in out]
