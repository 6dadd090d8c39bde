"""How the demo sends: at a pace, never too far ahead of its readers, with a marker at each end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from streamdrift.demo.feed import MAX_AHEAD, Feed, Plan
from streamdrift.generator import LABELS_TOPIC, PREDICTIONS_TOPIC, Rollout, Traffic
from streamdrift.generator.pace import to_us
from streamdrift.kafka.embedded import EMBEDDED_PARTITIONS, EmbeddedBroker
from streamdrift.kafka.subscriber import Subscriber
from streamdrift.kafka.topics import TopicSpec, ensure_topics
from streamdrift.records import Record

START = datetime(2026, 3, 2, tzinfo=UTC)
RATE = 1000 / 3600


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        ensure_topics(broker.cluster, [TopicSpec(PREDICTIONS_TOPIC), TopicSpec(LABELS_TOPIC)])
        yield broker


PARTITIONS = {PREDICTIONS_TOPIC: EMBEDDED_PARTITIONS, LABELS_TOPIC: EMBEDDED_PARTITIONS}


def feed(broker: EmbeddedBroker, hours: float, seconds: float, read: Callable[[], int] | None = None) -> Feed:
    plan = Plan(Traffic(1, START, RATE), START + timedelta(hours=hours), seconds)
    return Feed(broker.cluster, plan, read, PARTITIONS)


def finish(feed: Feed) -> None:
    deadline = time.monotonic() + 60
    while feed.running and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not feed.running
    assert feed.error is None


def read_all(broker: EmbeddedBroker, topic: str) -> list[Record]:
    with Subscriber(broker.cluster, topic) as subscriber:
        return subscriber.rest()


def test_all_of_the_plan_arrives_with_its_event_time_and_a_marker_for_each_partition(broker: EmbeddedBroker) -> None:
    sending = feed(broker, hours=3, seconds=0.1)
    sending.start()
    finish(sending)
    records = read_all(broker, PREDICTIONS_TOPIC)
    events = [record for record in records if record.value is not None]
    markers = [record for record in records if record.value is None]
    assert len(events) == sending.plan.predictions == sending.progress.predictions
    assert [list(record.headers) for record in markers] == [[("streamdrift.control", b"end-of-stream")]] * 4
    assert {record.timestamp for record in markers} == {to_us(sending.plan.until) // 1000}
    for record in events[:10]:
        written = datetime.fromisoformat(msgspec.json.decode(record.value or b"")["timestamp"])
        assert record.timestamp == to_us(written) // 1000
    labels = read_all(broker, LABELS_TOPIC)
    assert sum(record.value is not None for record in labels) == sending.progress.labels > 0
    assert sum(record.value is None for record in labels) == EMBEDDED_PARTITIONS


def test_the_plan_takes_its_time(broker: EmbeddedBroker) -> None:
    began = time.monotonic()
    sending = feed(broker, hours=1, seconds=1.0)
    sending.start()
    finish(sending)
    assert time.monotonic() - began >= 0.9


def test_a_new_version_comes_once_it_was_asked_for_and_all_before_it_is_sent(broker: EmbeddedBroker) -> None:
    traffic = Traffic(1, START, RATE, rollout=Rollout("8", START + timedelta(hours=1)))
    asked: list[bool] = []
    plan = Plan(traffic, START + timedelta(hours=2), 0.1)
    sending = Feed(broker.cluster, plan, None, PARTITIONS, lambda: bool(asked))
    sending.start()
    expected = len(list(traffic.messages(until=START + timedelta(hours=1))))
    deadline = time.monotonic() + 30
    while sum(record.value is not None for record in read_all(broker, PREDICTIONS_TOPIC)) < expected:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert sending.progress.predictions == expected
    asked.append(True)
    finish(sending)
    assert sending.progress.predictions == len(list(traffic.messages(until=plan.until)))


def test_a_version_that_nobody_asks_for_comes_all_the_same(
    broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamdrift.demo.feed.ASKED_LIMIT", 0.2)
    traffic = Traffic(1, START, RATE, rollout=Rollout("8", START + timedelta(hours=1)))
    plan = Plan(traffic, START + timedelta(hours=2), 0.1)
    sending = Feed(broker.cluster, plan, None, PARTITIONS, lambda: False)
    sending.start()
    finish(sending)
    assert sending.progress.predictions == len(list(traffic.messages(until=plan.until)))


def test_readers_that_stand_still_are_waited_for(broker: EmbeddedBroker) -> None:
    sending = feed(broker, hours=24, seconds=0.1, read=lambda: 500)
    sending.start()
    before, sent = -1, 0
    while before < sent or sent == 0:
        before = sent
        time.sleep(0.5)
        sent = sending.progress.predictions
    assert sending.running
    sending.stop()
    assert MAX_AHEAD < sent <= MAX_AHEAD + 600


def test_readers_that_never_go_on_are_an_error(broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamdrift.demo.feed.STALL_LIMIT", 0.2)
    sending = feed(broker, hours=24, seconds=0.1, read=lambda: 0)
    sending.start()
    while sending.running:
        time.sleep(0.02)
    assert "nothing was read" in str(sending.error)
