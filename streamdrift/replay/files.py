"""From what a user names to a history: a file of events, or a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from streamdrift.errors import ConfigurationError
from streamdrift.events import SourceKind
from streamdrift.readers import open_table
from streamdrift.replay.lines import EventFile, Progress, head_of, lines_of
from streamdrift.replay.messages import History, Refusals
from streamdrift.replay.roles import Roles
from streamdrift.replay.rows import LineRows, RowHistory, Rows, Subject, TableRows

_LINES: Final = (".jsonl", ".ndjson", ".json")
_TABLES: Final = (".csv", ".tsv", ".parquet", ".pq")
_LOOKED_AT: Final = 20
"""Lines by which it is decided whether a file holds events or the rows of a table."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is to be read, where it does not say so itself."""

    roles: Roles = field(default_factory=Roles)
    model: str | None = None
    version: str | None = None
    interval: Fraction = Fraction(1_000_000)
    """Microseconds between two rows of a table without times."""
    missing: Sequence[str] = ()
    delimiter: str | None = None
    mapped: bool = False
    """Whether the lines of a file are as the mapping of a source describes them."""


def open_file(path: Path, reading: Reading, progress: Progress = lambda _: None) -> History:
    """The history in a file, looked through once. Raises ``ConfigurationError``."""
    if not path.is_file():
        raise ConfigurationError(f"{path}: {'is a directory' if path.is_dir() else 'no such file'}")
    suffix = _suffix(path)
    if suffix in _LINES:
        if reading.mapped or _holds_events(path):
            return EventFile(path, progress, mapped=reading.mapped)
        return _rows(path, reading, progress, lambda _: LineRows(path))
    if suffix not in _TABLES:
        known = ".jsonl, .csv or .tsv (each also with .gz), or .parquet"
        raise ConfigurationError(f"{path}: unknown format; expected {known}, or topic:NAME")

    def table(refusals: Refusals) -> Rows:
        def refuse(line: int, message: str) -> None:
            refusals.note(f"{path.name}, line {line}", "malformed", message)

        return TableRows(open_table(path, reading.missing, reading.delimiter, refuse), path.name)

    return _rows(path, reading, progress, table)


def _rows(path: Path, reading: Reading, progress: Progress, rows: Callable[[Refusals], Rows]) -> RowHistory:
    subject = Subject(reading.model or stem(path), reading.version or "")
    return RowHistory(str(path), rows, reading.roles, subject, reading.interval, progress)


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
        if suffixes[-1:] in [[".parquet"], [".pq"]]:
            return ".gz"
    return suffixes[-1] if suffixes else ""


def stem(path: Path) -> str:
    """A file's name without all of its suffixes."""
    return path.name.split(".")[0] or path.name


def _holds_events(path: Path) -> bool:
    """Whether the first lines are messages of the contract's shape, rather than the rows of a table."""
    heads = [head_of(line) for _, line in islice(lines_of(path), _LOOKED_AT)]
    found = [head for head in heads if head is not None]
    if not found:
        return True
    labels = [head for head in found if head.kind is SourceKind.LABELS and head.model_id is not None]
    return any(_is_object(part) for head in found for part in (head.features, head.prediction)) or labels == found


def _is_object(part: msgspec.Raw) -> bool:
    return bytes(part).startswith(b"{")
