"""Files of messages: a JSON document a line, predictions, feature events and labels as they come.

The order of the lines is the order in which the messages came, as in a topic; what is late by it is late. A label
comes at its ``outcome_timestamp``, or without one when the event before it in the file came.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec

from streamdrift.codecs import Source
from streamdrift.errors import ConfigurationError
from streamdrift.events import SourceKind
from streamdrift.records import NO_TIMESTAMP
from streamdrift.replay.messages import MAX_MODELS, Message, Refusals, Survey

LOOK_EVERY: Final = 10_000
"""Lines between two reports of progress."""

Progress = Callable[[int], None]
"""Is told how many lines, or rows, were looked at."""


_ABSENT: Final = msgspec.Raw()


class Head(msgspec.Struct, gc=False):
    """What a look at a message of the contract's shape needs; features and prediction are skipped over."""

    model_id: Any = None
    model_version: Any = ""
    timestamp: Any = None
    outcome_timestamp: Any = None
    features: msgspec.Raw = _ABSENT
    prediction: msgspec.Raw = _ABSENT
    label: Any = None
    value: Any = None

    @property
    def kind(self) -> SourceKind:
        """What the message tells of: a label has an outcome, and no features."""
        if not _is_there(self.features) and (self.label is not None or self.value is not None):
            return SourceKind.LABELS
        return SourceKind.PREDICTIONS if _is_there(self.prediction) else SourceKind.FEATURES


def _is_there(part: msgspec.Raw) -> bool:
    return bytes(part) not in {b"", b"null"}


_decode: Final = msgspec.json.Decoder(Head).decode


def head_of(line: bytes) -> Head | None:
    """The head of a message; None if it has none: judging it is the codec's business."""
    try:
        return _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class EventFile:
    """A JSON Lines file (also ``.gz``) of messages. ``mapped``: its events are of any shape, which a mapping describes.

    Raises ``ConfigurationError`` if it cannot be read.
    """

    partitions = 1

    def __init__(self, path: Path, progress: Progress = lambda _: None, *, mapped: bool = False) -> None:
        self.name = str(path)
        self._path = path
        self._mapped = mapped
        self._source = Source("file")
        self.refusals = Refusals()
        self.survey = self._look(progress)

    def _look(self, progress: Progress) -> Survey:
        survey, before = Survey(), None
        for number, (message, head) in enumerate(self._read(), 1):
            survey.kinds.add(message.kind)
            if message.kind is SourceKind.LABELS:
                survey.labels += 1
            else:
                survey.events += 1
                if message.time_us is not None:
                    survey.time(message.time_us, before)
                    before = message.time_us
            if head is None or head.model_id is None:
                survey.unnamed += 1
            elif message.kind is not SourceKind.LABELS:
                model = str(head.model_id), str(head.model_version)
                if len(survey.models) < MAX_MODELS or model in survey.models:
                    survey.models[model] += 1
            if number % LOOK_EVERY == 0:
                progress(number)
        return survey

    def messages(self) -> Iterator[Message]:
        return (message for message, _ in self._read())

    def place(self, kind: SourceKind, partition: int, place: int) -> str:  # noqa: ARG002 — a file is one partition
        return f"{self._path.name}, line {place}"

    def _read(self) -> Iterator[tuple[Message, Head | None]]:
        events_us: int | None = None
        labels_us: int | None = None
        for number, line in lines_of(self._path):
            head = head_of(line)
            kind = SourceKind.PREDICTIONS if head is None else head.kind
            if head is not None and kind is SourceKind.LABELS:
                said = self._time(head.outcome_timestamp)
                came = [time for time in (labels_us, events_us if said is None else said) if time is not None]
                labels_us = max(came, default=None)
                yield Message(kind, line, labels_us, _milliseconds(labels_us), number), head
                continue
            if self._mapped:
                kind = SourceKind.PREDICTIONS
            time_us = None if head is None else self._time(head.timestamp)
            # An event without a time of its own has that of its record: it came when the one before it did.
            recorded = NO_TIMESTAMP if time_us is not None else _milliseconds(events_us)
            if time_us is not None:
                events_us = time_us if events_us is None else max(events_us, time_us)
            yield Message(kind, line, time_us, recorded, number), head

    def _time(self, timestamp: object) -> int | None:
        if timestamp is None:
            return None
        try:
            return self._source.microseconds(timestamp)
        except ValueError:
            return None


def _milliseconds(time_us: int | None) -> int:
    return NO_TIMESTAMP if time_us is None else time_us // 1_000


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers. Raises ``ConfigurationError``."""
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                text = line.strip().removeprefix(b"\xef\xbb\xbf")
                if text:
                    yield number, text
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"{path}, after line {number}: cannot be read: {error}") from None


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")
