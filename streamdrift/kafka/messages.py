"""From the client's objects to records, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TypeAlias, TypeVar, overload

import confluent_kafka
from confluent_kafka import Message

from streamdrift.records import Headers, Position, RecordBatch, TopicPartition

T = TypeVar("T")

Theirs: TypeAlias = list[confluent_kafka.TopicPartition]
"""Partitions as the client names them; unlike ours they carry an offset."""


class _Column(Sequence[T]):
    """What is seldom asked for of messages: read when it is."""

    def __init__(self, messages: Sequence[Message], read: Callable[[Message], T]) -> None:
        self._messages = messages
        self._read = read

    def __len__(self) -> int:
        return len(self._messages)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> _Column[T]: ...
    def __getitem__(self, place: int | slice) -> T | _Column[T]:
        if isinstance(place, slice):
            return _Column(self._messages[place], self._read)
        return self._read(self._messages[place])


def batches_of(messages: Sequence[Message]) -> Iterator[RecordBatch]:
    """The records of messages as columns, a batch a partition."""
    partitions, topics = [*map(Message.partition, messages)], [*map(Message.topic, messages)]
    if messages and partitions.count(partitions[0]) == len(messages) == topics.count(topics[0]):
        return iter([_batch_of(messages)])  # most often
    places = zip(topics, partitions, strict=True)
    of_place: dict[tuple[str | None, int | None], list[Message]] = {}
    start = 0
    for place, run in groupby(places):  # a client hands messages over as they were fetched: in long runs
        stop = start + sum(1 for _ in run)
        of_place.setdefault(place, []).extend(messages[start:stop])
        start = stop
    return map(_batch_of, of_place.values())


def _batch_of(messages: Sequence[Message]) -> RecordBatch:
    """The columns of messages that are all of one partition."""
    return RecordBatch(
        *partition_of(messages[0]),
        offsets=_Column(messages, _offset),
        timestamps=[time for _, time in map(Message.timestamp, messages)],
        keys=_Column(messages, Message.key),
        values=list(map(Message.value, messages)),
        headers=_Column(messages, _headers),
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


def _offset(message: Message) -> int:
    return message.offset() or 0


def _headers(message: Message) -> Headers:
    return message.headers() or ()  # type: ignore[return-value]  # a dict is only what a producer may be given
