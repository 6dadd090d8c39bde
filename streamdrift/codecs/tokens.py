"""Templates as tables of tokens: how ``kernel`` is told what the messages of a service look like."""

from __future__ import annotations

from typing import Final

import numpy as np

NUMBER, CATEGORY, LENGTH, TIME, EPOCH, IDENTITY, UNREAD, END = range(8)
"""What a value is read as: an epoch is a time that is a number; no value stands at the end of a message."""

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

``literal`` is the address of ``length`` bytes; ``optional`` says whether these and the value may be left out.
``target`` is the row of the values that a number or a category goes to. A number may be null, which becomes NaN, if it
is ``nullable``. A category has its names in a hash table of ``mask`` + 1 slots at the address ``names``; its categories
that are numbers at addresses from ``levels`` to ``levels_end``; and the codes of ``true`` and ``false``, NaN for none.
"""
NAME: Final = np.dtype([("hash", np.uint64), ("start", np.int64), ("length", np.int64), ("code", np.float64)])
"""A category by its name: its hash, 0 in an empty slot; address and length of the name; and its code."""
LEVEL: Final = np.dtype([("value", np.float64), ("code", np.float64)])
"""A category that is a number, and its code."""
FACTS: Final = 4
"""Of a message: the addresses of its id, and behind it; what its time is, and that: microseconds since the epoch, an
integer as it is, the bits of a float, or the address of a text."""
IS_INTEGER, IS_FLOAT, IS_TIME = -1, -2, -3
"""What a time is, in place of the length of a text; a text like 2026-11-22T10:00:00.123Z is a time."""
NAME_BYTES, LEVEL_BYTES, FACT_BYTES = NAME.itemsize, LEVEL.itemsize, 8 * FACTS

PADDING: Final = 32
"""Zero bytes that must lie behind messages and patterns: so far beyond their ends is looked."""
REFUSED: Final = -1
"""In place of an address: the message is not read."""

_HASH_START, _HASH_PRIME = 0xCBF29CE484222325, 0x100000001B3


def name_hash(name: bytes) -> int:
    """FNV-1a with 64 bits; never 0."""
    value = _HASH_START
    for byte in name:
        value = ((value ^ byte) * _HASH_PRIME) & 0xFFFFFFFFFFFFFFFF
    return value or 1
