"""Producing: a record counts as written once its delivery was reported, and not before."""

from __future__ import annotations

from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, Producer

from streamdrift.errors import DeliveryError
from streamdrift.kafka.commit import produce
from streamdrift.records import OutputRecord

RECORDS = [OutputRecord("alerts", b"key", b"%d" % number) for number in range(3)]


class Message:
    """What a delivery report is about."""

    def __init__(self, number: int) -> None:
        self._number = number

    def topic(self) -> str:
        return "alerts"

    def partition(self) -> int:
        return self._number % 2

    def offset(self) -> int:
        return 40 + self._number


class Broker:
    """A producer that takes every record, and reports on all of them when it is flushed."""

    def __init__(self, refused: int | None = None) -> None:
        self._refused = refused
        self._reports: list[Any] = []
        self.purged = False

    def produce(self, *_: object, on_delivery: object, headers: object) -> None:
        assert headers == []
        self._reports.append(on_delivery)

    def poll(self, timeout: float) -> int:
        assert timeout >= 0
        return 0

    def flush(self, timeout: float) -> int:
        assert timeout > 0
        for number, report in enumerate(self._reports):
            report(KafkaError(KafkaError._MSG_TIMED_OUT) if number == self._refused else None, Message(number))
        self._reports.clear()
        return 0

    def purge(self) -> None:
        self.purged = True


@pytest.mark.parametrize("refused", range(3))
def test_a_failed_delivery_that_is_only_reported_is_no_success(refused: int) -> None:
    broker = Broker(refused)
    with pytest.raises(DeliveryError, match=r"not written to alerts: .*_MSG_TIMED_OUT"):
        produce(cast("Producer", broker), RECORDS)
    assert broker.purged


def test_records_that_are_all_acknowledged_are_written() -> None:
    broker = Broker()
    produce(cast("Producer", broker), RECORDS)
    assert not broker.purged
