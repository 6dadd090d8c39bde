"""The newest records of topics, as an outsider reads them: in no group, committing and writing nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka.admin import AdminClient

from streamdrift.errors import FatalError
from streamdrift.kafka import client, codes
from streamdrift.kafka.client import ClientErrors, Cluster
from streamdrift.kafka.messages import batches_of, partition_of, theirs_at
from streamdrift.kafka.offsets import Side, list_offsets
from streamdrift.records import Position, RecordBatch, TopicPartition

_POLL: float = 0.1
"""Seconds."""


def newest(
    cluster: Cluster, topics: Collection[str], count: int, seconds: float
) -> dict[str, Sequence[RecordBatch] | None]:
    """At most ``count`` of the last records of each topic, those with the latest times; None if there is no such topic.

    What has not come after ``seconds`` is left out. Raises ``BrokerUnreachable``, and ``ConfigurationError`` or
    ``FatalError`` where reading is refused.
    """
    errors = ClientErrors(cluster.repeats)
    admin = client.admin(cluster, errors)
    known = client.reach(cluster, admin, errors).topics
    found: dict[str, Sequence[RecordBatch] | None] = {}
    for topic in topics:
        if topic in known:
            partitions = [TopicPartition(topic, number) for number in known[topic].partitions]
            found[topic] = _read(cluster, admin, errors, partitions, count, seconds)
        else:
            found[topic] = None
    return found


def _read(
    cluster: Cluster,
    admin: AdminClient,
    errors: ClientErrors,
    partitions: Sequence[TopicPartition],
    count: int,
    seconds: float,
) -> list[RecordBatch]:
    until = time.monotonic() + seconds
    try:
        starts, ends = (list_offsets(admin, partitions, side, cluster.request_timeout) for side in Side)
    except KafkaException as error:
        raise FatalError(f"kafka: cannot read {partitions[0].topic}: {error.args[0].str()}") from None
    open_ = {tp: Position(max(starts[tp], ends[tp] - count)) for tp in partitions if starts[tp] < ends[tp]}
    consumer = client.reader(cluster, errors)
    try:
        consumer.assign(theirs_at(open_))
        messages = _consume(consumer.consume, set(open_), ends, until)
    finally:
        consumer.close()
    messages.sort(key=lambda message: (message.timestamp()[1], message.partition() or 0, message.offset() or 0))
    return list(batches_of(messages[-count:]))


def _consume(
    consume: Callable[[int, float], Sequence[Message]],
    missing: set[TopicPartition],
    ends: Mapping[TopicPartition, int],
    until: float,
) -> list[Message]:
    """The messages up to the ends, as far as they come in time; markers of transactions take offsets too."""
    messages: list[Message] = []
    while missing and time.monotonic() < until:
        for message in consume(1_000, _POLL):
            tp, error = partition_of(message), message.error()
            if error is None:
                messages.append(message)
                if (message.offset() or 0) + 1 >= ends[tp]:
                    missing.discard(tp)
            elif error.code() == codes.PARTITION_EOF:
                missing.discard(tp)
            elif error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED and (error.fatal() or not error.retriable()):
                raise FatalError(f"kafka: cannot read {tp.topic}[{tp.partition}]: {error.str()}")
    return messages
