"""The first or the end offsets of many partitions in one question, asked without blocking or awaited."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from enum import Enum
from typing import TypeAlias

import confluent_kafka
from confluent_kafka import IsolationLevel
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

from streamdrift.records import TopicPartition

OffsetFutures: TypeAlias = "Mapping[TopicPartition, Future[ListOffsetsResultInfo]]"


class Side(Enum):
    """Which end of a partition."""

    START = "start"
    END = "end"


def ask_offsets(
    admin: AdminClient, partitions: Collection[TopicPartition], side: Side, timeout: float
) -> OffsetFutures:
    """Ask for one end of each partition, whether what stands there is committed or not.

    READ_UNCOMMITTED: the last stable offset may stand before records whose transaction is decided
    already, while the marker that says so is on its way. ``timeout`` is in seconds.
    """
    spec = _SPECS[side]
    asked = {confluent_kafka.TopicPartition(tp.topic, tp.partition): spec for tp in partitions}
    futures = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=timeout)
    return {TopicPartition(theirs.topic, theirs.partition): future for theirs, future in futures.items()}


def list_offsets(
    admin: AdminClient, partitions: Collection[TopicPartition], side: Side, timeout: float
) -> dict[TopicPartition, int]:
    """One end of each partition; raises ``KafkaException``."""
    if not partitions:
        return {}
    futures = ask_offsets(admin, partitions, side, timeout)
    return {tp: future.result().offset for tp, future in futures.items()}


_SPECS = {
    Side.START: OffsetSpec.earliest(),  # type: ignore[no-untyped-call]
    Side.END: OffsetSpec.latest(),  # type: ignore[no-untyped-call]
}
