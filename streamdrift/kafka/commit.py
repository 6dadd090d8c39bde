"""Carrying out what a stage wants to become true: records produced, offsets committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Protocol, Self

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from streamdrift.errors import DeliveryError, StreamdriftError
from streamdrift.kafka import client, codes
from streamdrift.kafka.client import ClientErrors, Cluster
from streamdrift.kafka.messages import Theirs, partition_of, theirs_at
from streamdrift.records import Commit, OutputRecord, TopicPartition

DeliveryReport = Callable[[KafkaError | None, Message], None]


class Committer(Protocol):
    """Makes a stage's ``Commit`` true; the loop calls it from its one thread."""

    def carry_out(self, commit: Commit, consumer: Consumer) -> Mapping[TopicPartition, int]:
        """Return once all of ``commit`` is acknowledged, for the group that ``consumer`` is a member of.

        What is returned is the offset behind the last record of ``state`` in each partition that got one.

        Blocks, for at most a delivery time-out and the cluster's patience. Raises ``FatalError``:
        nothing is known then of what came through, and the process should be restarted.
        """


class AtLeastOnce:
    """Produce, see every record acknowledged, then commit the offsets.

    After a crash between the two, up to one commit is repeated.
    """

    def __init__(self, cluster: Cluster, errors: ClientErrors | None = None) -> None:
        """Raises ``ConfigurationError`` for properties that librdkafka does not accept."""
        self._patience = cluster.patience
        self._producer = client.producer(cluster, errors or ClientErrors(cluster.repeats))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def carry_out(self, commit: Commit, consumer: Consumer) -> Mapping[TopicPartition, int]:
        if commit.outputs:
            produce(self._producer, commit.outputs)
        ends = produce(self._producer, commit.state) if commit.state else {}
        if commit.offsets:
            self._commit(commit, consumer)
        return ends

    def close(self) -> None:
        """Give up what was not acknowledged (only a failure leaves any) and end the producer's threads."""
        self._producer.purge()
        self._producer.close()

    def _commit(self, commit: Commit, consumer: Consumer) -> None:
        offsets = theirs_at(commit.offsets)
        try:
            client.insist(lambda: _commit_offsets(consumer, offsets), self._patience)
        except MembershipLost as lost:
            # The partitions are another member's by now, or read again from where they were committed: the records
            # above may be repeated, which at_least_once allows. Their loss is told by the next poll.
            structlog.get_logger().warning("offsets not committed", reason=str(lost))


class MembershipLost(StreamdriftError):
    """The group went on without this member."""


def produce(producer: Producer, records: Iterable[OutputRecord]) -> Mapping[TopicPartition, int]:
    """Produce all of ``records`` and wait until each is acknowledged; the offset behind the last in each partition.

    Raises ``DeliveryError`` if one is not; nothing of ``records`` is left in the producer then.
    """
    failures: list[str] = []
    ends: dict[TopicPartition, int] = {}

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failures.append(_refusal(message.topic(), error))
        else:
            ends[partition_of(message)] = (message.offset() or 0) + 1  # in the order of offsets: it is idempotent

    for record in records:
        try:
            _enqueue(producer, record, delivered)
        except KafkaException as refused:
            failures.append(_refusal(record.topic, refused.args[0]))
        if failures:
            break
    # Ends by itself: within delivery.timeout.ms each record is either acknowledged or failed.
    while not failures and producer.flush(1.0):
        pass
    if failures:
        producer.purge()
        raise DeliveryError(f"a record was not written to {failures[0]}")
    return ends


def publish(cluster: Cluster, records: Iterable[OutputRecord]) -> None:
    """Write a few records outside of any stage, such as grids and control records at start.

    Raises ``DeliveryError`` unless all of them were acknowledged.
    """
    writer = client.producer(cluster, ClientErrors(cluster.repeats))
    try:
        produce(writer, records)
    finally:
        writer.close()


def _enqueue(producer: Producer, record: OutputRecord, delivered: DeliveryReport) -> None:
    """Hand ``record`` to the producer, waiting for room in its queue."""
    partition = -1 if record.partition is None else record.partition
    headers: list[tuple[str, str | bytes | None]] = list(record.headers)
    while True:
        try:
            producer.produce(record.topic, record.value, record.key, partition, on_delivery=delivered, headers=headers)
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


def _refusal(topic: str | None, error: KafkaError) -> str:
    return f"{topic}: {error.str()} ({error.name()})"


def _commit_offsets(consumer: Consumer, offsets: Theirs) -> None:
    """Commit synchronously; raises ``MembershipLost``, and ``KafkaException`` for any partition that failed."""
    try:
        answers = consumer.commit(offsets=offsets, asynchronous=False)
    except KafkaException as failure:
        errors = [failure.args[0]]
    else:
        errors = [answer.error for answer in answers if answer.error is not None]
    for error in errors:
        if error.code() in codes.MEMBERSHIP_LOST:
            raise MembershipLost(error.str())
        raise KafkaException(error)
