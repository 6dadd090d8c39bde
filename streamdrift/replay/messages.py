"""What a history consists of: messages, as they would stand in topics, and what a first look at them found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from streamdrift.events import SourceKind
from streamdrift.gridbook import ModelKey
from streamdrift.records import NO_TIMESTAMP, Headers

EXAMPLES: Final = 5
"""Refusals that are shown one by one; the others are counted."""
MAX_MODELS: Final = 100
"""Model versions that a first look remembers."""


class Message(NamedTuple):
    """One message of the history."""

    kind: SourceKind
    value: bytes | None
    time_us: int | None = None
    """Event time, where it is known before decoding."""
    recorded_ms: int = NO_TIMESTAMP
    """When it came, as Kafka would have stamped it."""
    place: int = 0
    """Line, row or offset, for whoever is to find it again."""
    partition: int = 0
    key: bytes | None = None
    headers: Headers = ()


@dataclass(slots=True)
class Survey:
    """What a first look at a history found."""

    events: int = 0
    labels: int = 0
    kinds: set[SourceKind] = field(default_factory=set)
    models: Counter[ModelKey] = field(default_factory=Counter)
    """Events by model version, of the first ``MAX_MODELS`` of them."""
    unnamed: int = 0
    """Events that name no model."""
    first_us: int | None = None
    last_us: int | None = None
    disordered: int = 0
    """Messages with a time before that of the one before."""

    @property
    def messages(self) -> int:
        return self.events + self.labels

    def time(self, time_us: int, previous: int | None) -> None:
        """Take note of a message's time; ``previous`` is that of the one before."""
        self.first_us = time_us if self.first_us is None else min(self.first_us, time_us)
        self.last_us = time_us if self.last_us is None else max(self.last_us, time_us)
        self.disordered += previous is not None and time_us < previous


@dataclass(slots=True)
class Refusals:
    """What could not be read as an event: counts by reason, and the first examples."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def note(self, where: str, reason: str, message: str) -> None:
        self.counts[reason] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{where}: {message} ({reason})")


class History(Protocol):
    """A file of events, a table, or a range of a topic. It is read twice: looked at, and then replayed."""

    name: str
    """Of the file or topic, for people."""
    survey: Survey
    partitions: int
    refusals: Refusals
    """What was refused in the last reading."""

    def messages(self) -> Iterator[Message]:
        """All messages in the order in which they are to be replayed. Raises ``ConfigurationError``."""

    def place(self, kind: SourceKind, partition: int, place: int) -> str:
        """Where a message stands, for people."""
