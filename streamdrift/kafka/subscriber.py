"""Reading a topic as any outsider would: from its beginning, in no group, committing nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING, KafkaError, Message

from streamdrift.errors import ConfigurationError, FatalError
from streamdrift.kafka import client, codes
from streamdrift.kafka.client import ClientErrors, Cluster
from streamdrift.kafka.compacted import STALL_LIMIT
from streamdrift.kafka.offsets import Side, list_offsets
from streamdrift.records import Record, TopicPartition

BATCH = 1000
"""Messages a poll."""


class Subscriber:
    """All records of a topic that exists. To be used from one thread, within ``with``."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        """Raises ``BrokerUnreachable``, and ``ConfigurationError`` if there is no such topic."""
        self._cluster = cluster
        errors = ClientErrors(cluster.repeats)
        self._admin = client.admin(cluster, errors)
        topics = client.reach(cluster, self._admin, errors).topics
        if topic not in topics:
            raise ConfigurationError(f"topic {topic} does not exist on {cluster.bootstrap_servers}")
        self._positions = {TopicPartition(topic, number): 0 for number in topics[topic].partitions}
        self._consumer = client.reader(cluster, errors)
        self._consumer.assign(
            [confluent_kafka.TopicPartition(tp.topic, tp.partition, OFFSET_BEGINNING) for tp in self._positions]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._consumer.close()

    def poll(self, timeout: float) -> list[Record]:
        """What arrived, after ``timeout`` seconds at most. Raises ``FatalError`` if the topic cannot be read."""
        return self._records(self._consumer.consume(BATCH, timeout))

    def rest(self, polls: int = 50) -> list[Record]:
        """What was written by now and is not read yet, as far as ``polls`` of 0.1 s bring it."""
        ends = list_offsets(self._admin, list(self._positions), Side.END, self._cluster.request_timeout)
        records: list[Record] = []
        while polls and any(self._positions[tp] < end for tp, end in ends.items()):
            records += self.poll(0.1)
            polls -= 1
        return records

    def until_now(self) -> Iterator[Record]:
        """What was written by now and is not read yet, all of it. Raises ``FatalError`` if nothing comes."""
        ends = list_offsets(self._admin, list(self._positions), Side.END, self._cluster.request_timeout)
        moved = time.monotonic()
        while any(self._positions[tp] < end for tp, end in ends.items()):
            before = dict(self._positions)
            yield from self.poll(0.1)
            moved = time.monotonic() if self._positions != before else moved
            if time.monotonic() - moved > STALL_LIMIT:
                raise FatalError(f"no progress in reading for {STALL_LIMIT:g} s")

    def _records(self, messages: Sequence[Message]) -> list[Record]:
        records = []
        for message in messages:
            tp, offset, error = (
                TopicPartition(message.topic() or "", message.partition() or 0),
                message.offset(),
                message.error(),
            )
            if error is None:
                self._positions[tp] = (offset or 0) + 1
                records.append(
                    Record(offset or 0, message.timestamp()[1], message.key(), message.value(), _headers(message))
                )
            elif error.code() == codes.PARTITION_EOF:
                self._positions[tp] = offset or 0
            elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                continue  # of the name that librdkafka demands; a reader is in no group
            elif error.fatal() or not error.retriable():
                raise FatalError(f"kafka: cannot read {tp.topic}[{tp.partition}]: {error.str()}")
        return records


def _headers(message: Message) -> list[tuple[str, bytes | None]]:
    listed: list[tuple[str, bytes | None]] = message.headers() or []  # type: ignore[assignment]  # what was read is bytes
    return listed
