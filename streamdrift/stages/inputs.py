"""What the stages that read input topics have in common: how far they are, when traffic has stopped, and what is dead.

summarise and join read the same topics, each in a group of its own; what is written here holds for both.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamdrift.codecs import Source
from streamdrift.errors import StateError
from streamdrift.events import DeadLetter
from streamdrift.records import NO_TIMESTAMP, OutputRecord, Position, RecordBatch, TopicPartition
from streamdrift.stages.attempts import Attempts
from streamdrift.stages.dead_letter_limit import DeadLetterLimit
from streamdrift.ticks import END_OF_TIME, MICROSECONDS, NEVER, tick_of

CONTROL_HEADER: Final = "streamdrift.control"
END_OF_STREAM: Final = b"end-of-stream"
_METADATA: Final = "w1:"
_METADATA_READ: Final = re.compile(r"w1:(?P<watermark>-?\d{1,20})(:(?P<attempts>\d{1,9}))?", re.ASCII)

_LARGEST_LETTER: Final = 900_000
"""Bytes of key and value that a dead letter may carry: producers refuse records over 1,000,000 with their headers."""


class Idle(StrEnum):
    """What happens to the time of a partition whose traffic stopped."""

    ADVANCE = "advance"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class InputConfig:
    """How input topics are read; durations of event time in microseconds, of the loop in seconds."""

    tick_us: int = 10 * MICROSECONDS
    skew_us: int = 300 * MICROSECONDS
    """How far an event may lie ahead of the clock."""
    idle: Idle = Idle.ADVANCE
    idle_after: float = 60.0
    max_ahead: int = 360
    """Ticks by which one partition may be ahead of the slowest before it is paused."""
    commit_interval: float = 1.0
    attempts: int = 3
    """Times that a record may end the process before it is set aside."""
    dead_letter_share: float = 0.9
    """Share of messages that are no events beyond which the stage stops; 1 for never."""
    summaries_topic: str = "streamdrift-summaries"
    summaries_partitions: int = 4
    dead_letters_topic: str = "dead-letters"
    dead_letter_values: bool = True
    """Whether dead letters carry the message itself (unless it is too large to be written again), or only where it
    lies."""


@dataclass(slots=True)
class InputPartition:
    """How far an input partition is read by its owner."""

    source: Source
    attempts: Attempts
    next_offset: int
    unmarked: bool = False
    """Whether it is still to be committed that reading is attempted."""
    at_end_since: float | None = None
    changed: bool = True
    dead_letters: list[OutputRecord] = field(default_factory=list)

    def begin(self) -> None:
        """The first records since it was handed over come next."""
        self.attempts.begun = self.unmarked = self.changed = True

    def read(self, batch: RecordBatch) -> None:
        """All of ``batch`` was read."""
        self.next_offset = batch.offsets[-1] + 1
        self.at_end_since = None
        self.changed = True

    def moved_by_silence(self, watermark: int, lateness_us: int, now: float, config: InputConfig) -> int | None:
        """The reader stands at the end at ``now``: the watermark that this makes, if it is one of a later tick.

        The wall clock enters through the log: other readers of it decide by what is written there.
        """
        self.at_end_since = now if self.at_end_since is None else min(now, self.at_end_since)
        if config.idle is not Idle.ADVANCE or now - self.at_end_since < config.idle_after:
            return None
        moved = int(now * MICROSECONDS) - lateness_us
        return moved if tick_of(moved, config.tick_us) > tick_of(watermark, config.tick_us) else None

    @property
    def careful(self) -> bool:
        """Whether its records are to be handed over one by one."""
        return self.attempts.careful(self.next_offset)

    @property
    def is_due(self) -> bool:
        """Whether something is to be committed at once."""
        return self.unmarked or (self.changed and self.careful)

    def position(self, watermark: int, *, final: bool) -> Position:
        """What is committed of it: the next offset, and with it the watermark and the attempts to read on."""
        attempts = 0 if final else self.attempts.pending(self.next_offset)  # an end that is meant is no failed attempt
        return Position(self.next_offset, f"{_METADATA}{watermark}" + (f":{attempts}" if attempts else ""))


class DeadLetters:
    """Counts and writes what is dead among the messages of one source, and stops where that is nearly all."""

    def __init__(self, topic: str, config: InputConfig) -> None:
        self._config = config
        self._limit = DeadLetterLimit(topic, config.dead_letter_share)
        self.counts: Counter[str] = Counter()
        """Events by the class of what is wrong with them."""

    def bury(self, part: InputPartition, batch: RecordBatch, dead: Iterable[DeadLetter]) -> None:
        """Take note of what is dead in the batch that is being read."""
        for letter in dead:
            self.counts[letter.reason] += letter.events
            self._limit.bury(batch.offsets[letter.index], letter)
            part.dead_letters.append(self._record(batch, letter))

    def set_aside(self, part: InputPartition, batch: RecordBatch) -> int:
        """Bury the first record if it is the one that ended the process so often; how many records that are."""
        if not part.attempts.used_up(batch.offsets[0]):
            return 0
        tries = part.attempts.number - 1
        self.bury(part, batch, [DeadLetter(0, "quarantined", f"the process ended {tries} times while reading it")])
        return 1

    def read(self, batch: RecordBatch) -> None:
        """All of ``batch`` was read. Raises ``FatalError`` if too much was dead of late."""
        self._limit.read(batch)

    def _record(self, batch: RecordBatch, letter: DeadLetter) -> OutputRecord:
        i = letter.index
        facts = {
            "class": letter.reason,
            "message": letter.message,
            "topic": batch.topic,
            "partition": batch.partition,
            "offset": batch.offsets[i],
            "timestamp": batch.timestamps[i],
        }
        headers = [(f"streamdrift.error.{name}", str(fact).encode()) for name, fact in facts.items()]
        size = len(batch.keys[i] or b"") + len(batch.values[i] or b"")
        whole = self._config.dead_letter_values and size <= _LARGEST_LETTER
        return OutputRecord(
            self._config.dead_letters_topic,
            batch.keys[i] if whole else None,
            batch.values[i] if whole else None,
            headers,
        )


def pieces(batch: RecordBatch, start: int) -> Iterator[tuple[RecordBatch, bool]]:
    """The records from ``start`` on between those that end their partition, and whether one of these follows."""
    for i in () if all(batch.values) else [i for i, value in enumerate(batch.values) if value is None]:
        if is_control(batch.headers[i]):
            yield batch.part(start, i), True
            start = i + 1
    yield batch.part(start, len(batch)) if start else batch, False


def is_control(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """Whether a record without a value ends its partition."""
    return (CONTROL_HEADER, END_OF_STREAM) in (headers or ())


def from_the_future(
    times: NDArray[np.int64], index: NDArray[np.int64], batch: RecordBatch, now: float, skew_us: int
) -> NDArray[np.bool_]:
    """Which events lie further ahead than their record, or the clock, allows. Shapes (n,).

    ``index`` is the place of each event's message in the batch. One clock that is wrong must not close every tick.
    """
    recorded = np.asarray(batch.timestamps, dtype=np.int64)
    clock = np.int64(now * 1_000)
    # The clock comes first: a record time that is absurd would wrap in microseconds.
    newest = np.where(recorded == NO_TIMESTAMP, clock, np.clip(recorded, 0, clock))
    return np.asarray(times > (newest * 1_000 + skew_us)[index])


def of_the_future(index: NDArray[np.int64]) -> Iterator[DeadLetter]:
    """The dead letters of events that lie ahead of the clock, by the places of their messages."""
    for place, count in zip(*map(np.ndarray.tolist, np.unique(index, return_counts=True)), strict=True):
        yield DeadLetter(place, "future", "timestamp: lies ahead of the clock", count)


def ahead_of_others(
    watermarks: Mapping[TopicPartition, int], parts: Mapping[TopicPartition, InputPartition], config: InputConfig
) -> Collection[TopicPartition]:
    """Those that are ``max_ahead`` ticks in front of the slowest one that still has something to read."""
    behind = [watermarks[tp] for tp, part in parts.items() if part.at_end_since is None]
    if not behind or min(behind) == NEVER:
        # Nothing is known yet of one that is being read: waiting for it could wait for ever.
        behind = [watermark for watermark in behind if watermark != NEVER]
    limit = min(behind, default=END_OF_TIME) + config.max_ahead * config.tick_us
    return [tp for tp, watermark in watermarks.items() if limit < watermark < END_OF_TIME]


def from_metadata(tp: TopicPartition, start: Position) -> tuple[int, int]:
    """Watermark and attempts that lie with a committed offset; ``NEVER`` and 0 where nothing was committed yet."""
    if match := _METADATA_READ.fullmatch(start.metadata):
        return int(match["watermark"]), int(match["attempts"] or 0)
    where = f"the committed offset {start.offset} of {tp.topic}[{tp.partition}]"
    if start.metadata:
        raise StateError(f"{where} carries {start.metadata[:16]!r}, not a watermark that this version knows")
    if start.committed:
        # What was counted since the right place would be counted twice, or be late, and nothing would say so.
        raise StateError(
            f"{where} carries no watermark, so somebody else set it (a reset of the group's offsets?). Either set the "
            "group's offsets back; or delete them for the whole topic, to begin where sources[].start_from says; or, "
            "to count the past again, run under another kafka.application"
        )
    return NEVER, 0
