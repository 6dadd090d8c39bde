"""How the values of a grid's columns are read, one value at a time.

A value is missing (None, NaN), of a wrong type, a number, or a category by its name; the types are those that the
grid's categories tell. The fast way reads by the same tables (``field_type``, ``codes``), whole columns at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from streamdrift.derived import CUT, LongText, condensed, derived_value
from streamdrift.events import SourceKind
from streamdrift.grids import Column, Grid, Kind, Role, category_name
from streamdrift.summaries.names import MAX_LENGTH

PREDICTION: Final = "prediction."
_TYPE_ERROR: Final = object()
_ABSENT: Final = object()


class Cells(NamedTuple):
    """The values of one event on a grid."""

    values: list[float]
    type_errors: list[int]
    """Columns."""
    unseen: list[tuple[int, str]]
    """(column, name)."""


class Layout:
    """The columns of a grid that events of one kind fill, and how their values are read."""

    def __init__(self, grid: Grid, kind: SourceKind) -> None:
        self.grid = grid
        self.kind = kind
        self.read = [i for i, c in enumerate(grid.columns) if c.role is Role.FEATURE or kind is SourceKind.PREDICTIONS]
        self.codes = {
            i: _codes(column)
            for i, column in enumerate(grid.columns)
            if column.kind is Kind.CATEGORICAL and i in self.read
        }
        self._fields = [
            (i, grid.columns[i].role, keys_of(grid.columns[i]), _reader(grid.columns[i]))
            for i in self.read
            if not grid.columns[i].derived
        ]
        self._derived: dict[tuple[Role, str], list[int]] = {}
        for i in self.read:
            if grid.columns[i].derived:
                self._derived.setdefault((grid.columns[i].role, grid.columns[i].source), []).append(i)

    def cells(self, features: Mapping[str, Any] | None, prediction: Mapping[str, Any] | None) -> Cells:
        """The values of an event, read from its objects."""
        cells = Cells([math.nan] * len(self.grid.columns), [], [])
        for i, role, keys, read in self._fields:
            part = features if role is Role.FEATURE else prediction
            if part is None:
                continue
            value = read(part.get(keys[0]) if len(keys) == 1 else lookup(part, keys))
            if value is _TYPE_ERROR:
                cells.type_errors.append(i)
            elif i in self.codes:
                cells.values[i] = self.code(i, value, cells.unseen)
            else:
                cells.values[i] = value
        for (role, _), columns in self._derived.items():
            part = features if role is Role.FEATURE else prediction
            if part is not None:
                self._derive(columns, lookup(part, keys_of(self.grid.columns[columns[0]])), cells)
        return cells

    def _derive(self, columns: Sequence[int], value: object, cells: Cells) -> None:
        cell = condensed(value)
        for i in columns:
            derived = derived_value(self.grid.columns[i], cell)
            if derived is None:
                cells.type_errors.append(i)
            else:
                cells.values[i] = derived

    def code(self, column: int, value: str | float | None, unseen: list[tuple[int, str]]) -> float:
        """Number of a category; a name that the grid does not know is added to ``unseen``."""
        code = self.codes[column].get(value)
        if code is None:
            unseen.append((column, category_name(value)[:MAX_LENGTH]))  # type: ignore[arg-type]  # None has a code
            return float(self.grid.columns[column].bins)
        return code


def keys_of(column: Column) -> list[str]:
    """The path of a column within the features or the prediction."""
    return column.source.removeprefix(PREDICTION if column.role is Role.PREDICTION else "").split(".")


def field_type(column: Column) -> object:
    """What the fast way takes for a value of the column; null is a missing one."""
    if column.kind is Kind.NUMERIC:
        return float | None
    if _is_boolean(column):
        return str | bool | None
    return str | int | float | None if _has_numbers(column) else str | None


def _reader(column: Column) -> Callable[[Any], Any]:
    """Reads a JSON value: a number, NaN if missing; or what stands in ``codes``; ``_TYPE_ERROR`` for a wrong type."""
    if column.kind is Kind.NUMERIC:
        return _number
    booleans, numbers = _is_boolean(column), _has_numbers(column)

    def category(value: Any) -> Any:  # noqa: ANN401 — a JSON value
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode()
        if isinstance(value, LongText):
            return value.beginning + CUT
        if is_missing(value):
            return None
        fits = booleans if isinstance(value, bool) else numbers and isinstance(value, int | float)
        return value if fits and abs(value) < math.inf else _TYPE_ERROR

    return category


def _number(value: Any) -> Any:  # noqa: ANN401 — a JSON value
    if is_missing(value):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _TYPE_ERROR
    try:
        number = float(value)
    except OverflowError:
        return _TYPE_ERROR
    return number if math.isfinite(number) else _TYPE_ERROR


def _codes(column: Column) -> dict[object, float]:
    """Category numbers by the value as JSON writes it; None (null) is a missing value."""
    codes: dict[object, float] = {name: float(i) for i, name in enumerate(column.categories)}
    if _is_boolean(column):
        codes |= {name == "true": i for name, i in codes.items()}
    elif _has_numbers(column):
        codes |= {float(str(name)): i for name, i in codes.items()}
    codes[None] = math.nan
    return codes


def _is_number(name: str) -> bool:
    try:
        return category_name(float(name)) == name
    except (ValueError, OverflowError):
        return False


def _is_boolean(column: Column) -> bool:
    return bool(column.categories) and set(column.categories) <= {"true", "false"}


def _has_numbers(column: Column) -> bool:
    return bool(column.categories) and all(map(_is_number, column.categories))


def lookup(document: Mapping[str, Any], keys: Sequence[str]) -> Any:  # noqa: ANN401 — a JSON value
    """The value of a flattened name: of nested objects, or of keys that hold the dots themselves, which count first."""
    for end in range(len(keys), 0, -1):
        value = document.get(".".join(keys[:end]), _ABSENT)
        if end == len(keys):
            if value is not _ABSENT:
                return value
        elif isinstance(value, dict):
            found = lookup(value, keys[end:])
            if found is not None:
                return found
    return None


def is_missing(value: object) -> bool:
    """Whether a JSON value stands for none."""
    return value is None or (isinstance(value, float) and math.isnan(value))
