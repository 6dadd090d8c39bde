"""Rows: the monitored material of one event, after mapping and before typing, while its grid is not known yet.

A payload is MessagePack of ``[features, prediction]``, each a map {flattened name: cell} in order of names, or nil
where the event carries no such part. A cell (see ``streamdrift.derived``) is written as itself, or as an array::

    ["beginning", 4711]    a text, and its length       [768, [1.0, -0.3, …]]    an array's dimension, norm, projections
    ["36893488147419103232"]   an integer beyond 64 bits       []    what cannot be counted, such as an object

With these cells a ``Layout`` counts what it would have counted with the values themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import nsmallest
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.derived import UNSUPPORTED, Cell, LongText, Vector, condensed
from streamdrift.errors import StateError
from streamdrift.events import Batch, SourceKind
from streamdrift.grids import Grid, Role, part_kind
from streamdrift.layout import PREDICTION, Layout, lookup
from streamdrift.summaries.names import rank

Cells = Mapping[str, Cell]

MAX_FIELDS: Final = 2_000
"""Fields of a part that are kept: those whose names have the smallest hashes."""
MAX_NAME_LENGTH: Final = 256
"""Fields with longer names are left out."""
MAX_DEPTH: Final = 16
"""Objects within objects that are flattened; deeper ones cannot be counted."""
_LONGEST: Final = range(-(1 << 63), 1 << 64)
"""Integers that MessagePack writes."""

_Written = tuple[dict[str, Any] | None, dict[str, Any] | None]
_decode: Final[Callable[[bytes], _Written]] = msgspec.msgpack.Decoder(_Written).decode


def encode_row(features: Mapping[str, Any] | None, prediction: Mapping[str, Any] | None) -> bytes:
    """The payload of an event's features and prediction, as they stand in the message (JSON objects)."""
    parts = features and cells_of(features), prediction and _prediction_cells(prediction)
    return msgspec.msgpack.encode([
        None if part is None else {name: _written(part[name]) for name in sorted(part)} for part in parts
    ])  # fmt: skip


def decode_row(payload: bytes) -> tuple[Cells | None, Cells | None]:
    """Features and prediction of a payload, by flattened names. Raises ``StateError`` for what no version wrote."""
    try:
        features, prediction = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(f"an event that was kept to learn from cannot be read: {error}") from None
    return _read(features), _read(prediction)


def batch_of(grid: Grid, hashes: NDArray[np.uint64], times: NDArray[np.int64], payloads: Sequence[bytes]) -> Batch:
    """The batch that the codec makes of the same events on this grid. ``hashes`` and ``times`` are of shape (n,)."""
    layout = Layout(grid, SourceKind.PREDICTIONS)
    rows = [decode_row(payload) for payload in payloads]
    values: list[list[float]] = []
    type_errors: list[tuple[int, int]] = []
    unseen: list[tuple[int, int, str]] = []
    for row, parts in enumerate(rows):
        cells = layout.cells(*parts)
        values.append(cells.values)
        type_errors += [(row, column) for column in cells.type_errors]
        unseen += [(row, column, name) for column, name in cells.unseen]
    without_features, without_prediction = (
        np.array([row[part] is None for row in rows], dtype=np.bool_) for part in (0, 1)
    )
    return Batch(
        grid,
        times,
        hashes,
        np.array(values, dtype=np.float64).reshape(len(rows), len(grid.columns)).copy(order="F"),
        np.array(type_errors, dtype=np.int64).reshape(-1, 2),
        tuple(unseen),
        without_features if without_features.any() else None,
        without_prediction if without_prediction.any() else None,
    )


def columns_of(payloads: Sequence[bytes]) -> dict[tuple[Role, str], NDArray[np.object_]]:
    """The cells of every field that some row has, for ``gridding.columns_of``; None where a row has none.

    Names of parts of the prediction begin with ``prediction.``. Shape (rows,) each, in order of the rows.
    """
    columns: dict[tuple[Role, str], NDArray[np.object_]] = {}
    for row, (features, prediction) in enumerate(map(decode_row, payloads)):
        for role, prefix, cells in ((Role.FEATURE, "", features), (Role.PREDICTION, PREDICTION, prediction)):
            for name, cell in _without_objects(cells or {}):
                column = columns.get((role, prefix + name))
                if column is None:
                    column = columns[role, prefix + name] = np.full(len(payloads), None, dtype=object)
                column[row] = cell
    return columns


def cells_of(document: Mapping[str, Any]) -> dict[str, Cell]:
    """The cells of a JSON object by their flattened names (``basket.items``), at most ``MAX_FIELDS``."""
    found: dict[str, Any] = {}
    is_plain = True
    for name, key, value in _flattened(document, "", MAX_DEPTH):
        is_plain &= "." not in key
        if len(name) <= MAX_NAME_LENGTH:
            found[name] = value
    names = list(found) if len(found) <= MAX_FIELDS else nsmallest(MAX_FIELDS, found, key=rank)
    if is_plain:
        return {_text(name): condensed(found[name]) for name in names}
    # Several values may have one flattened name: the one counts that a column of this name would find.
    return {_text(name): condensed(lookup(document, name.split("."))) for name in names}


def _prediction_cells(document: Mapping[str, Any]) -> dict[str, Cell]:
    return {name: cell for name, cell in cells_of(document).items() if part_kind(PREDICTION + name)}


def _flattened(document: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, str, Any]]:
    """(flattened name, last key, value) of every value; of objects too, which a column may take for a value."""
    for key, value in document.items():
        yield prefix + key, key, value
        if isinstance(value, Mapping) and depth:
            yield from _flattened(value, f"{prefix}{key}.", depth - 1)


def values_of(document: Mapping[str, Any]) -> dict[str, Cell]:
    """The cells of a JSON object that are values, and no objects of some that are there."""
    return dict(_without_objects(cells_of(document)))


def _without_objects(cells: Cells) -> Iterator[tuple[str, Cell]]:
    groups = {name[:end] for name in cells for end, character in enumerate(name) if character == "."}
    return ((name, cell) for name, cell in cells.items() if cell is not UNSUPPORTED or name not in groups)


def _text(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _written(cell: Cell) -> object:
    if cell is UNSUPPORTED:
        return ()
    if isinstance(cell, int) and cell not in _LONGEST:
        return (str(cell),)
    return cell


def _read(part: Mapping[str, Any] | None) -> Cells | None:
    return part and {name: _cell(value) if isinstance(value, list) else value for name, value in part.items()}


def _cell(written: list[Any]) -> Cell:
    match written:
        case [str(digits)]:
            return int(digits)
        case [str(beginning), int(length)]:
            return LongText(beginning, length)
        case [int(dimension), [*values]]:
            return Vector(dimension, tuple(values))
    return UNSUPPORTED
