"""What a stage is: the calls that a loop makes on it, whichever broker stands behind the loop.

The Kafka loop (``streamdrift.kafka.loop``) and the in-memory topology driver (``streamdrift.topology``)
are the two callers; both call from one thread, in this order::

    topology(counts)                         at start, and whenever a partition count changed
    assigned(tp, start, state)               once for each partition that is handed over
    begin(tp), take(now) -> Commit           before the first records of such a partition
    process(batch, now) ...                  records of owned partitions, in offset order
    reached_end(tp, now)                     the reader stands at the end of tp
    take(now, final=False) -> Commit         after every poll; empty until something is due
    carried_out(ends)                        whenever such a commit is true
    take(now, final=True)                    before a revoke and before a clean stop
    revoked(tp)                              tp is owned no longer; its state is dropped

A stage never reads a clock, the environment or a client: ``now`` comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from streamdrift.records import Commit, Position, RecordBatch, TopicPartition


class StartFrom(StrEnum):
    """Where a group without a committed offset begins (the loop resolves it to an offset)."""

    EARLIEST = "earliest"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class StartAt:
    """The first record that is not older than a time; the end of the partition where all are."""

    milliseconds: int
    """Since the epoch."""


Start = StartFrom | StartAt


class Stage(Protocol):
    """One consumer group's work."""

    @property
    def name(self) -> str:
        """Suffix of the consumer group and label of the stage's metrics: ``summarise``, ``detect``."""

    @property
    def inputs(self) -> Collection[str]:
        """The topics to subscribe to."""

    @property
    def state_topic(self) -> str | None:
        """The compacted topic, partitioned as the input, that ``assigned`` is to be given; None without state."""

    @property
    def together(self) -> bool:
        """Whether the partitions of one number, of all inputs, must have the same owner."""

    def topology(self, counts: Mapping[str, int]) -> None:
        """Take the number of partitions of every input topic, as the cluster has it now."""

    def assigned(self, tp: TopicPartition, start: Position, state: Mapping[bytes, bytes]) -> int:
        """Own ``tp`` from now on; the offset at which reading is to begin: that of ``start``, or an earlier one.

        ``start`` is what the group committed last, with its metadata. For a partition that it never
        committed, the caller has resolved the offset (see ``StartFrom``) and the metadata is empty; a
        first ``take`` that commits it makes the choice last. ``state`` is the latest value of each key
        in the same partition of ``state_topic`` (empty without one).

        Raises ``StateError`` for state that this version cannot continue from.
        """

    def begin(self, tp: TopicPartition) -> None:
        """The first records of ``tp`` since it was handed over come next; what ``take`` gives is carried out before."""

    def process(self, batch: RecordBatch, now: float) -> None:
        """Fold records of an owned partition. Never blocks, never waits for a broker."""

    def reached_end(self, tp: TopicPartition, now: float) -> None:
        """The reader stands at the end of ``tp`` at ``now`` (seconds since the epoch)."""

    def careful(self, tp: TopicPartition) -> bool:
        """Whether the records of ``tp`` are to be handed over one by one, each committed before the next."""

    def paused(self) -> Collection[TopicPartition]:
        """The owned partitions that should not be read for the moment (they are ahead of others)."""

    def take(self, now: float, *, final: bool = False) -> Commit:
        """What is due to be produced and committed; the caller carries it out before the next call.

        ``final`` asks for everything, due or not: ownership or the process is about to end.
        """

    def carried_out(self, ends: Mapping[TopicPartition, int]) -> None:
        """What ``take`` gave last is true now; ``ends`` are the offsets behind its ``state`` in each partition."""

    def expendable(self, now: float) -> Mapping[TopicPartition, int]:
        """Offsets of owned partitions below which nobody will need a record; empty for topics of others."""

    def revoked(self, tp: TopicPartition) -> None:
        """``tp`` is owned no longer (or was lost): drop what was folded from it."""
