"""What the messages of a service look like, learned from one of them: the fastest way to read the others.

Keys of one service's messages stand in one order, nearly always, and with the same space between them. So what lies
between two values is compared as bytes, and values are read straight into the columns' numbers (``kernel``). A message
that looks otherwise is refused, and read by its type: a template decides how fast a message is read, never as what.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.codecs import tokens
from streamdrift.codecs.fields import ABSENT, NOWHERE, Items, Leaf, Object

_MOST_TOKENS: Final = 10_000
_SPACES: Final = re.compile(r"[ \t\r\n]*")
_PADDING: Final = b"\0" * tokens.PADDING
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_value_at: Final = json.JSONDecoder().raw_decode


class Unsuitable(Exception):
    """No template can be made of a message, or of events that are to be read so."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What becomes of the fields of a tree, by their targets."""

    columns: int
    """Targets from 0 to here are columns."""
    codes: Mapping[int, Mapping[object, float]]
    """Codes of categories, by their values; of the other columns, numbers are read."""
    lengths: Mapping[int, int]
    """Columns of the lengths of texts."""
    arrays: Mapping[int, int]
    """Lengths of the arrays of numbers."""
    others: Mapping[int, int]
    """Kinds of tokens of those that are no columns."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What was read of a block of messages beside its numbers."""

    taken: NDArray[np.bool_]
    """Which messages were taken. Shape (messages,)."""
    identities: Sequence[bytes] | None
    """Of those that were; None where the messages have none."""
    timestamps: Sequence[object] | NDArray[np.int64] | None
    """Likewise; all of them in microseconds, or as they are written."""


class Template:
    """Reads messages that look like ``example``. Raises ``Unsuitable``."""

    def __init__(self, root: Object | Items, targets: Targets, example: bytes) -> None:
        try:
            writer = _Writer(targets, example.decode())
            writer.document(root)
        except (ValueError, RecursionError):  # other encodings, and what else only some parsers take
            raise Unsuitable from None
        self.arrays: Mapping[int, range] = writer.arrays
        """Rows of numbers, behind the columns', that arrays are read into, by target."""
        self.targets = targets.columns + sum(map(len, writer.arrays.values()))
        """Rows of numbers in all."""
        self.missing = sorted(set(range(targets.columns)) - writer.columns)
        """Columns that are not read."""
        self._kinds = {token["kind"] for token in writer.tokens}
        self._patterns = np.frombuffer(bytes(writer.patterns) + _PADDING, dtype=np.uint8)
        self._names = np.array(writer.names, dtype=tokens.NAME)
        self._levels = np.array(writer.levels, dtype=tokens.LEVEL)
        fields = tokens.TOKEN.names or ()
        rows = [tuple(token.get(name, 0) for name in fields) for token in writer.tokens]
        self._tokens = np.array(rows, dtype=tokens.TOKEN)
        # From places in a table to addresses.
        self._names["start"] += self._patterns.ctypes.data
        self._tokens["literal"] += self._patterns.ctypes.data
        for field, table in (("names", self._names), ("levels", self._levels), ("levels_end", self._levels)):
            self._tokens[field] = table.ctypes.data + table.itemsize * self._tokens[field]

    def read(self, messages: Sequence[bytes], values: NDArray[np.float64]) -> Taken:
        """Read the numbers of the messages that are taken into ``values`` (targets, messages), side by side."""
        n = len(messages)
        buffer = b"".join([*messages, _PADDING])
        origin = np.frombuffer(buffer, dtype=np.uint8).ctypes.data
        starts = np.zeros(n + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, messages), dtype=np.int64, count=n), out=starts[1:])
        facts, taken = np.empty((n, tokens.FACTS), dtype=np.int64), np.empty(n, dtype=np.bool_)
        count = _kernel().read(
            starts + origin, self._tokens, values.ctypes.data, values.strides[0], facts.ctypes.data, taken
        )
        identities = timestamps = None
        if tokens.IDENTITY in self._kinds:
            identities = [buffer[first:last] for first, last in (facts[:count, :2] - origin).tolist()]
        if {tokens.TIME, tokens.EPOCH} & self._kinds:
            timestamps = _timestamps(facts[:count, 2], facts[:count, 3], buffer, origin)
        return Taken(taken, identities, timestamps)


def _timestamps(
    sizes: NDArray[np.int64], found: NDArray[np.int64], buffer: bytes, origin: int
) -> Sequence[object] | NDArray[np.int64]:
    """Times as ``event_times`` takes them, from the facts of messages: (n,) and (n,)."""
    if (sizes == tokens.IS_TIME).all():
        return found
    if (sizes == tokens.IS_INTEGER).all():
        return list(found.tolist())
    written: list[object] = []
    for size, fact in zip(sizes.tolist(), found.tolist(), strict=True):
        if size == tokens.IS_TIME:
            written.append(_EPOCH + timedelta(microseconds=fact))
        elif size == tokens.IS_INTEGER:
            written.append(fact)
        elif size == tokens.IS_FLOAT:
            written.append(float(np.int64(fact).view(np.float64)))
        else:
            written.append(buffer[fact - origin : fact - origin + size].decode("ascii"))
    return written


class _Writer:
    """Goes through a message and writes down its tokens."""

    def __init__(self, targets: Targets, text: str) -> None:
        self._targets = targets
        self._text = text
        self._mark = 0
        """Behind what the tokens so far cover."""
        self._plain = False
        """Whether nothing but a comma will stand between the last value and the next key."""
        self.tokens: list[dict[str, Any]] = []
        self.names: list[tuple[int, int, int, float]] = []
        self.levels: list[tuple[float, float]] = []
        self.patterns = bytearray()
        self.columns: set[int] = set()
        self.arrays: dict[int, range] = {}

    def document(self, root: Object | Items) -> None:
        """Write down the whole message."""
        at = self._node(root, self._spaces(0))
        if self._spaces(at) != len(self._text):
            raise Unsuitable
        self._token(tokens.END, len(self._text))

    def _spaces(self, at: int) -> int:
        match = _SPACES.match(self._text, at)
        return match.end() if match else at

    def _node(self, node: Object | Items | Leaf | None, at: int) -> int:
        """Write down the value that begins here; where it ends."""
        text = self._text
        if isinstance(node, Items) or node is ABSENT:
            raise Unsuitable
        if isinstance(node, Object) and not text.startswith("null", at):
            return self._object(node, at) if node.size is None else self._array(node, at)
        if isinstance(node, Object):
            self._plain = False
            return at + len("null")
        return self._leaf(node, at, _value_at(text, at)[1])

    def _leaf(self, leaf: Leaf | None, at: int, end: int) -> int:
        """Write down a value from ``at`` to ``end``."""
        target = NOWHERE if leaf is None else leaf.target
        if leaf is not None and (target == NOWHERE or self._is_absent(target, at)):
            self._plain = False  # a constant, which every message must have as it stands here
            return end
        if target in self._targets.arrays:
            return self._numbers(target, at)
        if leaf is None:
            self._token(tokens.UNREAD, at, optional=True)
        elif target in self._targets.others:
            self._token(self._targets.others[target], at)
        elif target in self._targets.lengths:
            self._token(tokens.LENGTH, at, optional=True, target=self._new_column(self._targets.lengths[target]))
        else:
            self._column(self._new_column(target), at)
        self._mark, self._plain = end, True
        return end

    def _is_absent(self, target: int, at: int) -> bool:
        """Whether null stands for a value that is no column's."""
        is_column = target < self._targets.columns and target not in self._targets.others
        return not is_column and target not in self._targets.lengths and self._text.startswith("null", at)

    def _object(self, node: Object, at: int) -> int:
        text, keys = self._text, set[str]()
        self._plain = False
        at = self._spaces(at + 1)
        while text[at] != "}":
            key, at = _value_at(text, at)
            if key in keys:
                raise Unsuitable  # of two values the later one counts
            keys.add(key)
            at = self._spaces(self._spaces(at) + 1)
            at = self._spaces(self._node(node.children.get(key), at))
            if text[at] == ",":
                at = self._spaces(at + 1)
        self._plain = False
        return at + 1

    def _array(self, node: Object, at: int) -> int:
        text, place = self._text, 0
        at = self._spaces(at + 1)
        while text[at] != "]":
            self._plain = False  # what is left out would move the others
            at = self._spaces(self._node(node.children.get(place), at))
            place += 1
            if text[at] == ",":
                at = self._spaces(at + 1)
        if place != node.size:
            raise Unsuitable
        self._plain = False
        return at + 1

    def _numbers(self, target: int, at: int) -> int:
        """An array of as many numbers as it always has."""
        text, size = self._text, self._targets.arrays[target]
        first = self._targets.columns + sum(map(len, self.arrays.values()))
        self.arrays[target] = range(first, first + size)
        if text[at] != "[":
            raise Unsuitable
        for row in self.arrays[target]:
            at = self._spaces(at + 1)
            self._plain = False  # none may be left out
            self._token(tokens.NUMBER, at, target=row)
            self._mark = _value_at(text, at)[1]
            at = self._spaces(self._mark)
        self._plain = False
        return at + 1

    def _new_column(self, column: int) -> int:
        if column in self.columns:
            raise Unsuitable
        self.columns.add(column)
        return column

    def _column(self, target: int, at: int) -> None:
        codes = self._targets.codes.get(target)
        if codes is None:
            self._token(tokens.NUMBER, at, optional=True, target=target, nullable=True)
        else:
            self._token(tokens.CATEGORY, at, optional=True, target=target, **self._category(codes))

    def _category(self, codes: Mapping[object, float]) -> dict[str, Any]:
        """The fields of a category's token; its names and levels are added to the tables."""
        names = {name.encode(): code for name, code in codes.items() if isinstance(name, str)}
        slots = 2 << len(names).bit_length()
        table = [(0, 0, 0, 0.0)] * slots
        for name, code in names.items():
            digest = tokens.name_hash(name)
            slot = (digest >> 32) % slots
            while table[slot][0]:
                slot = (slot + 1) % slots
            table[slot] = digest, self._pattern(name), len(name), code
        levels = [(level, code) for level, code in codes.items() if isinstance(level, float)]
        self.names += table
        self.levels += levels
        return {
            "names": len(self.names) - slots,
            "mask": slots - 1,
            "levels": len(self.levels) - len(levels),
            "levels_end": len(self.levels),
            **{
                word: next((code for value, code in codes.items() if value is truth), math.nan)
                for word, truth in (("true", True), ("false", False))
            },
        }

    def _token(self, kind: int, at: int, *, optional: bool = False, target: int = -1, **fields: Any) -> None:  # noqa: ANN401 — numbers of the token's
        """A value that begins at ``at``, and all that stands before it and behind the last one."""
        literal = self._text[self._mark : at].encode()
        if len(self.tokens) == _MOST_TOKENS:
            raise Unsuitable
        self.tokens.append(
            {"kind": kind, "literal": self._pattern(literal), "length": len(literal), "target": target}
            | {"optional": optional and self._plain}
            | fields
        )

    def _pattern(self, text: bytes) -> int:
        """Where the patterns have a text from now on."""
        self.patterns += text
        return len(self.patterns) - len(text)


@cache
def _kernel() -> ModuleType:
    return import_module("streamdrift.codecs.kernel")


@cache
def is_available() -> bool:
    """Whether messages can be read so: the compiler is an extra."""
    return find_spec("numba") is not None


def prepare() -> bool:
    """Load or compile what reads, which takes seconds, so that the first messages need not wait; whether there is any.

    What is compiled is kept beside the code or in ``NUMBA_CACHE_DIR``, if that can be written to.
    """
    if is_available():
        root = Object()
        root.put(("x",), Leaf(float, math.nan, 0))
        Template(root, Targets(1, {}, {}, {}, {}), b'{"x":0}').read([b'{"x":1}'], np.empty((1, 1)))
    return is_available()
