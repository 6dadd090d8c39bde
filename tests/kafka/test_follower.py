"""A compacted topic is followed: all of it first, and then what is written to it."""

from __future__ import annotations

from contextlib import closing
from uuid import uuid4

import pytest

from streamdrift.errors import ConfigurationError
from streamdrift.kafka.commit import publish
from streamdrift.kafka.follower import Follower
from streamdrift.records import OutputRecord
from tests.support.apache_kafka import ApacheKafka
from tests.support.brokers import Broker
from tests.support.waiting import wait_until


@pytest.fixture
def topic(broker: Broker) -> str:
    name = f"topic-{uuid4().hex[:8]}"
    broker.create_topic(name)
    return name


def write(broker: Broker, topic: str, *records: tuple[bytes | None, bytes | None], partition: int = 0) -> None:
    publish(broker.cluster, [OutputRecord(topic, key, value, (), partition) for key, value in records])


def test_what_is_there_is_given_at_once_and_what_comes_later_when_it_came(broker: Broker, topic: str) -> None:
    write(broker, topic, (b"a", b"1"), (None, b"no key"), (b"b", b"2"), (b"a", None))
    write(broker, topic, (b"c", b"3"), partition=3)
    with closing(Follower(broker.cluster, topic)) as follow:
        entries = follow()
        assert [entry for entry in entries if entry[0] != b"c"] == [(b"a", b"1"), (b"b", b"2"), (b"a", None)]
        assert (b"c", b"3") in entries
        assert follow() == []
        write(broker, topic, (b"a", b"4"), partition=1)
        wait_until(lambda: follow() == [(b"a", b"4")], 30, "what was written should be read")


def test_an_empty_topic_is_followed_from_its_first_record(broker: Broker, topic: str) -> None:
    with closing(Follower(broker.cluster, topic)) as follow:
        assert follow() == []
        write(broker, topic, (b"a", b"1"))
        wait_until(lambda: follow() == [(b"a", b"1")], 30, "what was written should be read")


def test_a_topic_that_does_not_exist_is_an_error_of_the_configuration(apache_kafka: ApacheKafka) -> None:
    with pytest.raises(ConfigurationError, match="no-such-topic does not exist"):
        Follower(apache_kafka.cluster, "no-such-topic")
