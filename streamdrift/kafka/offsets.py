"""The first or the end offsets of many partitions in one question, asked without blocking or awaited."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Since:
    """The first record from a time on, in milliseconds since the epoch."""

    milliseconds: int


def ask_offsets(
    admin: AdminClient, partitions: Collection[TopicPartition], side: Side | Since, timeout: float
) -> OffsetFutures:
    """Ask for one end of each partition, or for the first record since a time (-1: none), committed or not.

    READ_UNCOMMITTED: the last stable offset may stand before records whose transaction is decided
    already, while the marker that says so is on its way. ``timeout`` is in seconds.
    """
    spec = _SPECS[side] if isinstance(side, Side) else OffsetSpec.for_timestamp(side.milliseconds)
    asked = {confluent_kafka.TopicPartition(tp.topic, tp.partition): spec for tp in partitions}
    futures = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=timeout)
    return {TopicPartition(theirs.topic, theirs.partition): future for theirs, future in futures.items()}


def list_offsets(
    admin: AdminClient, partitions: Collection[TopicPartition], side: Side | Since, timeout: float
) -> dict[TopicPartition, int]:
    """One end of each partition, or the first record since a time (-1: none); raises ``KafkaException``."""
    if not partitions:
        return {}
    futures = ask_offsets(admin, partitions, side, timeout)
    return {tp: future.result().offset for tp, future in futures.items()}


_SPECS = {
    Side.START: OffsetSpec.earliest(),  # type: ignore[no-untyped-call]
    Side.END: OffsetSpec.latest(),  # type: ignore[no-untyped-call]
}
