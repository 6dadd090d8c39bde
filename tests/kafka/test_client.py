"""Configuration of the clients: what users may set, what they are told, what reaches the log."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError, KafkaException
from structlog.testing import capture_logs

from streamdrift.errors import BrokerUnreachable, ConfigurationError, FatalError
from streamdrift.kafka import client
from streamdrift.kafka.client import REFUSED_PROPERTIES, ClientErrors, Cluster, insist

NOBODY = "127.0.0.1:9"
"""The discard port, where nobody listens."""


@pytest.mark.parametrize("name", sorted(REFUSED_PROPERTIES))
def test_a_property_that_would_break_a_guarantee_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"kafka\.client\.{name} cannot be set: "):
        Cluster(NOBODY, {name: "x"})


@pytest.mark.parametrize("make", [client.admin, client.producer, client.reader])
def test_a_property_that_librdkafka_does_not_know_is_an_error_of_the_configuration(
    make: Callable[[Cluster, ClientErrors], object],
) -> None:
    with pytest.raises(ConfigurationError, match=r"no\.such\.thing"):
        make(Cluster(NOBODY, {"no.such.thing": 1}), ClientErrors())


def test_users_may_change_what_no_guarantee_rests_on() -> None:
    cluster = Cluster(NOBODY, {"compression.type": "zstd", "queued.max.messages.kbytes": 1024, "linger.ms": 0})
    client.producer(cluster, ClientErrors()).close()
    client.group_consumer(cluster, "group", ClientErrors()).close()


def test_a_cluster_where_nobody_answers_is_said_to_be_unreachable() -> None:
    cluster = Cluster(NOBODY, request_timeout=0.5)
    errors = ClientErrors()
    admin = client.admin(cluster, errors)
    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:9 within 0\.5 s: .*Connection refused"):
        client.reach(cluster, admin, errors)


def test_errors_that_pass_are_waited_for() -> None:
    failures = [KafkaError._TIMED_OUT, KafkaError.NOT_COORDINATOR]

    def answer() -> str:
        if failures:
            raise KafkaException(KafkaError(failures.pop()))
        return "answer"

    assert insist(answer, patience=5) == "answer"


@pytest.mark.parametrize(("code", "patience"), [(KafkaError._INVALID_ARG, 5.0), (KafkaError._TIMED_OUT, 0.01)])
def test_errors_that_do_not_pass_or_not_in_time_are_fatal(code: int, patience: float) -> None:
    def answer() -> None:
        raise KafkaException(KafkaError(code))

    with pytest.raises(FatalError):
        insist(answer, patience)


def test_an_error_that_repeats_is_counted_each_time_and_logged_once() -> None:
    errors = ClientErrors()
    with capture_logs() as logs:
        for _ in range(3):
            errors(KafkaError(KafkaError._TRANSPORT, "gone"))
    assert errors.counts == {"_TRANSPORT": 3}
    assert [entry["error"] for entry in logs] == ["_TRANSPORT"]


def test_the_clients_and_the_embedded_broker_write_nothing_past_the_log() -> None:
    """A broker that goes before its clients, the worst order, in a process of its own to see its stderr."""
    program = """
        import structlog
        from streamdrift.kafka import client
        from streamdrift.kafka.commit import publish
        from streamdrift.kafka.compacted import read_compacted
        from streamdrift.kafka.embedded import EmbeddedBroker
        from streamdrift.kafka.topics import TopicSpec, ensure_topics
        from streamdrift.records import OutputRecord

        structlog.configure(processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)])
        with EmbeddedBroker() as broker:
            ensure_topics(broker.cluster, [TopicSpec("topic")])
            publish(broker.cluster, [OutputRecord("topic", b"key", b"value")])
            assert read_compacted(broker.cluster, "topic") == {b"key": b"value"}
            errors = client.ClientErrors()
            producer = client.producer(broker.cluster, errors)
            producer.list_topics(timeout=5)
            consumer = client.group_consumer(broker.cluster, "group", errors)
            consumer.subscribe(["topic"])
            consumer.consume(1, 0.5)
        consumer.consume(1, 0.5)
        producer.poll(0.1)
        producer.close()
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True, timeout=60
    )
    assert (ended.stdout, ended.stderr) == ("", "")
