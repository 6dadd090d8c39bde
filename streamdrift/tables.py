"""From a training table to a baseline: ``streamdrift baseline build``.

Two passes over the table, so that its size does not matter. The first keeps a sample of rows, from which each
column's grid is made (``gridding``); the second counts every row on the grid, with the code that counts live events.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.baselines import Baseline
from streamdrift.cells import Reading, read, reading_of
from streamdrift.errors import ConfigurationError
from streamdrift.events import Batch
from streamdrift.gridding import Reason, columns_of, distinct, encode
from streamdrift.grids import (
    LABEL,
    MISSING,
    SCORE,
    TYPE_ERROR,
    UNSEEN,
    VALUE,
    Column,
    Grid,
    Kind,
    Role,
    Unmonitored,
    part_kind,
)
from streamdrift.readers import Chunk, ColumnTable, Table, open_table
from streamdrift.summaries import Summary

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
    sample, rows = _sample(table, [source.name for source in planned], progress)
    if rows < MIN_ROWS:
        raise ConfigurationError(f"the table has {rows} rows, a baseline needs at least {MIN_ROWS} to mean anything")
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
    baseline = Baseline(grid, _count(table, grid, sources, progress))
    return Built(baseline, (*_unused_globs(table.names, fields), *_warnings(baseline)))


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


# ---- second pass ---------------------------------------------------------------------------------------------------


def _count(table: Table, grid: Grid, sources: Sequence[_Source], progress: Progress) -> Summary:
    """All rows of the table on the grid."""
    summary = Summary.empty(grid)
    for chunk in table.chunks():
        summary += Summary.of(_batch(grid, sources, chunk))
        progress("counting", summary.events)
    return summary


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


# ---- report --------------------------------------------------------------------------------------------------------


class ColumnReport(NamedTuple):
    """What a baseline holds of one column. Counts are rows; mean and sd are those of numeric columns."""

    name: str
    role: Role
    kind: Kind
    bins: int
    counted: int
    unseen: int
    missing: int
    type_errors: int
    mean: float | None = None
    sd: float | None = None


def column_reports(baseline: Baseline) -> list[ColumnReport]:
    """One line a column, in the order of the grid."""
    grid, summary = baseline.grid, baseline.summary
    reports = []
    for i, column in enumerate(grid.columns):
        counts = summary.counts[grid.offsets[i] : grid.offsets[i + 1]]
        specials = counts[column.bins :].tolist()
        n = int(counts[: column.bins].sum())
        special = {"unseen": specials[UNSEEN], "missing": specials[MISSING], "type_errors": specials[TYPE_ERROR]}
        report = ColumnReport(column.name, column.role, column.kind, column.bins, n, **special)
        if column.kind is Kind.NUMERIC and n:
            unit = float(grid.units[i])
            mean = column.center + summary.moments.mean(i, n) * unit
            report = report._replace(mean=mean, sd=summary.moments.variance(i, n) ** 0.5 * unit)
        reports.append(report)
    return reports


def _warnings(baseline: Baseline) -> Iterator[str]:
    """What a person would want to check before trusting the baseline."""
    rows = baseline.summary.events
    for report, column in zip(column_reports(baseline), baseline.grid.columns, strict=True):
        if report.type_errors:
            yield f"{report.name}: {report.type_errors} of {rows} values are no {report.kind} values: type errors"
        if report.unseen:
            yield f"{report.name}: {report.unseen} of {rows} rows have a category beyond the {report.bins} kept: unseen"
        if column.role is Role.FEATURE and column.name in _LIKE_PREDICTIONS:
            option = _LIKE_PREDICTIONS[column.name]
            yield f"{column.name}: watched as a feature; if it is what the model predicted, say {option} {column.name}"
        if report.name == SCORE and _outside_unit_interval(baseline, column):
            yield f"{SCORE}: some scores are outside 0 … 1, where the probability of the positive class should be"
    if all(report.role is Role.FEATURE for report in column_reports(baseline)):
        yield "no column is a prediction, so their drift cannot be seen (--score, --label-prediction, --value)"


_LIKE_PREDICTIONS: Final = {
    "score": "--score",
    "probability": "--score",
    "prediction": "--label-prediction",
    "predicted_label": "--label-prediction",
    "predicted_value": "--value",
}
"""Names under which tables hold predictions. Live events carry them beside the features: all would be missing."""


def _outside_unit_interval(baseline: Baseline, score: Column) -> bool:
    at = int(baseline.grid.offsets[baseline.grid.names.index(score.name)])
    counts = baseline.summary.counts[at : at + score.bins]
    lower, upper = np.append(-np.inf, score.edges), np.append(score.edges, np.inf)
    # Bins that lie outside as a whole. Those that the ends of the interval cut have one unit of doubt.
    return bool(counts[(upper < 0) | (lower >= 1)].sum())


# ---- command -------------------------------------------------------------------------------------------------------


def build_command(  # noqa: PLR0913 — the options of the command, one by one
    table: Path,
    *,
    model: str,
    version: str,
    output: Path,
    score: str | None = None,
    label_prediction: str | None = None,
    value: str | None = None,
    target: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    missing: Sequence[str] = (),
    delimiter: str | None = None,
    force: bool = False,
    as_json: bool = False,
) -> int:
    """``streamdrift baseline build TABLE --model M --version V -o FILE``: write a baseline and tell what is in it.

    Args:
        table: a ``.csv``, ``.tsv``, ``.jsonl`` (also ``.gz``) or ``.parquet`` file with a training row a line.
        model: the ``model_id`` of the events.
        version: the ``model_version`` of the events.
        output: the file to write; its folders are made.
        score: column with the predicted probability of the positive class.
        label_prediction: column with the predicted label.
        value: column with the predicted value of a regression.
        target: column with the true label, which is left out.
        include: globs of the features to watch; none: all.
        exclude: globs of the features not to watch.
        numeric: columns to count as numbers, whatever they look like.
        categorical: columns to count as categories, whatever they look like.
        missing: cells of CSV that hold no value, besides the empty cell, NaN and null.
        delimiter: of CSV, if it is not the comma (or the tab of ``.tsv``).
        force: overwrite ``output``.
        as_json: print the report as JSON.

    Returns the exit code 0. Raises ``ConfigurationError`` for everything that is wrong with table, options or output.
    """
    check_output(output, force=force)
    fields = Fields(score, label_prediction, value, target, include or ("*",), exclude, numeric, categorical)
    opened = open_table(table, missing, delimiter)
    with _progress_bar() as progress:
        try:
            built = build(opened, model_id=model, model_version=version, fields=fields, progress=progress)
        except ConfigurationError as error:
            raise error if str(error).startswith(str(table)) else ConfigurationError(f"{table}: {error}") from None
    return _deliver(built, output, as_json=as_json)


def deliver(baseline: Baseline, output: Path, *, as_json: bool) -> int:
    """Write a baseline and tell what is in it. Returns the exit code 0."""
    return _deliver(Built(baseline, tuple(_warnings(baseline))), output, as_json=as_json)


def _deliver(built: Built, output: Path, *, as_json: bool) -> int:
    _write(output, built.baseline.to_json())
    if as_json:
        sys.stdout.write(report_json(built, output).decode() + "\n")
    else:
        _print_report(built, output)
    return 0


def report_json(built: Built, output: Path) -> bytes:
    """The report for programs: one JSON object with file, ids, rows, columns, unmonitored and warnings."""
    baseline = built.baseline
    grid = baseline.grid
    return msgspec.json.encode(
        {
            "file": str(output),
            "baseline_id": baseline.id,
            "grid_id": grid.id,
            "model_id": grid.model_id,
            "model_version": grid.model_version,
            "rows": baseline.summary.events,
            "columns": [report._asdict() for report in column_reports(baseline)],
            "unmonitored": grid.unmonitored,
            "warnings": built.warnings,
        }
    )


def check_output(output: Path, *, force: bool) -> None:
    """Raises ``ConfigurationError`` for a file that is not to be overwritten."""
    if output.is_dir():
        raise ConfigurationError(f"{output}: is a directory; expected the name of the file to write")
    if output.exists() and not force:
        raise ConfigurationError(f"{output}: exists already; --force overwrites it")


def _write(output: Path, data: bytes) -> None:
    """Write a file as a whole or not at all."""
    part = output.with_name(f".{output.name}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(output)
    except OSError as error:
        raise ConfigurationError(f"{output}: cannot be written: {error.strerror}") from None


@contextmanager
def _progress_bar() -> Iterator[Progress]:
    """Shows the rows seen on stderr while it takes time, if somebody looks at a terminal."""
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed:,} rows"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda phase, rows: bar.update(task, description=phase, completed=rows)


_JUDGED: Final = frozenset(Reason) - {Reason.EXCLUDED, Reason.TARGET, Reason.ALL_MISSING, Reason.UNSUPPORTED}
"""Reasons that are a judgement on the values, and may be wrong."""


def _print_report(built: Built, output: Path) -> None:
    """The report for people, on stdout."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Sheet

    baseline = built.baseline
    rows = baseline.summary.events
    sheet = Sheet(box=None, header_style="bold")
    # Names fold rather than shrink to an ellipsis: half of them begin alike.
    sheet.add_column("column", overflow="fold", min_width=min(40, max(map(len, baseline.grid.names))))
    sheet.add_column("kind", no_wrap=True)
    for heading in ("bins", "missing", "unseen", "wrong type", "mean", "sd"):
        sheet.add_column(heading, justify="right", no_wrap=heading != "wrong type")
    for report in column_reports(baseline):
        specials = (report.missing, report.unseen, report.type_errors)
        rates = (f"{count / rows:.2%}" if count else "" for count in specials)
        moments = ("" if number is None else f"{number:.4g}" for number in (report.mean, report.sd))
        sheet.add_row(escape(report.name), str(report.kind), str(report.bins), *rates, *moments)
    console = Console(highlight=False, soft_wrap=True)
    console.print(sheet)
    for field in baseline.grid.unmonitored:
        console.print(f"not watched: {field.name}: {field.reason}", markup=False)
    if any(field.reason in _JUDGED for field in baseline.grid.unmonitored):
        console.print("(--numeric or --categorical NAME watches one of them all the same)", markup=False)
    for warning in built.warnings:
        console.print(f"warning: {warning}", markup=False)
    size = f"{rows} rows, {len(baseline.grid.columns)} columns"
    console.print(f"{output}: baseline {baseline.id} of {size}", markup=False)
