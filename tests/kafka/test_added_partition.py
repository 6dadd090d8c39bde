"""What a client remembers of a topic must not keep it from a partition that was added."""

from __future__ import annotations

from uuid import uuid4

from confluent_kafka.admin import NewPartitions

from streamdrift.kafka import client
from streamdrift.kafka.client import ClientErrors
from streamdrift.kafka.offsets import Side, list_offsets
from streamdrift.kafka.starts import Starts
from streamdrift.records import Position, TopicPartition
from streamdrift.stages.stage import StartFrom
from tests.support.apache_kafka import ApacheKafka


def test_the_start_of_an_added_partition_is_found_by_a_client_that_knew_the_topic_before(
    apache_kafka: ApacheKafka,
) -> None:
    topic, cluster, errors = f"topic-{uuid4().hex[:8]}", apache_kafka.cluster, ClientErrors()
    apache_kafka.create_topic(topic, 2)
    admin, consumer = client.admin(cluster, errors), client.group_consumer(cluster, f"group-{topic}", errors)
    try:
        list_offsets(admin, [TopicPartition(topic, 0), TopicPartition(topic, 1)], Side.END, 10.0)
        admin.create_partitions([NewPartitions(topic, 3)])[topic].result()
        added = TopicPartition(topic, 2)
        starts = Starts(cluster, consumer, admin, lambda _: StartFrom.EARLIEST)
        assert starts.resolve([added], lambda: None) == {added: Position(0)}
    finally:
        consumer.close()
