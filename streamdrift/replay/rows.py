"""Tables as histories: each row is an event, and a label where it has a target.

A table has no order of arrival: its rows come in the order of their times, and where it has none they are given some,
one after the other from ``START_US`` on. What a label says stands in the same row as the prediction, so it carries that
prediction and nothing has to be joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.cells import Reading, objects, read, reading_of
from streamdrift.derived import LongText, Unsupported, Vector
from streamdrift.errors import ConfigurationError
from streamdrift.events import SourceKind
from streamdrift.readers import Table
from streamdrift.replay.lines import Progress, lines_of
from streamdrift.replay.messages import MAX_MODELS, Message, Refusals, Survey
from streamdrift.replay.ordering import in_order
from streamdrift.replay.roles import Roles, roles_of, times_of, without_false_times

START_US: Final = 1_767_225_600_000_000
"""2026-01-01: when the first row came of a table without times."""
CHUNK_ROWS: Final = 4_096
SAMPLE_ROWS: Final = 1_000
"""Rows by which it is decided what columns are."""
FEW_CLASSES: Final = 20
"""A target of more different numbers is a number, unless a class was predicted."""


class Block(NamedTuple):
    """Some rows: columns by name, and what is left of each row for features."""

    columns: Mapping[str, NDArray[Any]]
    """Those with a role. Shape (n,) each."""
    features: Sequence[Mapping[str, Any]]
    places: Sequence[int]


class Rows(Protocol):
    """Rows of a file with named fields, which can be read again and again."""

    @property
    def names(self) -> Sequence[str]:
        """Field names."""

    def blocks(self, roles: Roles, refusals: Refusals) -> Iterator[Block]:
        """All rows; ``roles`` are no features."""

    def place(self, place: int) -> str:
        """Where a row stands, for people."""


class TableRows:
    """Rows of a table."""

    def __init__(self, table: Table, name: str) -> None:
        self.names = table.names
        self._table = table
        self._name = name
        self._readings: dict[str, Reading] | None = None

    def place(self, place: int) -> str:
        return f"{self._name}, row {place}"

    def blocks(self, roles: Roles, refusals: Refusals) -> Iterator[Block]:  # noqa: ARG002 — the table's reader refuses
        special = [column for _, column in roles.items()]
        others = [name for name in self.names if name not in special]
        start = 1
        for chunk in self._table.chunks():
            size = len(next(iter(chunk.values()), ()))
            if self._readings is None:
                texts = {} if self._table.typed else chunk
                self._readings = {name: reading_of(cells) for name, cells in texts.items()}
            values = {name: self._read(name, chunk[name]) for name in self.names}
            rows = zip(*(plain(values[name]) for name in others), strict=True) if others else [()] * size
            features = [dict(zip(others, row, strict=True)) for row in rows]
            yield Block({name: values[name] for name in special}, features, range(start, start + size))
            start += size

    def _read(self, name: str, cells: NDArray[Any]) -> NDArray[Any]:
        return read(cells, (self._readings or {}).get(name, Reading.TEXT))


def plain(values: NDArray[Any]) -> list[Any]:
    """Values as JSON has them: dates are text, and what a reader has condensed is itself again, where it can be."""
    if values.dtype.kind == "M":
        return [None if value is None else value.isoformat() for value in values.astype("datetime64[us]").tolist()]
    listed: list[Any] = values.tolist()
    return [_whole(value) for value in listed] if values.dtype.kind == "O" else listed


def _whole(value: object) -> object:
    if isinstance(value, LongText):
        return value.beginning.ljust(value.length)
    return None if isinstance(value, Vector | Unsupported) else value


class LineRows:
    """Rows of a file with a JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        names: dict[str, None] = {}
        for _, line in islice(lines_of(path), SAMPLE_ROWS):
            names |= dict.fromkeys(_object(line) or ())
        self.names = tuple(names)

    def place(self, place: int) -> str:
        return f"{self._path.name}, line {place}"

    def blocks(self, roles: Roles, refusals: Refusals) -> Iterator[Block]:
        special = [column for _, column in roles.items()]
        lines = lines_of(self._path)
        while chunk := list(islice(lines, CHUNK_ROWS)):
            rows: list[dict[str, Any]] = []
            places: list[int] = []
            for number, line in chunk:
                row = _object(line)
                if row is None:
                    refusals.note(self.place(number), "malformed", "expected a JSON object")
                else:
                    rows.append(row)
                    places.append(number)
            columns = {name: objects(row.pop(name, None) for row in rows) for name in special}
            yield Block(columns, rows, places)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        return _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose events they are, where no column says it."""

    model_id: str
    model_version: str


class RowHistory:
    """Rows as events. Raises ``ConfigurationError`` for a table that cannot be read."""

    partitions = 1

    def __init__(
        self,
        name: str,
        rows: Callable[[Refusals], Rows],
        given: Roles,
        subject: Subject,
        interval: Fraction,
        progress: Progress = lambda _: None,
    ) -> None:
        """``interval``: microseconds between two rows where the table has no times."""
        self.name = name
        self.refusals = Refusals()
        self._open = rows
        self._subject = subject
        self._interval = interval
        self.roles, self._numeric_target = self._decide(given)
        self.survey = self._look(progress)

    def _decide(self, given: Roles) -> tuple[Roles, bool]:
        """The roles, and whether the target is a number."""
        opened = self._open(Refusals())
        self._places, self.names = opened.place, opened.names
        try:
            roles = roles_of(opened.names, given)
        except ConfigurationError as error:
            raise ConfigurationError(f"{self.name}: {error}") from None
        first = next(opened.blocks(roles, Refusals()), None)
        if first is None or not len(first.places):
            return roles, False
        columns = {name: values[:SAMPLE_ROWS] for name, values in first.columns.items()}
        if roles.timestamp is not None:
            roles = without_false_times(roles, given, columns[roles.timestamp])
        found = roles.label if given.label is None and roles.value is None else None
        if found is not None and _is_measured(columns[found]):  # a column `prediction` may hold either
            roles = replace(roles, value=found, label=None)
        of_numbers = set(roles.parts) == {"value"}
        measured = roles.target is not None and not roles.parts and _is_measured(columns[roles.target])
        numeric = roles.target is not None and (of_numbers or measured)
        return roles, numeric

    @property
    def kind(self) -> SourceKind:
        """Rows with a target belong to a prediction, even if the table does not tell which."""
        predicts = self.roles.parts or self.roles.target
        return SourceKind.PREDICTIONS if predicts else SourceKind.FEATURES

    def _look(self, progress: Progress) -> Survey:
        survey, before, seen = Survey(kinds={self.kind}), None, 0
        for block, times, _ in self._timed(Refusals()):
            labels = self._targets(block)
            survey.events += len(block.places)
            survey.labels += sum(label is not None for label in labels)
            for time in times.tolist():
                survey.time(time, before)
                before = time
            for model in zip(*self._models(block), strict=True):
                if len(survey.models) < MAX_MODELS or model in survey.models:
                    survey.models[model] += 1
            seen += len(block.places)
            progress(seen)
        if survey.labels:
            survey.kinds.add(SourceKind.LABELS)
        return survey

    def messages(self) -> Iterator[Message]:
        self.refusals = Refusals()
        messages = self._messages(self.refusals)
        return in_order(messages) if self.survey.disordered else messages

    def place(self, kind: SourceKind, partition: int, place: int) -> str:  # noqa: ARG002 — a table is one partition
        return self._places(place)

    def _timed(self, refusals: Refusals) -> Iterator[tuple[Block, NDArray[np.int64], Rows]]:
        """Rows with their times; those that have none are refused."""
        rows = self._open(refusals)
        number = 0
        for block in rows.blocks(self.roles, refusals):
            if self.roles.timestamp is None:
                count = range(number, number + len(block.places))
                times = np.array([START_US + int(i * self._interval) for i in count], dtype=np.int64)
                yield block, times, rows
            else:
                times, wrong = times_of(block.columns[self.roles.timestamp])
                for row, reason in wrong.items():
                    refusals.note(rows.place(block.places[row]), "timestamp", f"{self.roles.timestamp}: {reason}")
                if wrong:
                    kept = [row for row in range(len(times)) if row not in wrong]
                    block, times = _taken(block, kept), times[kept]  # noqa: PLW2901 — what is left of it
                yield block, times, rows
            number += len(block.places)

    def _messages(self, refusals: Refusals) -> Iterator[Message]:
        with_id = self.roles.prediction_id is not None
        kind, parts = self.kind, self.roles.parts
        for block, times, _ in self._timed(refusals):
            columns = {part: plain(block.columns[column]) for part, column in parts.items()}
            predictions = [_present(parts, row) for row in zip(*columns.values(), strict=True)] if columns else None
            targets = self._targets(block)
            ids = self._ids(block)
            rows = zip(block.places, times.tolist(), *self._models(block), ids, block.features, targets, strict=True)
            for i, (place, time, model_id, version, identity, features, target) in enumerate(rows):
                prediction = predictions[i] if predictions is not None else {}
                event = {"model_id": model_id, "model_version": version, "timestamp": time, "features": features}
                if kind is SourceKind.PREDICTIONS:
                    event["prediction"] = prediction
                if with_id:
                    event["prediction_id"] = identity
                yield Message(kind, _encode(event), time, time // 1_000, place)
                if target is not None:
                    label = {
                        "prediction_id": identity,
                        "model_id": model_id,
                        "model_version": version,
                        "value" if self._numeric_target else "label": target,
                        "prediction": prediction,
                    }
                    yield Message(SourceKind.LABELS, _encode(label), time, time // 1_000, place)

    def _targets(self, block: Block) -> list[Any]:
        column = self.roles.target
        if column is None:
            return [None] * len(block.places)
        return [None if value != value else value for value in plain(block.columns[column])]  # noqa: PLR0124 — NaN

    def _ids(self, block: Block) -> list[str]:
        column = self.roles.prediction_id
        return [*map(str, block.places if column is None else plain(block.columns[column]))]

    def _models(self, block: Block) -> tuple[list[str], list[str]]:
        """Model and version of each row."""
        given = ((self.roles.model_id, self._subject.model_id), (self.roles.model_version, self._subject.model_version))
        found = []
        for column, usual in given:
            if column is None:
                found.append([usual] * len(block.places))
            else:
                found.append([usual if value is None else _name(value) for value in plain(block.columns[column])])
        return found[0], found[1]


def _name(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _present(names: Mapping[str, str], row: Sequence[Any]) -> dict[str, Any]:
    return {part: value for part, value in zip(names, row, strict=True) if value is not None and value == value}  # noqa: PLR0124 — NaN


def _is_measured(values: NDArray[Any]) -> bool:
    """Whether these are numbers, and too many different ones for classes."""
    listed = [value for value in values.tolist() if value is not None]
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in listed) and len({*listed}) > FEW_CLASSES


def _taken(block: Block, kept: Sequence[int]) -> Block:
    columns = {name: values[kept] for name, values in block.columns.items()}
    return Block(columns, [block.features[row] for row in kept], [block.places[row] for row in kept])


_encode: Final = msgspec.json.Encoder().encode
