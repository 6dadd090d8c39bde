"""Deleting what nobody needs any more from a topic that keeps its records for ever.

A log that joins two stages must not lose records to time (a stage may be down for longer than any retention), so
it has none, and the records below what its reader needs are deleted by the reader: Kafka Streams does the same with
its repartition topics (KIP-220).
"""

from __future__ import annotations

from collections.abc import Mapping

import confluent_kafka
import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamdrift.records import TopicPartition


class Trimmer:
    """Asks the brokers to delete records, without waiting for them. A refusal is logged once, and costs only disk."""

    def __init__(self, admin: AdminClient, timeout: float) -> None:
        self._admin = admin
        self._timeout = timeout
        self._asked: dict[TopicPartition, int] = {}
        self._refused = False

    def trim(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Delete every record below the given offsets, where that has not been asked for already."""
        fresh = {tp: offset for tp, offset in offsets.items() if offset > self._asked.get(tp, 0)}
        if not fresh or self._refused:
            return
        self._asked |= fresh
        bounds = [confluent_kafka.TopicPartition(*tp, offset) for tp, offset in fresh.items()]
        for future in self._admin.delete_records(bounds, request_timeout=self._timeout).values():
            future.add_done_callback(self._hear)

    def _hear(self, answer: object) -> None:
        try:
            answer.result()  # type: ignore[attr-defined]  # a Future, of a type that the client does not name
        except KafkaException as refusal:
            if not self._refused and not refusal.args[0].retriable():
                self._refused = True
                structlog.get_logger().warning("records cannot be deleted", reason=refusal.args[0].str())
