"""From what a user names to a history: a file of events, or a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from streamdrift.errors import ConfigurationError
from streamdrift.events import SourceKind
from streamdrift.readers import open_table
from streamdrift.replay.labels import LabelledRows, Labels
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
    labels: Path | None = None
    """The table of the true labels, if they stand in another."""
    mapped: bool = False
    """Whether the lines of a file are as the mapping of a source describes them."""


def open_file(path: Path, reading: Reading, progress: Progress = lambda _: None) -> History:
    """The history in a file, looked through once. Raises ``ConfigurationError``."""
    suffix = _suffix(_existing(path))
    if suffix in _LINES and (reading.mapped or _holds_events(path)):
        if reading.labels is not None:
            raise ConfigurationError(f"{path}: holds events; expected their labels in it too, and no --labels")
        return EventFile(path, progress, mapped=reading.mapped)
    rows, roles = _rows(path, reading), reading.roles
    if reading.labels is not None:
        try:
            labels = Labels.read(_rows(reading.labels, reading)(Refusals()), rows(Refusals()).names, roles)
        except ConfigurationError as error:
            raise ConfigurationError(f"{reading.labels}: {error}") from None
        roles = replace(roles, prediction_id=labels.prediction_id, target=labels.target)
        rows = _with_labels(rows, labels)
    subject = Subject(reading.model or stem(path), reading.version or "")
    return RowHistory(str(path), rows, roles, subject, reading.interval, progress)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ConfigurationError(f"{path}: {'is a directory' if path.is_dir() else 'no such file'}")
    return path


def _rows(path: Path, reading: Reading) -> Callable[[Refusals], Rows]:
    """How the rows of a table are read. Raises ``ConfigurationError``."""
    suffix = _suffix(_existing(path))
    if suffix in _LINES:
        return lambda _: LineRows(path)
    if suffix not in _TABLES:
        known = ".jsonl, .csv or .tsv (each also with .gz), or .parquet"
        raise ConfigurationError(f"{path}: unknown format; expected {known}, or topic:NAME")

    def table(refusals: Refusals) -> Rows:
        def refuse(line: int, message: str) -> None:
            refusals.note(f"{path.name}, line {line}", "malformed", message)

        return TableRows(open_table(path, reading.missing, reading.delimiter, refuse), path.name)

    return table


def _with_labels(rows: Callable[[Refusals], Rows], labels: Labels) -> Callable[[Refusals], Rows]:
    return lambda refusals: LabelledRows(rows(refusals), labels)


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
