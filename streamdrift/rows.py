"""Rows: the monitored material of one event, after mapping and before typing, while its grid is not known yet.

A payload is MessagePack of ``[features, prediction]``, each a map {flattened name: cell} in order of names, or nil
where the event carries no such part. A cell is a number, a boolean, nil for a missing value, a text of at most
``MAX_LENGTH`` characters, ``[its beginning, its length]`` for a longer one, and ``[]`` for what cannot be counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import nsmallest
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from streamdrift.events import Batch
from streamdrift.gridding import encode
from streamdrift.grids import Grid, Kind, Role, category_name
from streamdrift.summaries.names import MAX_LENGTH

Cell = str | bool | int | float | list[Any] | None
Cells = Mapping[str, Cell] | None

MAX_FIELDS: Final = 2_000
"""Fields of a part that are kept: those whose names have the smallest hashes."""
MAX_DEPTH: Final = 16
"""Objects within objects that are flattened."""
_UNSUPPORTED: Final[list[Any]] = []

_decode: Final[Callable[[bytes], tuple[dict[str, Cell] | None, dict[str, Cell] | None]]] = msgspec.msgpack.Decoder(
    tuple[dict[str, Cell] | None, dict[str, Cell] | None]
).decode


def encode_row(features: Mapping[str, Any] | None, prediction: Mapping[str, Any] | None) -> bytes:
    """The payload of an event's features and prediction, as they stand in the message (JSON objects)."""
    return msgspec.msgpack.encode((_part(features, ""), _part(prediction, "prediction.")))


def decode_row(payload: bytes) -> tuple[Cells, Cells]:
    """Features and prediction of a payload."""
    return _decode(payload)


def columns_of(payloads: Sequence[bytes]) -> dict[tuple[Role, str], NDArray[np.object_]]:
    """The values of every column that some row has, None where it has none; in order of rows. Shape (rows,) each."""
    columns: dict[tuple[Role, str], NDArray[np.object_]] = {}
    for row, parts in enumerate(map(_decode, payloads)):
        for role, cells in zip((Role.FEATURE, Role.PREDICTION), parts, strict=True):
            for name, cell in (cells or {}).items():
                column = columns.get((role, name))
                if column is None:
                    column = columns[role, name] = np.full(len(payloads), None, dtype=object)
                column[row] = cell
    return columns


def batch_of(grid: Grid, hashes: NDArray[np.uint64], times: NDArray[np.int64], payloads: Sequence[bytes]) -> Batch:
    """The batch that the codec makes of the same events on this grid."""
    columns = columns_of(payloads)
    values = np.full((len(payloads), len(grid.columns)), np.nan)
    wrong = np.zeros(values.shape, dtype=np.bool_)
    unseen: list[tuple[int, int, str]] = []
    for i, column in enumerate(grid.columns):
        cells = columns.get((column.role, column.name))
        if cells is None:
            continue
        values[:, i], wrong[:, i] = encode(column, cells)
        if column.kind is Kind.CATEGORICAL:
            rows = np.flatnonzero(values[:, i] == column.bins).tolist()
            unseen += [(row, i, category_name(cells[row])) for row in rows]
    parts = [_decode(payload) for payload in payloads]
    without_features, without_prediction = (np.array([part[i] is None for part in parts], np.bool_) for i in (0, 1))
    return Batch(
        grid,
        times,
        hashes,
        values,
        np.argwhere(wrong),
        tuple(sorted(unseen)),
        without_features if without_features.any() else None,
        without_prediction if without_prediction.any() else None,
    )


def _part(document: Mapping[str, Any] | None, prefix: str) -> dict[str, Cell] | None:
    if document is None:
        return None
    cells = dict(_flattened(document, prefix, MAX_DEPTH))
    names = cells if len(cells) <= MAX_FIELDS else nsmallest(MAX_FIELDS, cells, key=_rank)
    return {name: cells[name] for name in sorted(names)}


def _flattened(document: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Cell]]:
    for name, value in document.items():
        if isinstance(value, Mapping) and depth:
            yield from _flattened(value, f"{prefix}{name}.", depth - 1)
        else:
            yield prefix + name, _cell(value)


def _cell(value: object) -> Cell:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if len(value) <= MAX_LENGTH else [value[:MAX_LENGTH], len(value)]
    if isinstance(value, int):
        if -(1 << 63) <= value < 1 << 63:
            return value
        return float(value) if abs(value) < 1 << 1023 else _UNSUPPORTED
    if isinstance(value, float):
        return None if math.isnan(value) else value if math.isfinite(value) else _UNSUPPORTED
    return _UNSUPPORTED


def _rank(name: str) -> tuple[int, str]:
    return xxh3_64_intdigest(name.encode("utf-8", "surrogatepass")), name
