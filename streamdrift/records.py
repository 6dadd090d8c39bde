"""What travels between the log and the stages: records in, records and offsets out.

These shapes are the seam between the domain and Kafka. Nothing here knows a client library, so the
same stages run on Apache Kafka, on the embedded broker and in the in-memory topology driver.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Headers = Sequence[tuple[str, bytes | None]]

NO_TIMESTAMP = -1
"""What a broker gives for a record without a timestamp (milliseconds)."""


class TopicPartition(NamedTuple):
    """A partition of a topic; hashable, ordered by name and number."""

    topic: str
    partition: int


class Record(NamedTuple):
    """One record as it was read, for the topics that carry few of them."""

    offset: int
    timestamp: int
    """Milliseconds since the epoch, or ``NO_TIMESTAMP``."""
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Consecutive records of one partition in offset order, one list a field.

    Columns rather than objects: input topics carry 10,000 records a second, and an object for each
    would cost more than the statistics. All lists have the same length.
    """

    topic: str
    partition: int
    offsets: Sequence[int]
    timestamps: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers]

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[Record]:
        """The same records as rows."""
        return map(Record, self.offsets, self.timestamps, self.keys, self.values, self.headers)

    def part(self, start: int, stop: int) -> RecordBatch:
        """The records from ``start`` up to ``stop``, as places in the batch."""
        rows = slice(start, stop)
        return RecordBatch(
            self.topic,
            self.partition,
            self.offsets[rows],
            self.timestamps[rows],
            self.keys[rows],
            self.values[rows],
            self.headers[rows],
        )

    @property
    def source(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """A record to be produced. ``partition`` None leaves the choice to the key's hash."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a group stands in a partition: the next offset to read, and up to 64 bytes of metadata."""

    offset: int
    metadata: str = ""
    committed: bool = field(default=False, compare=False)
    """Whether it was read as what the group committed, be it by somebody else in the group's name."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What a stage wants to become true at once: records produced, and offsets committed.

    With transactions all of it is one transaction. At least once, the records are produced and
    acknowledged first, then ``state``, then the offsets are committed: state that says that an effect went
    out must not outlive the effect. ``offsets`` may be empty (effects that go out at a tick's close, ahead
    of the next snapshot).
    """

    outputs: Sequence[OutputRecord] = ()
    offsets: Mapping[TopicPartition, Position] = field(default_factory=dict)
    state: Sequence[OutputRecord] = ()
    warnings: Sequence[str] = ()
    """What the operators should know, to be logged; nothing depends on it."""
    more: bool = False
    """Whether another commit is due as soon as this one is carried out."""

    def __bool__(self) -> bool:
        return bool(self.outputs or self.offsets or self.state)
