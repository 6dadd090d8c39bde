"""The broker of a benchmark, and its topics: filled once, read by every side.

The broker is never part of what is measured: Apache Kafka is a process of its own, and the embedded broker lives in
the process that starts the sides.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from streamdrift.kafka.commit import publish
from streamdrift.kafka.sender import Sender
from streamdrift.records import OutputRecord
from streamdrift.stages.inputs import CONTROL_HEADER, END_OF_STREAM
from tests.bench.events import Message, malformed, messages
from tests.support.apache_kafka import VERSION, ApacheKafka, KafkaUnavailable
from tests.support.brokers import Broker, EmbeddedTestBroker

PARTITIONS: Final = 4
EMBEDDED_BYTES: Final = 4 << 20
"""What may lie in a partition of the embedded broker, which drops the oldest beyond 5 MiB."""


@dataclass(frozen=True, slots=True)
class Place:
    """A running broker."""

    broker: Broker
    name: str
    embedded: bool


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that was filled."""

    name: str
    messages: int
    events: int
    """How many of the messages are well formed."""
    bytes: int
    """Of all values, before compression."""


class DoesNotFit(Exception):
    """The embedded broker cannot hold so many events."""


@contextmanager
def place(wanted: str) -> Iterator[Place]:
    """``apache``, ``embedded``, or for ``auto`` the first of them that is available."""
    if wanted != "embedded":
        try:
            with ApacheKafka() as kafka:
                yield Place(kafka, f"Apache Kafka {VERSION}", embedded=False)
                return
        except KafkaUnavailable as reason:
            if wanted == "apache":
                raise
            print(f"Without Apache Kafka ({reason}): on the embedded broker, which holds few events.", file=sys.stderr)
    with EmbeddedTestBroker() as broker:
        yield Place(broker, "embedded broker", embedded=True)


def most_events(features: int) -> int:
    """How many events of so many features the embedded broker holds."""
    sample = [len(value) for _, value, _ in messages(features, 200, 1.0)]
    return int(PARTITIONS * EMBEDDED_BYTES / (max(sample) + 100)) // 1000 * 1000


def room_for(place: Place, features: int, count: int) -> None:
    """Raises ``DoesNotFit`` unless the broker can hold so many events."""
    if place.embedded and count > most_events(features):
        raise DoesNotFit(
            f"the embedded broker keeps 5 MiB of a partition: {count} events of {features} features do not fit, "
            f"{most_events(features)} do (--events)"
        )


def fill(place: Place, name: str, events: Iterable[Message], bad: float = 0.0) -> Topic:
    """Make a topic of these messages, a share ``bad`` of them malformed, and a marker that ends it."""
    place.broker.create_topic(name, PARTITIONS, {"retention.ms": "-1", "segment.bytes": "67108864"})
    every = round(1 / bad) if bad else 0
    count = spoilt = size = 0
    with Sender(place.broker.cluster) as sender:
        for number, (key, event, time_us) in enumerate(events):
            value = event
            count += 1
            if every and number % every == every // 2:
                value = malformed(event, spoilt)
                spoilt += 1
            size += len(value)
            # By number, so that no partition gets more than its share.
            sender.send(name, key.encode(), value, time_us, partition=number % PARTITIONS)
        sender.flush()
    marker = [(CONTROL_HEADER, END_OF_STREAM)]
    publish(place.broker.cluster, (OutputRecord(name, None, None, marker, number) for number in range(PARTITIONS)))
    return Topic(name, count, count - spoilt, size)
