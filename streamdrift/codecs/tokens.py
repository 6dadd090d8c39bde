"""Templates as tables of tokens: how ``kernel`` is told what the messages of a service look like."""

from __future__ import annotations

from typing import Final

import numpy as np

NUMBER, CATEGORY, LENGTH, TIME, IDENTITY, UNREAD, END = range(7)
"""What a value is read as; no value stands at the end of a message."""

TOKEN: Final = np.dtype(
    [
        ("kind", np.int64),
        ("literal", np.int64),
        ("length", np.int64),
        ("optional", np.int64),
        ("target", np.int64),
        ("nullable", np.int64),
        ("names", np.int64),
        ("mask", np.int64),
        ("levels", np.int64),
        ("levels_end", np.int64),
        ("true", np.float64),
        ("false", np.float64),
    ]
)
"""A value, and the bytes that stand before it.

``literal`` and ``length`` say where the patterns hold these; ``optional``, whether they and the value may be left out.
``target`` is the row of the values that a number or a category goes to. A number may be null, which becomes NaN, if it
is ``nullable``. A category has its names in a hash table from ``names`` on, of ``mask`` + 1 slots; its categories that
are numbers in ``levels`` [``levels``, ``levels_end``); and the codes of ``true`` and ``false``, NaN for none.
"""
NAME: Final = np.dtype([("hash", np.uint64), ("start", np.int64), ("length", np.int64), ("code", np.float64)])
"""A category by its name: its hash, 0 in an empty slot; where the patterns hold it; and its code."""
LEVEL: Final = np.dtype([("value", np.float64), ("code", np.float64)])
"""A category that is a number, and its code."""

PADDING: Final = 32
"""Zero bytes that must lie behind messages and patterns: so far beyond their ends is looked."""
MAX_TIME: Final = 32
"""Most characters of a time."""
IS_INTEGER, IS_FLOAT = -1, -2
"""In place of the length of a time that is no text."""
REFUSED: Final = -1
"""In place of an address: the message is not read."""

_HASH_START, _HASH_PRIME = 0xCBF29CE484222325, 0x100000001B3


def name_hash(name: bytes) -> int:
    """FNV-1a with 64 bits; never 0."""
    value = _HASH_START
    for byte in name:
        value = ((value ^ byte) * _HASH_PRIME) & 0xFFFFFFFFFFFFFFFF
    return value or 1
