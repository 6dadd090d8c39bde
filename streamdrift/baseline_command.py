"""``streamdrift baseline build``: the command around ``tables``, and what it tells."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from streamdrift.baselines import Baseline
from streamdrift.errors import ConfigurationError
from streamdrift.gridding import Reason
from streamdrift.readers import open_table
from streamdrift.table_report import benchmark_reports, column_reports, outcome_line, warnings
from streamdrift.tables import Built, Fields, Progress, build


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
    positive: str | None = None,
    threshold: float = 0.5,
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
        target: column with the true label: no feature, but what benchmarks are measured by.
        include: globs of the features to watch; none: all.
        exclude: globs of the features not to watch.
        numeric: columns to count as numbers, whatever they look like.
        categorical: columns to count as categories, whatever they look like.
        positive: the positive class of two, where neither scores nor names tell.
        threshold: score from which on the positive class is predicted where no label is.
        missing: cells of CSV that hold no value, besides the empty cell, NaN and null.
        delimiter: of CSV, if it is not the comma (or the tab of ``.tsv``).
        force: overwrite ``output``.
        as_json: print the report as JSON.

    Returns the exit code 0. Raises ``ConfigurationError`` for everything that is wrong with table, options or output.
    """
    check_output(output, force=force)
    fields = Fields(
        score, label_prediction, value, target, include or ("*",), exclude, numeric, categorical, positive, threshold
    )
    opened = open_table(table, missing, delimiter)
    with _progress_bar() as progress:
        try:
            built = build(opened, model_id=model, model_version=version, fields=fields, progress=progress)
        except ConfigurationError as error:
            raise error if str(error).startswith(str(table)) else ConfigurationError(f"{table}: {error}") from None
    return _deliver(built, output, as_json=as_json)


def deliver(baseline: Baseline, output: Path, *, as_json: bool) -> int:
    """Write a baseline and tell what is in it. Returns the exit code 0."""
    return _deliver(Built(baseline, tuple(warnings(baseline))), output, as_json=as_json)


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
            "outcome": baseline.outcome,
            "benchmarks": [report._asdict() for report in benchmark_reports(baseline)],
            "labels": baseline.labels,
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
    if outcomes := outcome_line(baseline):
        console.print(f"outcomes: {outcomes}", markup=False)
    for benchmark in benchmark_reports(baseline):
        console.print(f"  {benchmark}", markup=False)
    for field in baseline.grid.unmonitored:
        console.print(f"not watched: {field.name}: {field.reason}", markup=False)
    if any(field.reason in _JUDGED for field in baseline.grid.unmonitored):
        console.print("(--numeric or --categorical NAME watches one of them all the same)", markup=False)
    for warning in built.warnings:
        console.print(f"warning: {warning}", markup=False)
    size = f"{rows} rows, {len(baseline.grid.columns)} columns"
    console.print(f"{output}: baseline {baseline.id} of {size}", markup=False)
