"""Topics are created where they are missing, verified where they exist, and never changed."""

from __future__ import annotations

from uuid import uuid4

import pytest

from streamdrift.errors import BrokerUnreachable, ConfigurationError
from streamdrift.kafka.client import Cluster
from streamdrift.kafka.embedded import EMBEDDED_PARTITIONS
from streamdrift.kafka.topics import TopicSpec, ensure_topics
from tests.support.apache_kafka import ApacheKafka
from tests.support.brokers import Broker, EmbeddedTestBroker


def new_name() -> str:
    return f"topic-{uuid4().hex[:8]}"


def test_a_missing_topic_is_created_as_specified_and_found_the_next_time(apache_kafka: ApacheKafka) -> None:
    alerts = TopicSpec(
        new_name(), 3, {"cleanup.policy": "compact,delete", "retention.ms": "86400000"}, {"cleanup.policy"}
    )
    summaries = TopicSpec(new_name(), 2, {"retention.ms": "-1"}, {"retention.ms"})
    for _ in range(2):
        counts = ensure_topics(apache_kafka.cluster, [alerts, summaries])
        assert counts == {alerts.name: 3, summaries.name: 2}


def test_a_topic_without_a_partition_count_takes_what_is_there(apache_kafka: ApacheKafka) -> None:
    name = new_name()
    apache_kafka.create_topic(name, 5)
    assert ensure_topics(apache_kafka.cluster, [TopicSpec(name)]) == {name: 5}


def test_the_order_of_cleanup_policies_does_not_matter(apache_kafka: ApacheKafka) -> None:
    name = new_name()
    apache_kafka.create_topic(name, 1, {"cleanup.policy": "delete,compact"})
    ensure_topics(
        apache_kafka.cluster,
        [TopicSpec(name, config={"cleanup.policy": "compact,delete"}, verified={"cleanup.policy"})],
    )


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (TopicSpec("", 2), "has 4 partitions, but should have 2"),
        (
            TopicSpec("", config={"cleanup.policy": "compact"}, verified={"cleanup.policy"}),
            "has cleanup.policy=delete, but should have compact",
        ),
    ],
)
def test_a_topic_that_is_not_as_it_must_be_is_refused(
    apache_kafka: ApacheKafka, spec: TopicSpec, complaint: str
) -> None:
    name = new_name()
    apache_kafka.create_topic(name, 4)
    with pytest.raises(ConfigurationError, match=f"topic {name} {complaint}"):
        ensure_topics(apache_kafka.cluster, [TopicSpec(name, spec.partitions, spec.config, spec.verified)])


def test_a_missing_topic_of_somebody_else_is_refused_and_nothing_is_created(apache_kafka: ApacheKafka) -> None:
    missing, own = new_name(), new_name()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=f"topic {missing}$"):
            ensure_topics(apache_kafka.cluster, [TopicSpec(own), TopicSpec(missing, create=False)])
    with pytest.raises(ConfigurationError, match=f"topic {own}$"):
        ensure_topics(apache_kafka.cluster, [TopicSpec(own, create=False)])


def test_a_topic_that_the_broker_refuses_is_an_error_of_the_configuration(apache_kafka: ApacheKafka) -> None:
    with pytest.raises(ConfigurationError, match="cannot be created"):
        ensure_topics(apache_kafka.cluster, [TopicSpec(new_name(), config={"cleanup.policy": "sometimes"})])


def test_topics_of_the_embedded_broker_appear_as_they_are(embedded_broker: EmbeddedTestBroker) -> None:
    counts = ensure_topics(
        embedded_broker.cluster, [TopicSpec("one", 1, {"cleanup.policy": "compact"}), TopicSpec("two")]
    )
    assert counts == {"one": EMBEDDED_PARTITIONS, "two": EMBEDDED_PARTITIONS}


def test_ensuring_nothing_shows_that_the_cluster_answers(broker: Broker) -> None:
    assert ensure_topics(broker.cluster, []) == {}
    with pytest.raises(BrokerUnreachable):
        ensure_topics(Cluster("127.0.0.1:9", request_timeout=0.3), [])
