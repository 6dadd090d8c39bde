"""What a codec is told of a topic, how it reads times, and what it gives back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.events import Batch, DeadLetter, SourceKind

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


_PER_UNIT: Final = {
    TimestampUnit.SECONDS: 1e6,
    TimestampUnit.MILLISECONDS: 1e3,
    TimestampUnit.MICROSECONDS: 1.0,
    TimestampUnit.NANOSECONDS: 1e-3,
}


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

    def microseconds(self, timestamp: datetime | str | float) -> int:
        """An event's timestamp in microseconds since the epoch. Raises ``ValueError`` saying what is wrong."""
        if isinstance(timestamp, str):
            timestamp = self._parse(timestamp)
        if isinstance(timestamp, datetime):
            return self._of_datetime(timestamp)
        if isinstance(timestamp, bool) or self.unit is TimestampUnit.RFC3339:
            raise ValueError("expected an RFC 3339 text")
        factor = _PER_UNIT[_unit_by_magnitude(timestamp) if self.unit is TimestampUnit.AUTO else self.unit]
        if not math.isfinite(timestamp):
            raise ValueError("not a finite number")
        # Integers stay integers: nanoseconds since 1970 do not fit a float64.
        exact = isinstance(timestamp, int)
        scaled = timestamp * int(factor) if exact and factor >= 1 else timestamp * factor
        result = timestamp // round(1 / factor) if exact and factor < 1 else round(scaled)
        if abs(result) > _LIMIT_US:
            raise ValueError("further than 73,000 years from the epoch")
        return int(result)

    def _parse(self, text: str) -> datetime:
        if self.unit not in {TimestampUnit.AUTO, TimestampUnit.RFC3339}:
            raise ValueError(f"expected a number in {self.unit}")
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
        return round(time.timestamp() * 1e6)  # exact to the year 2255, and thrice as fast as integer arithmetic


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
    """Place of each event's message in the record batch, ascending. Shape (n,)."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """All that a record batch held; every message is either an event in ``batches`` or in ``dead``."""

    batches: Sequence[DecodedBatch]
    dead: Sequence[DeadLetter] = field(default_factory=tuple)
