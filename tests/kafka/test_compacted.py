"""Compacted topics are read completely: up to a barrier, and not past what is decided."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from uuid import uuid4

import confluent_kafka
import pytest

from streamdrift.errors import ConfigurationError
from streamdrift.kafka import client
from streamdrift.kafka.client import ClientErrors
from streamdrift.kafka.commit import publish
from streamdrift.kafka.compacted import read_compacted, read_partitions
from streamdrift.records import OutputRecord, TopicPartition
from tests.support.apache_kafka import ApacheKafka
from tests.support.brokers import Broker


@pytest.fixture
def topic(broker: Broker) -> str:
    name = f"topic-{uuid4().hex[:8]}"
    broker.create_topic(name)
    return name


def test_the_latest_value_of_each_key_is_read_and_deleted_keys_are_not(broker: Broker, topic: str) -> None:
    records = [(b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"c", b"1"), (b"b", None), (None, b"no key"), (b"d", b"")]
    publish(broker.cluster, [OutputRecord(topic, key, value) for key, value in records])
    assert read_compacted(broker.cluster, topic) == {b"a": b"2", b"c": b"1", b"d": b""}


def test_an_empty_topic_is_read_as_empty(broker: Broker, topic: str) -> None:
    assert read_compacted(broker.cluster, topic) == {}


def test_each_partition_is_read_for_itself(broker: Broker, topic: str) -> None:
    publish(broker.cluster, [OutputRecord(topic, b"key", b"%d" % number, (), number) for number in (0, 1, 3)])
    admin = client.admin(broker.cluster, ClientErrors())
    beats: list[None] = []
    states = read_partitions(
        broker.cluster, admin, [TopicPartition(topic, number) for number in (1, 2)], lambda: beats.append(None)
    )
    assert states == {TopicPartition(topic, 1): {b"key": b"1"}, TopicPartition(topic, 2): {}}
    assert beats


def test_a_topic_that_does_not_exist_is_an_error_of_the_configuration(apache_kafka: ApacheKafka) -> None:
    with pytest.raises(ConfigurationError, match="no-such-topic does not exist"):
        read_compacted(apache_kafka.cluster, "no-such-topic")


def test_a_partition_that_does_not_exist_is_an_error_of_the_configuration(broker: Broker, topic: str) -> None:
    admin = client.admin(broker.cluster, ClientErrors())
    with pytest.raises(ConfigurationError, match=rf"partition \[9\] of {topic}, which has 4"):
        read_partitions(replace(broker.cluster, request_timeout=0.5), admin, [TopicPartition(topic, 9)])


@pytest.mark.parametrize("commits", [True, False])
def test_reading_waits_for_a_transaction_that_is_open_at_the_barrier(
    apache_kafka: ApacheKafka, *, commits: bool
) -> None:
    topic = f"topic-{uuid4().hex[:8]}"
    apache_kafka.create_topic(topic, 1)
    publish(apache_kafka.cluster, [OutputRecord(topic, b"key", b"before")])
    writer = confluent_kafka.Producer(
        {"bootstrap.servers": apache_kafka.bootstrap_servers, "transactional.id": topic, "log_level": 0}
    )
    writer.init_transactions()
    writer.begin_transaction()
    writer.produce(topic, b"within", b"key")
    writer.flush()
    admin = client.admin(apache_kafka.cluster, ClientErrors())
    waiting = Event()
    beats: list[None] = []

    def beat() -> None:
        beats.append(None)
        if len(beats) > 6:  # the questions are answered, and some polls brought nothing more
            waiting.set()

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_partitions, apache_kafka.cluster, admin, [TopicPartition(topic, 0)], beat)
        assert waiting.wait(20)
        assert not reading.done()
        (writer.commit_transaction if commits else writer.abort_transaction)()
        expected = b"within" if commits else b"before"
        assert reading.result(20) == {TopicPartition(topic, 0): {b"key": expected}}
    writer.close()
