"""Reading compacted topics completely: a stage's state at hand-over, the grids at start."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka.admin import AdminClient

from streamdrift.errors import ConfigurationError, FatalError
from streamdrift.kafka import client, codes
from streamdrift.kafka.client import ClientErrors, Cluster
from streamdrift.kafka.messages import partition_of, theirs_at
from streamdrift.kafka.offsets import Side, list_offsets
from streamdrift.records import Position, TopicPartition

Latest = dict[bytes, bytes]
"""The latest value of each key; deleted keys are absent."""

BATCH = 4096
"""Messages a poll."""

POLL_TIMEOUT = 0.1
"""Seconds for which a poll gathers messages."""

STALL_LIMIT = 60.0
"""Seconds without progress after which reading gives up: longer than a dead writer's transaction stays open."""


def read_compacted(cluster: Cluster, topic: str) -> Latest:
    """All of ``topic`` as it is now, all partitions in one.

    Raises ``BrokerUnreachable``, ``ConfigurationError`` if there is no such topic, ``FatalError``.
    """
    admin, partitions = partitions_of(cluster, topic)
    merged: Latest = {}
    for latest in read_partitions(cluster, admin, partitions).values():
        merged |= latest
    return merged


def partitions_of(cluster: Cluster, topic: str) -> tuple[AdminClient, list[TopicPartition]]:
    """The partitions of a topic, and who told. Raises as ``read_compacted``."""
    errors = ClientErrors(cluster.repeats)
    admin = client.admin(cluster, errors)
    metadata = client.reach(cluster, admin, errors)
    if topic not in metadata.topics:
        raise ConfigurationError(f"topic {topic} does not exist on {cluster.bootstrap_servers}")
    return admin, [TopicPartition(topic, number) for number in metadata.topics[topic].partitions]


def read_partitions(
    cluster: Cluster,
    admin: AdminClient,
    partitions: Collection[TopicPartition],
    beat: Callable[[], None] = lambda: None,
) -> dict[TopicPartition, Latest]:
    """The latest value of each key in each of ``partitions``, as of now or later.

    The barrier is the end of each partition at the time of the call, open transactions included: reading
    waits until they are decided. ``beat`` is called at least every second. Raises
    ``ConfigurationError`` for a partition that does not exist, ``FatalError`` when there is no progress.
    """
    consumer = client.reader(cluster, ClientErrors(cluster.repeats))
    try:
        _refuse_missing(cluster, consumer, partitions, beat)
        starts = offsets_of(cluster, admin, partitions, Side.START, beat)
        barriers = offsets_of(cluster, admin, partitions, Side.END, beat)
        states: dict[TopicPartition, Latest] = {tp: {} for tp in partitions}
        spans = {tp: range(starts[tp], barriers[tp]) for tp in partitions if starts[tp] < barriers[tp]}
        if spans:
            _read_spans(consumer, spans, states, beat)
        return states
    finally:
        consumer.close()


def _refuse_missing(
    cluster: Cluster, consumer: Consumer, partitions: Collection[TopicPartition], beat: Callable[[], None]
) -> None:
    def look() -> None:
        for topic in {tp.topic for tp in partitions}:
            present = consumer.list_topics(topic, timeout=cluster.request_timeout).topics[topic].partitions
            missing = [tp.partition for tp in partitions if tp.topic == topic and tp.partition not in present]
            if missing:
                code = KafkaError.UNKNOWN_TOPIC_OR_PART
                raise KafkaException(KafkaError(code, f"partition {missing} of {topic}, which has {len(present)}"))

    try:
        # Repeated: after a topic was made, not every broker knows it at once.
        client.insist(look, cluster.request_timeout, beat)
    except FatalError as failure:
        raise ConfigurationError(f"cannot read state: {failure}") from failure


def offsets_of(
    cluster: Cluster,
    admin: AdminClient,
    partitions: Collection[TopicPartition],
    side: Side,
    beat: Callable[[], None] = lambda: None,
) -> dict[TopicPartition, int]:
    """One end of each partition. Raises ``FatalError`` if no broker can tell."""
    return client.insist(lambda: list_offsets(admin, partitions, side, cluster.request_timeout), cluster.patience, beat)


def _read_spans(
    consumer: Consumer,
    spans: Mapping[TopicPartition, range],
    states: dict[TopicPartition, Latest],
    beat: Callable[[], None],
) -> None:
    """Read each partition into ``states``, over its span of offsets or further."""
    left = {tp: span.stop for tp, span in spans.items()}
    # Numbers, not OFFSET_BEGINNING: librdkafka would look that up half a second later, or three.
    consumer.assign(theirs_at({tp: Position(span.start) for tp, span in spans.items()}))
    moved = time.monotonic()
    while left:
        beat()
        messages = consumer.consume(BATCH, POLL_TIMEOUT)
        now = time.monotonic()
        moved = now if messages else moved
        if now - moved > STALL_LIMIT:
            stuck = ", ".join(f"{tp.topic}[{tp.partition}] before offset {end}" for tp, end in sorted(left.items()))
            raise FatalError(f"no progress in reading for {STALL_LIMIT:g} s: {stuck}")
        for message in messages:
            tp, reached = _take(message, states)
            if reached >= left.get(tp, reached + 1):
                del left[tp]


def _take(message: Message, states: dict[TopicPartition, Latest]) -> tuple[TopicPartition, int]:
    """Fold one message, or the news that the end is reached; returns the offset that comes next."""
    tp, reached, entry = read_message(message)
    if entry is not None:
        key, value = entry
        if value is None:
            states[tp].pop(key, None)
        else:
            states[tp][key] = value
    return tp, reached


def read_message(message: Message) -> tuple[TopicPartition, int, tuple[bytes, bytes | None] | None]:
    """Partition, the offset that comes next, and key and value of a message; None for what is no record with a key.

    The offset is -1 for an error that will pass. Raises ``FatalError`` for another.
    """
    tp = partition_of(message)
    offset = message.offset() or 0
    error = message.error()
    if error is not None:
        if error.code() == codes.PARTITION_EOF:
            return tp, offset, None
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return tp, -1, None  # a reader is in no group
        if error.fatal() or not error.retriable():
            raise FatalError(f"kafka: cannot read {tp.topic}[{tp.partition}]: {error.str()}")
        return tp, -1, None
    key = message.key()
    return tp, offset + 1, None if key is None else (key, message.value())
