"""What can be counted of values that are neither a number nor a short text: embeddings and long texts.

An array of numbers is condensed to its norm and to its components along eight random directions: distances between
embeddings are nearly kept, so that a shift of their distribution moves some of the nine. The directions are vectors of
signs divided by the root of the dimension (Rademacher projections: Achlioptas 2003, "Database-friendly random
projections"); a sign is the lowest bit of a hash, so that it is the same everywhere.

All sums are exact: the components are rounded to 40 bits below the largest, as integers. So the result is the same
for one array and for many at once, on any processor.
"""

from __future__ import annotations

import math
import struct
from enum import Enum
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from streamdrift.grids import PROJECTIONS, Column, Derived
from streamdrift.summaries.names import MAX_LENGTH

DIMENSIONS: Final = range(2, 4097)
"""Lengths of the arrays that are condensed."""
CUT: Final = "…"
"""Stands behind the beginning of a long text: more characters than any category has."""
_BITS: Final = 40
_HALF: Final = float(1 << _BITS // 2)


class LongText(NamedTuple):
    """A text of more than ``MAX_LENGTH`` characters."""

    beginning: str
    length: int


class Vector(NamedTuple):
    """An array of numbers."""

    dimension: int
    values: tuple[float, ...]
    """Its norm, and its components along the ``PROJECTIONS`` directions."""


class Unsupported(Enum):
    """A value of which nothing can be counted, other than that it was there."""

    UNSUPPORTED = "unsupported"


UNSUPPORTED: Final = Unsupported.UNSUPPORTED

Cell = str | bool | int | float | LongText | Vector | Unsupported | None
"""A value as far as it is counted; None where it is missing."""


def condensed(value: object) -> Cell:
    """The cell that a JSON value is, or the value of a table; a cell is itself."""
    if value is None or isinstance(value, bool | LongText | Vector | Unsupported):
        return value
    if isinstance(value, str):
        text = value.encode("utf-8", "replace").decode()  # a lone surrogate could not be written on
        return text if len(text) <= MAX_LENGTH else LongText(text[:MAX_LENGTH], len(text))
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value if math.isfinite(value) else UNSUPPORTED
    if isinstance(value, list | np.ndarray):
        return _vector(value)
    return UNSUPPORTED


def derived_value(column: Column, cell: Cell) -> float | None:
    """The value of a derived column, from the cell of its source; NaN if missing, None if of a wrong type."""
    if cell is None:
        return math.nan
    if column.derived is Derived.LENGTH:
        return float(len(cell)) if isinstance(cell, str) else float(cell.length) if isinstance(cell, LongText) else None
    if not isinstance(cell, Vector) or cell.dimension != column.dimension:
        return None
    return cell.values[0 if column.derived is Derived.NORM else 1 + column.index]


def vectors(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Norm and projections of each row of finite numbers: (n, dimension) to (n, 1 + ``PROJECTIONS``).

    What overflows is infinite.
    """
    largest = np.abs(matrix).max(axis=1, keepdims=True)
    exponent = np.frexp(largest)[1]
    quanta = np.rint(np.ldexp(matrix, _BITS - exponent))
    high = np.trunc(quanta / _HALF)
    low = quanta - high * _HALF
    # Integers below 2**53, whatever the order in which they are added up.
    squares = ((high * high).sum(axis=1) * _HALF + 2.0 * (high * low).sum(axis=1)) * _HALF + (low * low).sum(axis=1)
    directions = _signs()[:, : matrix.shape[1]]
    sums = quanta @ directions.T / math.sqrt(matrix.shape[1])
    with np.errstate(over="ignore"):
        found: NDArray[np.float64] = np.ldexp(np.column_stack((np.sqrt(squares), sums)), exponent - _BITS)
    return found


@cache
def _signs() -> NDArray[np.float64]:
    """+1 and -1 by direction and position. Shape (PROJECTIONS, longest dimension)."""
    bits = [
        xxh3_64_intdigest(struct.pack("<II", index, position)) & 1
        for index in range(PROJECTIONS)
        for position in range(DIMENSIONS.stop - 1)
    ]
    return np.array(bits, dtype=np.float64).reshape(PROJECTIONS, -1) * 2.0 - 1.0


def _vector(array: list[object] | NDArray[np.generic]) -> Cell:
    if len(array) not in DIMENSIONS:
        return UNSUPPORTED
    if isinstance(array, np.ndarray):
        if array.ndim != 1 or array.dtype.kind not in "iufO":
            return UNSUPPORTED
        array = array.tolist()
    if not set(map(type, array)) <= {int, float}:
        return UNSUPPORTED
    try:
        numbers = np.array([array], dtype=np.float64)
    except OverflowError:
        return UNSUPPORTED
    if not np.isfinite(numbers).all():
        return UNSUPPORTED
    values = vectors(numbers)[0]
    return Vector(len(array), tuple(values.tolist())) if np.isfinite(values).all() else UNSUPPORTED
