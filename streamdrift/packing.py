"""How arrays, raw values and raw rows stand in records: in few bytes, and in pieces that brokers take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.summaries import Pairs, RawRows, Row

MAX_PART_BYTES: Final = 256 * 1024
"""A larger summary is split by blocks of columns: brokers refuse records over 1 MB by default."""


class PackedPairs(msgspec.Struct, array_like=True, frozen=True):
    """Raw values of one column; times are microseconds after the tick's start of the record."""

    hashes: bytes
    times: bytes
    values: bytes
    repeats: bytes
    total: int


class PackedRows(msgspec.Struct, array_like=True, frozen=True):
    """Raw rows; times are microseconds after the tick's start of the record."""

    hashes: bytes
    times: bytes
    repeats: bytes
    payloads: list[bytes]
    total: int
    first_left_out: tuple[int, int, bytes] | None
    """As hash, time since the epoch, and payload."""


def pack_rows(rows: RawRows, start_us: int) -> Iterator[PackedRows]:
    """Rows in the order (hash, time, payload), in pieces of at most ``MAX_PART_BYTES``; one piece if there are none."""
    ordered = sorted(rows.rows)
    ends = np.cumsum([0, *(row.size for row in ordered)])
    room = MAX_PART_BYTES - _HEAD_BYTES - (rows.first_left_out.size if rows.first_left_out else 0)
    first, total = 0, rows.total
    while first < len(ordered) or total:
        stop = max(first + 1, int(np.searchsorted(ends, ends[first] + room, side="right")) - 1)
        piece = ordered[first:stop]
        yield PackedRows(
            np.array([row.hash for row in piece], dtype="<u8").tobytes(),
            pack(np.array([row.time - start_us for row in piece], dtype=np.int64)),
            pack(np.array([rows.rows[row] for row in piece], dtype=np.int64)),
            [row.payload for row in piece],
            total,
            rows.first_left_out,
        )
        first, total = stop, 0


def unpack_rows(packed: PackedRows, start_us: int) -> RawRows:
    """What a piece holds. Raises ``ValueError`` for what does not belong together."""
    hashes = np.frombuffer(packed.hashes, dtype="<u8").tolist()
    times, repeats = (unpack(packed.times) + start_us).tolist(), unpack(packed.repeats).tolist()
    columns = zip(hashes, times, packed.payloads, repeats, strict=True)
    rows = {Row(identity, time, payload): n for identity, time, payload, n in columns}
    return RawRows(rows, packed.total, Row(*packed.first_left_out) if packed.first_left_out else None)


_HEAD_BYTES: Final = 8 * 1024
"""Most bytes of a part without its rows: the key holds two names."""


def pack_pairs(pairs: Pairs, start_us: int, part: int, parts: int) -> PackedPairs:
    """Part ``part`` of ``parts``; times are written from ``start_us`` on."""
    rows = slice(len(pairs.hashes) * part // parts, len(pairs.hashes) * (part + 1) // parts)
    return PackedPairs(
        pairs.hashes[rows].tobytes(),
        pack(pairs.times[rows] - start_us),
        pairs.values[rows].tobytes(),
        pack(pairs.repeats[rows]),
        pairs.total if part == 0 else 0,
    )


def unpack_pairs(packed: PackedPairs, start_us: int) -> Pairs:
    """What ``pack_pairs`` was given. Raises ``ValueError`` for what it never gave."""
    hashes = np.frombuffer(packed.hashes, dtype="<u8").astype(np.uint64)
    values = np.frombuffer(packed.values, dtype="<f8").astype(np.float64)
    times, repeats = unpack(packed.times), unpack(packed.repeats)
    if not len(hashes) == len(times) == len(values) == len(repeats):
        raise ValueError("raw values that do not belong together")
    return Pairs(hashes, times + start_us, values, repeats, packed.total)


_WIDTHS: Final = (1, 2, 4, 8)


def pack(array: NDArray[np.int64]) -> bytes:
    """Integers in the narrowest little-endian type that holds them, behind one byte that names it. Shape (n,)."""
    low, high = (int(array.min()), int(array.max())) if len(array) else (0, 0)
    width = next(w for w in _WIDTHS if low >= -(1 << (8 * w - 1)) and high < 1 << (8 * w - 1))
    return bytes([width]) + array.astype(f"<i{width}").tobytes()


def unpack(data: bytes) -> NDArray[np.int64]:
    """What ``pack`` was given. Raises ``ValueError`` for what it never gave."""
    if not data or data[0] not in _WIDTHS:
        raise ValueError("not packed integers")
    return np.frombuffer(data, dtype=f"<i{data[0]}", offset=1).astype(np.int64)


def pack_floats(array: NDArray[np.floating[Any]]) -> bytes:
    """A float array as bytes, to the bit: its item size, then its items."""
    return bytes([array.dtype.itemsize]) + np.ascontiguousarray(array).tobytes()


def unpack_floats(
    data: bytes, shape: tuple[int, ...], dtype: type[np.float16 | np.float32 | np.float64]
) -> NDArray[Any]:
    """What ``pack_floats`` was given. Raises ``ValueError`` for another shape or type, and for what is not finite."""
    if not data or data[0] != np.dtype(dtype).itemsize:
        raise ValueError("not the items that were packed")
    array = np.frombuffer(data, dtype=dtype, offset=1).reshape(shape).copy()
    if not np.isfinite(array).all():
        raise ValueError("numbers that are not finite")
    return array
