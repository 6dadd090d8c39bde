"""A range of topics, read once as an outsider does: in no group, committing and writing nothing."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streamdrift.errors import ConfigurationError, FatalError
from streamdrift.kafka import client, codes
from streamdrift.kafka.client import ClientErrors, Cluster
from streamdrift.kafka.compacted import STALL_LIMIT
from streamdrift.kafka.messages import batches_of, partition_of, theirs_at
from streamdrift.kafka.offsets import Side, Since, list_offsets
from streamdrift.records import Position, RecordBatch, TopicPartition

Bound = Side | Since | int
"""An end of the topic, the first record since a time, or an offset."""
_POLL = 0.1
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What is to be read: offsets of each partition, from the first of the pair up to the second, without it."""

    partitions: Mapping[TopicPartition, tuple[int, int]]

    @property
    def records(self) -> int:
        """How many records that are at most: markers of transactions take offsets too."""
        return sum(end - start for start, end in self.partitions.values())


class Ranges:
    """Ranges of the topics of a cluster. To be used from one thread."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._errors = ClientErrors(cluster.repeats)
        self._admin: AdminClient = client.admin(cluster, self._errors)
        self._topics = client.reach(cluster, self._admin, self._errors).topics

    def extent(self, topic: str, start: Bound = Side.START, end: Bound = Side.END) -> Extent:
        """The range of a topic between two bounds, as far as it is there now.

        Raises ``ConfigurationError`` if there is no such topic, and ``FatalError`` where reading is refused.
        """
        if topic not in self._topics:
            raise ConfigurationError(f"topic {topic} does not exist on {self._cluster.bootstrap_servers}")
        partitions = [TopicPartition(topic, number) for number in sorted(self._topics[topic].partitions)]
        try:
            first, last = self._offsets(partitions, Side.START), self._offsets(partitions, Side.END)
            starts, ends = (self._offsets(partitions, bound) for bound in (start, end))
        except KafkaException as error:
            raise FatalError(f"kafka: cannot read {topic}: {error.args[0].str()}") from None
        found = {}
        for tp in partitions:
            low = last[tp] if starts[tp] < 0 else min(max(starts[tp], first[tp]), last[tp])
            high = last[tp] if ends[tp] < 0 else min(ends[tp], last[tp])
            found[tp] = low, max(low, high)
        return Extent(found)

    def _offsets(self, partitions: Collection[TopicPartition], bound: Bound) -> Mapping[TopicPartition, int]:
        if isinstance(bound, int):
            return dict.fromkeys(partitions, bound)
        return list_offsets(self._admin, partitions, bound, self._cluster.request_timeout)

    def read(self, extents: Collection[Extent]) -> Iterator[RecordBatch]:
        """All records of the ranges, a few at a time. Raises ``FatalError`` if nothing comes any more."""
        ends = {tp: pair for extent in extents for tp, pair in extent.partitions.items() if pair[0] < pair[1]}
        missing, moved = set(ends), time.monotonic()
        consumer = client.reader(self._cluster, self._errors)
        try:
            consumer.assign(theirs_at({tp: Position(start) for tp, (start, _) in ends.items()}))
            while missing:
                messages = []
                for message in consumer.consume(1_000, _POLL):
                    tp, error, offset = partition_of(message), message.error(), message.offset() or 0
                    moved = time.monotonic()
                    if error is None:
                        if offset < ends[tp][1]:
                            messages.append(message)
                        if offset + 1 >= ends[tp][1]:
                            missing.discard(tp)
                    elif error.code() == codes.PARTITION_EOF:
                        missing.discard(tp)
                    elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                        continue  # of the name that librdkafka demands; a reader is in no group
                    elif error.fatal() or not error.retriable():
                        raise FatalError(f"kafka: cannot read {tp.topic}[{tp.partition}]: {error.str()}")
                yield from batches_of(messages)
                if time.monotonic() - moved > STALL_LIMIT:
                    raise FatalError(f"no progress in reading for {STALL_LIMIT:g} s")
        finally:
            consumer.close()
