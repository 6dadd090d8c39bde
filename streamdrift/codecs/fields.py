"""Trees of fields: where values stand in a message, made into the type that msgspec decodes it to.

Fields have made-up names, since JSON keys need not be identifiers. A decoded message is not looked at: the values of
each field are collected over all messages of a block, by column.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Annotated, Any, Final, TypeVar

import msgspec

from streamdrift.codecs.places import MAX_ELEMENTS

REQUIRED: Final = msgspec.NODEFAULT
NOWHERE: Final = -1
"""Target of a value that need not be collected."""

_REFUSED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a type raises on a message that it does not take."""
_astuple: Final = msgspec.structs.astuple

_T = TypeVar("_T")


class Conflict(Exception):
    """Two values stand at one place, or one inside the other."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value, and the number under which it is collected."""

    type: Any
    default: Any
    target: int


ABSENT: Final = Leaf(msgspec.UnsetType | msgspec.Raw, msgspec.UNSET, NOWHERE)
"""A key that may not be there: who has it is refused."""


@dataclass(slots=True)
class Collected:
    """The values of a block of messages."""

    values: dict[int, Sequence[Any]] = field(default_factory=dict)
    """By target, one a message."""
    elements: dict[int, Sequence[Any]] = field(default_factory=dict)
    """By target, one an element of the messages' arrays."""
    counts: Sequence[int] | None = None
    """Elements of each message; None where none has an array."""
    refused: set[int] = field(default_factory=set)
    """Places of the messages that only the slow way can read."""

    def by_element(self) -> dict[int, Sequence[Any]]:
        """All values, one an element; those of a message stand there for each of its elements."""
        counts = self.counts
        if counts is None:
            return self.values
        spread = {
            target: list(chain.from_iterable(map(repeat, values, counts))) for target, values in self.values.items()
        }
        return spread | self.elements


class Object:
    """An object with fields; or an array of ``size`` values, whose keys are their positions."""

    def __init__(self, *, required: bool = False) -> None:
        self.children: dict[Any, Object | Items | Leaf] = {}
        self.size: int | None = None
        self.required = required
        self.empty: Any = None
        """What stands for an object that is not there, if it need not be."""

    def object_at(self, path: Sequence[str], *, required: bool = False) -> Object:
        """The object at a path, which is made where there is none yet. Raises ``Conflict``."""
        node = self
        for key in path:
            child = node.children.setdefault(key, Object())
            if not isinstance(child, Object) or node.size is not None:
                raise Conflict
            node = child
            node.required |= required
        return node

    def items_at(self, path: Sequence[str]) -> Items:
        """The array at a path, likewise."""
        items = self.object_at(path[:-1], required=True).children.setdefault(path[-1], Items())
        if not isinstance(items, Items):
            raise Conflict
        return items

    def put(self, path: Sequence[str], leaf: Leaf) -> None:
        """Add a value. Raises ``Conflict`` where something stands already."""
        node = self.object_at(path[:-1], required=leaf.default is REQUIRED)
        if node.children.setdefault(path[-1], leaf) is not leaf or node.size is not None:
            raise Conflict

    def make_type(self, example: object) -> Any:  # noqa: ANN401 — a type that is made at run time
        """The type; its fields stand in the order of the example's keys, where they are looked for first."""
        if self.size is not None:
            self.empty = (None,) * self.size
            return tuple[*(_type_of(self.children.get(i), None) for i in range(self.size))]  # type: ignore[misc]
        known = example if isinstance(example, dict) else {}
        order = {key: place for place, key in enumerate(known)}
        self.children = dict(sorted(self.children.items(), key=lambda item: order.get(item[0], len(order))))
        fields: list[Any] = []
        for i, (key, child) in enumerate(self.children.items()):
            kind = _type_of(child, known.get(key))
            if isinstance(child, Leaf):
                fields.append((f"f{i}", kind, child.default))
            else:
                fields.append((f"f{i}", kind, REQUIRED) if child.required else (f"f{i}", kind | None, None))
        rename = {f"f{i}": key for i, key in enumerate(self.children)}
        made = msgspec.defstruct("Fields", fields, rename=rename, gc=False, kw_only=True)
        self.empty = None if self.required else made()
        return made

    def collect(self, objects: Sequence[Any], values: dict[int, Sequence[Any]], into: Collected) -> None:
        """Add the values of the leaves to ``values``, and what arrays hold to ``into``."""
        children: Iterable[Object | Items | Leaf | None] = self.children.values()
        columns = zip(*(objects if self.size is not None else map(_astuple, objects)), strict=True)
        if self.size is not None:
            children = map(self.children.get, range(self.size))
        for child, column in zip(children, columns, strict=False):
            if isinstance(child, Object):
                present = child.required or None not in column
                filled = column if present else [child.empty if value is None else value for value in column]
                child.collect(filled, values, into)
            elif isinstance(child, Items):
                child.collect(column, into)
            elif child is ABSENT:
                if column.count(msgspec.UNSET) < len(column):
                    into.refused.update(i for i, value in enumerate(column) if value is not msgspec.UNSET)
            elif child is not None and child.target != NOWHERE:
                values[child.target] = column


class Items:
    """An array of any length whose elements are all alike: events, or parts of them."""

    required = True

    def __init__(self) -> None:
        self._element: Object | Leaf | None = None

    def element(self) -> Object:
        """What each element is. Raises ``Conflict``."""
        if self._element is None:
            self._element = Object(required=True)
        if not isinstance(self._element, Object):
            raise Conflict
        return self._element

    def put(self, leaf: Leaf) -> None:
        """Let each element be a value. Raises ``Conflict``."""
        if self._element is not None:
            raise Conflict
        self._element = leaf

    def make_type(self, example: object) -> Any:  # noqa: ANN401 — a type that is made at run time
        """The type, as that of an object."""
        first = example[0] if isinstance(example, list) and example else None
        return Annotated[list[_type_of(self._element, first)], msgspec.Meta(max_length=MAX_ELEMENTS)]  # type: ignore[misc]

    def collect(self, arrays: Sequence[Sequence[Any]], into: Collected) -> None:
        """Add what the arrays hold. Those that are longer or shorter than another of their message are refused."""
        counts = list(map(len, arrays))
        into.counts = into.counts or counts
        if counts != into.counts:
            into.refused.update(i for i, (a, b) in enumerate(zip(counts, into.counts, strict=True)) if a != b)
            return
        elements = list(chain.from_iterable(arrays))
        if isinstance(self._element, Object):
            inner = Collected()
            self._element.collect(elements, into.elements, inner)
            if inner.refused:
                message = list(chain.from_iterable(map(repeat, range(len(counts)), counts)))
                into.refused.update(message[i] for i in inner.refused)
        elif self._element is not None:
            into.elements[self._element.target] = elements


def _type_of(child: Object | Items | Leaf | None, example: object) -> Any:  # noqa: ANN401 — a type that is made at run time
    if child is None:
        return msgspec.Raw
    return child.type if isinstance(child, Leaf) else child.make_type(example)


class Reader:
    """Decodes messages to the fields of a tree."""

    def __init__(self, root: Object | Items, example: bytes = b"") -> None:
        self._root = root
        try:
            document = msgspec.json.decode(example)
        except _REFUSED:
            document = None
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(root.make_type(document)).decode

    def read(self, values: Sequence[bytes]) -> tuple[Collected, list[int]]:
        """The fields of the messages that are taken, and the places of the others."""
        decoded, refused = self._decode_all(values)
        while True:
            found = Collected()
            if isinstance(self._root, Object):
                self._root.collect(decoded, found.values, found)
            else:
                self._root.collect(decoded, found)
            if not found.refused:
                return found, refused
            taken = without(range(len(values)), refused)
            refused = sorted([*refused, *(taken[i] for i in found.refused)])
            decoded = without(decoded, found.refused)

    def _decode_all(self, values: Sequence[bytes]) -> tuple[Sequence[Any], list[int]]:
        taken: list[Any] = []
        refused: list[int] = []
        rest = iter(values)
        while True:
            try:
                taken.extend(map(self._decode, rest))  # what came before a value that is refused stays
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
