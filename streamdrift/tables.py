"""From a training table to a baseline: ``streamdrift baseline build``.

Two passes over the table, so that its size does not matter. The first keeps a sample of rows, from which each
column's grid is made (``gridding``); the second counts every row on the grid, with the code that counts live events,
and the outcomes of rows that have a prediction and a label (``table_outcomes``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamdrift.baselines import Baseline
from streamdrift.benchmarks import Measured
from streamdrift.cells import Reading, read, reading_of
from streamdrift.errors import ConfigurationError
from streamdrift.events import Batch
from streamdrift.gridding import Reason, columns_of, distinct, encode
from streamdrift.grids import (
    LABEL,
    SCORE,
    VALUE,
    Column,
    Grid,
    Kind,
    Role,
    Unmonitored,
    part_kind,
)
from streamdrift.outcome_grids import OutcomeGrid
from streamdrift.readers import Chunk, ColumnTable, Table
from streamdrift.summaries import Summary
from streamdrift.summaries.outcomes import Outcomes
from streamdrift.summaries.spreads import Spreads
from streamdrift.table_outcomes import OutcomeTable, Place, outcome_table
from streamdrift.table_report import warnings

MIN_ROWS: Final = 200
"""Fewer rows make no baseline: quantiles and rates of so few say nothing about a difference from live traffic."""
SAMPLE_ROWS: Final = 1 << 16
SAMPLE_CELLS: Final = 1 << 21
"""Rows of the sample, fewer of wide tables: 500 rows a bin are plenty, as the counts come from all rows."""
MIN_SAMPLE_ROWS: Final = 1 << 12

Progress = Callable[[str, int], None]
"""Is told the pass (``reading``, ``counting``) and the rows that it has seen so far."""


@dataclass(frozen=True, slots=True)
class Fields:
    """What the columns of a table are, by their names in the table.

    ``include`` and ``exclude`` are globs over features; ``numeric`` and ``categorical`` overrule what the values
    look like, and keep a column that would be set aside. Columns that are named as parts of the prediction
    (``prediction.score``, ``prediction.outputs.risk.label``: see ``part_kind``) need no mention.
    """

    score: str | None = None
    label: str | None = None
    value: str | None = None
    target: str | None = None
    include: Sequence[str] = ("*",)
    exclude: Sequence[str] = ()
    numeric: Sequence[str] = ()
    categorical: Sequence[str] = ()
    positive: str | None = None
    """The positive class of two; None: the one that high scores predict, else ``1`` or ``true``."""
    threshold: float = 0.5
    """Score from which on the positive class is predicted where no label is."""


EVERYTHING: Final = Fields()
"""All columns, each as what it looks like."""


@dataclass(frozen=True, slots=True)
class Built:
    """A baseline, and what a person should know about how it came about."""

    baseline: Baseline
    warnings: tuple[str, ...] = ()


def baseline_from_columns(
    columns: Mapping[str, Sequence[object] | NDArray[Any]],
    *,
    model_id: str,
    model_version: str,
    fields: Fields = EVERYTHING,
) -> Baseline:
    """The baseline of training rows in memory.

    ``columns``: features by (dotted) name, and ``prediction.score``, ``.label`` or ``.value``, a value a row: arrays of
    numbers, booleans or dates, or sequences of str, bool, int, float and None. Raises ``ConfigurationError``.
    """
    return build(ColumnTable(columns), model_id=model_id, model_version=model_version, fields=fields).baseline


def build(
    table: Table,
    *,
    model_id: str,
    model_version: str,
    fields: Fields = EVERYTHING,
    progress: Progress = lambda _pass, _rows: None,
) -> Built:
    """The baseline of a table. Raises ``ConfigurationError`` if it has too few rows or nothing to watch."""
    planned, unmonitored = _plan(table.names, fields)
    target = [] if fields.target is None else [fields.target]
    sample, rows = _sample(table, [*(source.name for source in planned), *target], progress)
    if rows < MIN_ROWS:
        raise ConfigurationError(f"the table has {rows} rows, a baseline needs at least {MIN_ROWS} to mean anything")
    outcomes = _outcomes(table, planned, fields, sample)
    found: list[tuple[_Source, Column]] = []
    for source in planned:
        values, reading = _typed(table, source, sample.pop(source.name))
        for column in columns_of(source.column, values, source.role, source.kind):
            if isinstance(column, Column):
                found.append((source._replace(reading=reading), column))
            elif (source.kind or source.role is Role.PREDICTION) and column.reason == Reason.UNSUPPORTED:
                wanted = source.kind or source.column
                raise ConfigurationError(f"column {source.name!r} holds nothing that could count as {wanted}")
            else:
                unmonitored.append(column)
    columns = distinct([column for _, column in found])
    sources = [source for source, column in found if column in columns]
    if not columns:
        reasons = ", ".join(f"{field.name} ({field.reason})" for field in unmonitored)
        raise ConfigurationError(f"no column is left to be watched: {reasons or 'the table has none'}")
    unmonitored.sort(key=lambda field: field.name)
    grid = Grid(model_id, model_version, tuple(columns), tuple(unmonitored))
    baseline = _counted(table, grid, sources, outcomes, progress)
    return Built(baseline, (*_unused_globs(table.names, fields), *warnings(baseline, labelled=bool(target))))


# ---- which columns -------------------------------------------------------------------------------------------------


class _Source(NamedTuple):
    """A column of the table and what it becomes."""

    name: str
    column: str
    role: Role
    kind: Kind | None
    reading: Reading = Reading.TEXT


def _plan(names: Sequence[str], fields: Fields) -> tuple[list[_Source], list[Unmonitored]]:
    """The columns to look at, in table order, and those that the user wants left out."""
    _check_names(names, fields)
    parts = {name: part for part, name in _given_parts(fields).items()}
    planned: list[_Source] = []
    unmonitored: list[Unmonitored] = []
    for name in names:
        kind = Kind.NUMERIC if name in fields.numeric else Kind.CATEGORICAL if name in fields.categorical else None
        if name == fields.target:
            unmonitored.append(Unmonitored(name, Reason.TARGET))
        elif name in parts:
            planned.append(_Source(name, parts[name], Role.PREDICTION, kind))
        elif part_kind(name):
            planned.append(_Source(name, name, Role.PREDICTION, kind))
        elif name.startswith("prediction."):
            unmonitored.append(Unmonitored(name, Reason.UNSUPPORTED))
        elif not _any_match(name, fields.include) or _any_match(name, fields.exclude):
            unmonitored.append(Unmonitored(name, Reason.EXCLUDED))
        else:
            planned.append(_Source(name, name, Role.FEATURE, kind))
    columns = [source.column for source in planned]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise ConfigurationError(f"more than one column of the table is to be {', '.join(twice)}")
    return planned, unmonitored


def _given_parts(fields: Fields) -> dict[str, str]:
    """The columns that the user names as parts of the prediction."""
    parts = {SCORE: fields.score, LABEL: fields.label, VALUE: fields.value}
    return {part: name for part, name in parts.items() if name is not None}


def _check_names(names: Sequence[str], fields: Fields) -> None:
    parts = list(_given_parts(fields).values())
    target = [] if fields.target is None else [fields.target]
    for name in (*parts, *target, *fields.numeric, *fields.categorical):
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(names[:20])}"
            raise ConfigurationError(f"the table has no column {name!r}{hint}")
    for one, other in ((parts, target), (fields.numeric, fields.categorical)):
        if both := sorted(set(one) & set(other)):
            raise ConfigurationError(f"column {both[0]!r} cannot be two things at once")
    if len(set(parts)) != len(parts):
        raise ConfigurationError("one column cannot be two parts of the prediction")


def _any_match(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def _unused_globs(names: Sequence[str], fields: Fields) -> Iterator[str]:
    for glob in (*fields.include, *fields.exclude):
        if not any(fnmatchcase(name, glob) for name in names):
            yield f"no column matches {glob!r}"


# ---- first pass ----------------------------------------------------------------------------------------------------


def _sample(table: Table, wanted: Sequence[str], progress: Progress) -> tuple[dict[str, NDArray[Any]], int]:
    """A sample of the rows in table order, and the number of all rows.

    Those with the smallest hashes of their numbers: the same rows each time, and all of a table that is small enough.
    """
    limit = max(MIN_SAMPLE_ROWS, min(SAMPLE_ROWS, SAMPLE_CELLS // max(len(wanted), 1)))
    hashes = np.empty(0, dtype=np.uint64)
    kept: list[Chunk] = []
    rows = 0
    threshold = np.uint64(2**64 - 1)
    for chunk in table.chunks():
        size = len(next(iter(chunk.values()))) if chunk else 0
        new = _row_hashes(rows, size)
        chosen = new <= threshold
        rows += size
        hashes = np.concatenate((hashes, new[chosen]))
        kept.append({name: chunk[name][chosen] for name in wanted})
        if len(hashes) > limit:
            threshold = np.partition(hashes, limit - 1)[limit - 1]
            chosen = hashes <= threshold
            hashes, kept = hashes[chosen], [{name: values[chosen] for name, values in _joined(kept, wanted).items()}]
        progress("reading", rows)
    return _joined(kept, wanted), rows


def _joined(chunks: Sequence[Chunk], wanted: Iterable[str]) -> dict[str, NDArray[Any]]:
    empty = np.empty(0, dtype=np.float64)
    return {name: np.concatenate([chunk[name] for chunk in chunks]) if chunks else empty for name in wanted}


def _row_hashes(start: int, count: int) -> NDArray[np.uint64]:
    """Hashes of the row numbers from ``start`` on: splitmix64 (Steele, Lea & Flood 2014), a bijection, so no ties."""
    z = (np.arange(start, start + count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _typed(table: Table, source: _Source, values: NDArray[Any]) -> tuple[NDArray[Any], Reading]:
    """The sampled values with the types that they stand for, and how to read all others of the column."""
    if table.typed:
        return values, Reading.TEXT
    numeric = source.kind is Kind.NUMERIC or part_kind(source.column) is Kind.NUMERIC
    reading = Reading.NUMBERS if numeric else reading_of(values)
    return read(values, reading), reading


def _outcomes(
    table: Table, planned: Sequence[_Source], fields: Fields, sample: Chunk
) -> tuple[OutcomeTable, OutcomeGrid] | None:
    """Where the outcomes of the table stand, and how they are counted; None where nothing can be measured."""
    parts = {source.column: source for source in planned if source.role is Role.PREDICTION}
    target = None
    if fields.target is not None:
        target = _Source(fields.target, LABEL, Role.PREDICTION, Kind.NUMERIC if set(parts) == {VALUE} else None)
    places = {part: _place(table, source, sample) for part, source in parts.items()}
    found = outcome_table(_place(table, target, sample) if target else None, places)
    if found is None and fields.positive is not None:
        raise ConfigurationError("a positive class needs labels (--target), and predictions of them")
    grid = found.grid(sample, fields.positive, fields.threshold) if found else None
    return (found, grid) if found and grid else None


def _place(table: Table, source: _Source, sample: Chunk) -> Place:
    return Place(source.name, _typed(table, source, sample[source.name])[1])


# ---- second pass ---------------------------------------------------------------------------------------------------


def _counted(
    table: Table,
    grid: Grid,
    sources: Sequence[_Source],
    outcomes: tuple[OutcomeTable, OutcomeGrid] | None,
    progress: Progress,
) -> Baseline:
    """All rows of the table on the grid, and their outcomes on theirs."""
    summary = Summary.empty(grid)
    measured = (Outcomes.empty(outcomes[1]), Spreads.empty(outcomes[1])) if outcomes else None
    for chunk in table.chunks():
        summary += Summary.of(_batch(grid, sources, chunk))
        if measured and outcomes:
            counted, spreads = outcomes[0].outcomes(outcomes[1], chunk)
            measured = measured[0] + counted, measured[1] + spreads
        progress("counting", summary.events)
    return Baseline(grid, summary, Measured.of(*measured) if measured else None)


def _batch(grid: Grid, sources: Sequence[_Source], chunk: Chunk) -> Batch:
    """Rows of the table as if they had come as events. Names of unseen categories are left out: a baseline has none."""
    size = len(chunk[sources[0].name])
    values = np.empty((size, len(sources)))
    wrong = np.zeros(values.shape, dtype=np.bool_)
    for i, (source, column) in enumerate(zip(sources, grid.columns, strict=True)):
        cells = chunk[source.name]
        values[:, i], wrong[:, i] = encode(column, read(cells, source.reading))
    return Batch(
        grid,
        times=np.zeros(size, dtype=np.int64),
        hashes=np.zeros(size, dtype=np.uint64),
        values=values,
        type_errors=np.argwhere(wrong),
    )
