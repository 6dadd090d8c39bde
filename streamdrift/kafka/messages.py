"""From the client's objects to records, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import confluent_kafka
from confluent_kafka import Message

from streamdrift.records import Headers, Position, RecordBatch, TopicPartition

Theirs: TypeAlias = list[confluent_kafka.TopicPartition]
"""Partitions as the client names them; unlike ours they carry an offset."""


def batch_of(messages: Sequence[Message]) -> RecordBatch:
    """The columns of messages that are all of one partition."""
    return RecordBatch(
        *partition_of(messages[0]),
        offsets=[message.offset() or 0 for message in messages],
        timestamps=[message.timestamp()[1] for message in messages],
        keys=[message.key() for message in messages],
        values=[message.value() for message in messages],
        headers=[_headers(message) for message in messages],
    )


def partition_of(message: Message) -> TopicPartition:
    """Where ``message``, or the news in its place, is from."""
    return TopicPartition(message.topic() or "", message.partition() or 0)


def ours(partitions: Theirs) -> list[TopicPartition]:
    """Without offsets."""
    return [TopicPartition(tp.topic, tp.partition) for tp in partitions]


def theirs(partitions: Iterable[TopicPartition]) -> Theirs:
    """With no offset set."""
    return [confluent_kafka.TopicPartition(tp.topic, tp.partition) for tp in partitions]


def theirs_at(positions: Mapping[TopicPartition, Position]) -> Theirs:
    """With offsets and metadata: to be read from there, or to be committed."""
    return [
        confluent_kafka.TopicPartition(tp.topic, tp.partition, position.offset, metadata=position.metadata)
        for tp, position in positions.items()
    ]


def _headers(message: Message) -> Headers:
    return message.headers() or ()  # type: ignore[return-value]  # a dict is only what a producer may be given
