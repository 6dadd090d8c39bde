"""Values of one field of a table: what they are as numbers, and under which names they count as categories.

An array holds one value a row, as its source has it: numbers, booleans, dates (``datetime64``), or objects,
which are ``str``, ``bool``, ``int``, ``float``, None for a missing value, or something nested that cannot be
counted, or the cell of an array or a long text (see ``derived``). NaN is missing too. Live events are JSON, so a value
is here what the same value would be there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.derived import CUT, LongText, condensed
from streamdrift.grids import category_name

EXACT: Final = 2**53
"""Integers from here on are not all different as float64."""
MOSTLY: Final = 0.99
"""Share of the cells of a text column that must be numbers for it to hold numbers; the others are type errors."""

# A number as JSON writes it, or nearly: no leading zeros (01234 is a code), no thousands separators.
_NUMBER: Final = re.compile(
    r"\s*(?:(?P<integer>[-+]?(?:0|[1-9]\d*))|[-+]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?|[-+]?inf(?:inity)?)\s*",
    re.IGNORECASE | re.ASCII,
)
# What float() takes otherwise than _NUMBER does. Without any of it a column is parsed at the speed of float().
_ODD_CHARACTER: Final = re.compile(r"[^0-9eE+\-.\n]")
_LEADING_ZERO: Final = re.compile(r"\n[-+]?0[0-9]")
_BOOLEANS: Final = {"true": True, "false": False}


class Reading(Enum):
    """What the text of a column means, where the file itself has no types (CSV)."""

    TEXT = "text"
    NUMBERS = "numbers"
    BOOLEANS = "booleans"


def reading_of(cells: NDArray[np.object_]) -> Reading:
    """How a column of text is to be read: as numbers if nearly all cells are, as booleans if all are."""
    present = [cell for cell in cells.tolist() if cell is not None]
    if not present:
        return Reading.TEXT
    if all(cell.lower() in _BOOLEANS for cell in present):
        return Reading.BOOLEANS
    if _plain_numbers(present) is not None:
        return Reading.NUMBERS
    numbers = sum(_NUMBER.fullmatch(cell) is not None for cell in present)
    return Reading.NUMBERS if numbers >= MOSTLY * len(present) else Reading.TEXT


def read(cells: NDArray[np.object_], reading: Reading) -> NDArray[Any]:
    """Cells of text as the values that they stand for; a cell that cannot be read so stays text. Shape (n,)."""
    if reading is Reading.TEXT:
        return cells
    if reading is Reading.BOOLEANS:
        return objects(None if cell is None else _BOOLEANS.get(cell.lower(), cell) for cell in cells.tolist())
    listed = cells.tolist()
    numbers = _plain_numbers([cell for cell in listed if cell is not None])
    if numbers is None or (np.abs(numbers) >= EXACT).any():  # long integers stay exact: as categories they are names
        return objects(None if cell is None else _number(cell) for cell in listed)
    if len(numbers) == len(cells):
        return numbers
    x = np.full(len(cells), np.nan)
    x[[cell is not None for cell in listed]] = numbers
    return x


def _plain_numbers(cells: list[str]) -> NDArray[np.float64] | None:
    """Cells as numbers, or None when one of them needs a closer look."""
    lines = "\n" + "\n".join(cells)
    if _ODD_CHARACTER.search(lines) or _LEADING_ZERO.search(lines):
        return None
    try:
        return np.array(list(map(float, cells)), dtype=np.float64)
    except ValueError:
        return None


def _number(cell: str) -> str | float:
    match = _NUMBER.fullmatch(cell)
    if match is None:
        return cell
    return int(cell) if match["integer"] else float(cell)


def objects(values: Iterable[Any]) -> NDArray[np.object_]:
    """An array of objects that numpy does not look into, unlike ``np.array`` (lists would become rows)."""
    listed = list(values)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where there is no value: None or NaN. Shape (n,)."""
    if values.dtype.kind == "O":
        # NaN is the only scalar that differs from itself.
        listed = values.tolist()
        return np.array([v is None or (isinstance(v, float) and v != v) for v in listed], dtype=np.bool_)  # noqa: PLR0124
    absent = np.zeros(len(values), dtype=np.bool_)
    if values.dtype.kind in "fmM":
        absent |= values != values  # noqa: PLR0124 — NaN, and the NaT of dates
    return absent


def numbers(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values as numbers, NaN where there is none, and which of those are of a wrong type rather than missing.

    Booleans, text, nested values and infinities are of a wrong type. Both of shape (n,).
    """
    if values.dtype.kind in "iuf":
        x = values.astype(np.float64)
    elif values.dtype.kind == "O":
        x = np.array([_finite(v) for v in values.tolist()], dtype=np.float64)
    else:
        x = np.full(len(values), np.nan)
    x[~np.isfinite(x)] = np.nan
    return x, np.isnan(x) & ~missing(values)


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return np.nan
    try:
        return float(value)
    except OverflowError:  # an integer beyond float64
        return np.inf


def names(values: NDArray[Any]) -> NDArray[np.object_]:
    """Category name of each value; None where it is missing or has no name (nested, infinite). Shape (n,)."""
    if values.dtype.kind == "O":
        return objects(_name(v) for v in values.tolist())
    if values.dtype.kind not in "biuf":
        return objects([None] * len(values))
    distinct, place = np.unique(values, return_inverse=True)
    # Through its text a float32 keeps the decimal that was meant: 0.1, not 0.10000000149011612.
    plain = [float(str(v)) for v in distinct] if values.dtype.kind == "f" else distinct.tolist()
    return objects(_name(v) for v in plain)[place]


def condense(values: NDArray[Any]) -> NDArray[Any]:
    """The same values, arrays and long texts as cells: what is left of a table of embeddings fits into memory."""
    return objects(map(condensed, values.tolist())) if values.dtype.kind == "O" else values


def _name(value: object) -> str | None:
    if isinstance(value, LongText):
        return value.beginning + CUT
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # what category_name says, also of integers beyond float64
    if isinstance(value, (str, bool)) or (isinstance(value, float) and np.isfinite(value)):
        return category_name(value)
    return None
