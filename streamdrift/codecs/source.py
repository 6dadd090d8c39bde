"""What a codec is told of a topic, how it reads times, and what it gives back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdrift.codecs.mapping import LabelMapping, Mapping
from streamdrift.events import Batch, DeadLetter, SourceKind
from streamdrift.privacy import Privacy
from streamdrift.records import NO_TIMESTAMP

_LIMIT_US: Final = 1 << 61
"""Times beyond ± 73,000 years cannot be meant, and would overflow where ticks are computed."""


class EventTime(StrEnum):
    """Which time of a message decides its tick."""

    EVENT = "event"
    RECORD = "record"


class TimestampUnit(StrEnum):
    """How the ``timestamp`` of an event is written; ``auto`` takes text as RFC 3339, numbers by magnitude."""

    AUTO = "auto"
    RFC3339 = "rfc3339"
    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    NANOSECONDS = "ns"


PER_UNIT: Final = {
    TimestampUnit.SECONDS: 1_000_000,
    TimestampUnit.MILLISECONDS: 1_000,
    TimestampUnit.MICROSECONDS: 1,
}
"""Microseconds in a unit; nanoseconds are divided instead."""


@dataclass(frozen=True, slots=True)
class Source:
    """An input topic and how its messages are read. Lateness in microseconds."""

    topic: str
    kind: SourceKind = SourceKind.PREDICTIONS
    event_time: EventTime = EventTime.EVENT
    unit: TimestampUnit = TimestampUnit.AUTO
    zone: tzinfo | None = None
    """Zone of times that name none; without one such times are refused."""
    lateness_us: int = 30_000_000
    end_of_stream: bool = False
    """Whether an end-of-stream marker is honoured."""
    max_message_bytes: int = 1 << 20
    mapping: Mapping = field(default_factory=Mapping)
    privacy: Privacy = field(default_factory=Privacy)
    """What is left of values before anything else is made of them."""
    label_mapping: LabelMapping = field(default_factory=LabelMapping)
    """That of a source of labels."""

    def time(self, timestamp: object, recorded: int) -> int:
        """Time of an event in microseconds; ``recorded`` is the record's in milliseconds. Raises ``ValueError``."""
        if self.event_time is EventTime.EVENT and timestamp is not None:
            try:
                return self.microseconds(timestamp)
            except ValueError as error:
                raise ValueError(f"timestamp: {error}") from None
        if recorded == NO_TIMESTAMP:
            raise ValueError("neither the event nor the record carries a time")
        try:
            return _within_limit(recorded * 1_000)
        except ValueError as error:
            raise ValueError(f"the record's time: {error}") from None

    def microseconds(self, timestamp: object) -> int:
        """An event's timestamp in microseconds since the epoch. Raises ``ValueError`` saying what is wrong."""
        if isinstance(timestamp, str):
            timestamp = self._parse(timestamp)
        if isinstance(timestamp, datetime):
            return self._of_datetime(timestamp)
        if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
            raise ValueError("expected a text or a number")  # noqa: TRY004 — what is wrong is data
        if self.unit is TimestampUnit.RFC3339:
            raise ValueError("expected an RFC 3339 text")
        return self._of_number(timestamp)

    def unit_of(self, number: float) -> TimestampUnit:
        """The unit that a timestamp is taken to be in."""
        return _unit_by_magnitude(number) if self.unit is TimestampUnit.AUTO else self.unit

    def _of_number(self, number: float) -> int:
        if not isinstance(number, int) and not math.isfinite(number):
            raise ValueError("not a finite number")
        unit = self.unit_of(number)
        if isinstance(number, int):
            # Integers stay integers: nanoseconds since 1970 do not fit a float64.
            return _within_limit(number // 1_000 if unit is TimestampUnit.NANOSECONDS else number * PER_UNIT[unit])
        scaled = number / 1e3 if unit is TimestampUnit.NANOSECONDS else number * PER_UNIT[unit]
        return _within_limit(round(scaled) if math.isfinite(scaled) else _LIMIT_US + 1)

    def _parse(self, text: str) -> datetime:
        if self.unit not in {TimestampUnit.AUTO, TimestampUnit.RFC3339}:
            raise ValueError(f"expected a number in {self.unit}")
        try:
            return msgspec.convert(text, datetime)
        except (msgspec.ValidationError, UnicodeEncodeError):
            # What is no RFC 3339 to the letter, but leaves no doubt either: without seconds, say.
            try:
                return datetime.fromisoformat(text)
            except ValueError:
                raise ValueError("not an RFC 3339 time") from None

    def _of_datetime(self, time: datetime) -> int:
        if self.unit not in {TimestampUnit.AUTO, TimestampUnit.RFC3339}:
            raise ValueError(f"expected a number in {self.unit}")
        if time.tzinfo is None:
            if self.zone is None:
                raise ValueError("names no zone, and the source names none either")
            time = time.replace(tzinfo=self.zone)
        if _EXACT_FROM <= time.year < _EXACT_UNTIL:
            return round(time.timestamp() * 1e6)  # thrice as fast as integer arithmetic
        try:
            return (time - _EPOCH) // timedelta(microseconds=1)
        except OverflowError:
            raise ValueError("beyond the years that a calendar has") from None


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EXACT_FROM, _EXACT_UNTIL = 1835, 2105
"""Years within 2**32 s of the epoch, where a float64 of seconds still tells one microsecond from the next."""


def _within_limit(time_us: int) -> int:
    """The same time. Raises ``ValueError`` for one that cannot be meant."""
    if abs(time_us) > _LIMIT_US:
        raise ValueError("further than 73,000 years from the epoch")
    return time_us


def _unit_by_magnitude(number: float) -> TimestampUnit:
    """Seconds until the year 5138, milliseconds from 1973 on, and so forth: the ranges do not meet in practice."""
    size = abs(number)
    if size < 1e11:  # noqa: PLR2004 — the limits are the rule, and said above
        return TimestampUnit.SECONDS
    if size < 1e14:  # noqa: PLR2004
        return TimestampUnit.MILLISECONDS
    return TimestampUnit.MICROSECONDS if size < 1e17 else TimestampUnit.NANOSECONDS  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """The events of one model version among the messages of a batch."""

    events: Batch
    index: NDArray[np.int64]
    """Place of each event's message in the record batch, ascending; the events of one message have the same one.
    Shape (n,)."""

    @classmethod
    def joined(cls, parts: Sequence[DecodedBatch]) -> DecodedBatch:
        """All events of parts on one grid, in the order of their messages."""
        if len(parts) == 1:
            return parts[0]
        events, index = Batch.joined([part.events for part in parts]), np.concatenate([part.index for part in parts])
        order = np.argsort(index, kind="stable")
        return cls(events.take(order), index[order])


@dataclass(frozen=True, slots=True)
class Decoded:
    """All that a record batch held; every message is an event in ``batches``, several of them, or in ``dead``."""

    batches: Sequence[DecodedBatch]
    dead: Sequence[DeadLetter] = ()
    exploded: int = 0
    """Events, dead ones too, beyond the first of a message."""
    eventless: int = 0
    """Messages whose array of events is empty."""
