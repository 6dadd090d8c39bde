"""A range of a topic is replayed as it is read live, and nothing is left behind on the brokers."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamdrift.errors import ConfigurationError
from streamdrift.events import SourceKind
from streamdrift.kafka.offsets import Side, Since
from streamdrift.kafka.ranges import Ranges
from streamdrift.replay.run import Replay
from streamdrift.replay.topics import open_topic, parse
from tests.replay.command import refusal
from tests.support import fraud
from tests.support.apache_kafka import ApacheKafka
from tests.support.brokers import Broker
from tests.test_service import Site, expected_alerts


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("topic:t", ("t", Side.START, Side.END)),
        ("topic:t@5..", ("t", 5, Side.END)),
        ("topic:t@..9", ("t", Side.START, 9)),
        ("topic:t@2026-11-22T10:00:00Z..", ("t", Since(1_795_341_600_000), Side.END)),
        ("topic:t@..2026-11-22T10:00:01.5+00:00", ("t", Side.START, Since(1_795_341_601_500))),
    ],
)  # fmt: skip
def test_a_range_is_between_offsets_or_times(origin: str, expected: object) -> None:
    assert parse(origin) == expected


@pytest.mark.parametrize("origin", ["topic:", "topic:t@5", "topic:t@a..b", "topic:t@2026-11-22T10:00:00.."])
def test_what_is_no_range_is_refused_with_an_example(origin: str) -> None:
    with pytest.raises(ConfigurationError, match=r"expected topic:NAME or topic:NAME@from\.\.to"):
        parse(origin)


def test_the_alerts_of_a_topic_are_those_of_the_same_events_in_memory(broker: Broker, tmp_path: Path) -> None:
    site = Site(broker, tmp_path, 4)
    site.send(fraud.fraud_events())
    site.end_stream()
    settings = site.settings()
    history, plan = open_topic(settings, f"topic:{site.source}", cluster=broker.cluster)
    assert history.survey.events == len(fraud.fraud_events()) + site.partitions
    alerts: list[dict[str, object]] = []
    for _ in Replay(history, plan, with_river=False).steps(lambda alert: alerts.append(dict(alert)), lambda _: None):
        pass
    assert fraud.told(alerts) == expected_alerts(tmp_path)


def test_offsets_bound_what_is_read_of_each_partition(broker: Broker, tmp_path: Path) -> None:
    site = Site(broker, tmp_path, 4)
    site.send(fraud.fraud_events()[:400])
    history, _ = open_topic(site.settings(), f"topic:{site.source}@10..25", cluster=broker.cluster)
    assert history.survey.events == 4 * 15
    messages = [*history.messages()]
    assert {message.kind for message in messages} == {SourceKind.PREDICTIONS}
    assert sorted((message.partition, message.place) for message in messages) == [
        (partition, offset) for partition in range(4) for offset in range(10, 25)
    ]


def test_a_range_ends_where_the_topic_does(broker: Broker, tmp_path: Path) -> None:
    site = Site(broker, tmp_path, 4)
    site.send(fraud.fraud_events()[:40])
    ranges = Ranges(broker.cluster)
    assert ranges.extent(site.source, 0, 1_000).records == 40
    assert ranges.extent(site.source, 1_000, 2_000).records == 0


def test_times_bound_what_is_read(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    site = Site(apache_kafka, tmp_path, 3)
    site.send(fraud.fraud_events()[:40])
    ranges = Ranges(apache_kafka.cluster)
    assert ranges.extent(site.source, Since(0), Since(4_000_000_000_000)).records == 40
    assert ranges.extent(site.source, Since(4_000_000_000_000)).records == 0
    assert ranges.extent(site.source, Side.START, Since(0)).records == 0


def test_a_topic_that_is_no_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fraud.settings(tmp_path)
    said = refusal(monkeypatch, tmp_path, "-c", "streamdrift.yaml", "-i", "topic:other")
    assert "expected a source of the configuration: topic:predictions" in said


def test_a_topic_needs_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--config" in refusal(monkeypatch, tmp_path, "-i", "topic:predictions")
