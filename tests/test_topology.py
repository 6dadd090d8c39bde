"""The whole way of an event, in memory: the same events give the same alerts however they are read."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from river import drift
from xxhash import xxh3_64_intdigest

from streamdrift.assembly import topology
from streamdrift.baselines import Baseline
from streamdrift.generator import PREDICTIONS_TOPIC, Message
from streamdrift.tables import baseline_from_columns
from streamdrift.topology import TopologyDriver
from tests.support import fraud

TICK_US = 300_000_000
WARM_UP = {"defaults.warm_up.events": 5_000}
"""So that the unit bug begins after it."""


def run(
    driver: TopologyDriver,
    events: Sequence[Message],
    *,
    partitions: int,
    chunk: int = 1_500,
    restart_after: int | None = None,
) -> list[dict[str, Any]]:
    """Send the events in order, spread over the partitions by their key, and end the stream."""
    for start in range(0, len(events), chunk):
        for event in events[start : start + chunk]:
            number = xxh3_64_intdigest(event.value) % partitions
            driver.send(PREDICTIONS_TOPIC, event.value, key=event.key, partition=number)
        driver.run()
        if restart_after is not None and start <= restart_after < start + chunk:
            driver.restart()
    driver.end_of_stream()
    driver.run()
    return fraud.told(driver.alerts)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The alerts of one partition, read in one go."""
    configuration = fraud.settings(tmp_path_factory.mktemp("expected"), WARM_UP)
    events = fraud.fraud_events()
    return run(TopologyDriver(topology(configuration), batch_size=4_096), events, partitions=1, chunk=len(events))


def test_the_unit_bug_starts_and_resolves_an_incident(expected: list[dict[str, Any]]) -> None:
    bug = [alert for alert in expected if alert["kind"] == "data_drift"]
    assert [alert["phase"] for alert in bug][:1] == ["started"]
    assert bug[-1]["phase"] == "resolved"
    assert {feature["feature"] for alert in bug for feature in alert["features"]} == {"amount"}
    assert bug[0]["severity"] == "info"
    assert bug[-1]["severity"] == "critical"


@pytest.mark.parametrize("partitions", [1, 3, 8])
@pytest.mark.parametrize(("batch_size", "chunk"), [(137, 1_501), (4_096, 6_000)])
def test_alerts_are_the_same_for_any_partitions_and_poll_sizes(
    tmp_path: Path, expected: list[dict[str, Any]], partitions: int, batch_size: int, chunk: int
) -> None:
    driver = TopologyDriver(topology(fraud.settings(tmp_path, WARM_UP)), partitions=partitions, batch_size=batch_size)
    assert run(driver, fraud.fraud_events(), partitions=partitions, chunk=chunk) == expected


@pytest.mark.parametrize("restart_after", [1_000, 9_000, 16_000, 20_500])
def test_alerts_are_the_same_after_a_clean_stop_and_restart(
    tmp_path: Path, expected: list[dict[str, Any]], restart_after: int
) -> None:
    driver = TopologyDriver(topology(fraud.settings(tmp_path, WARM_UP)), partitions=3)
    assert run(driver, fraud.fraud_events(), partitions=3, restart_after=restart_after) == expected


def test_after_a_crash_alerts_may_be_repeated_but_say_the_same(tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    driver = TopologyDriver(topology(fraud.settings(tmp_path, WARM_UP)), partitions=3)
    events = fraud.fraud_events()
    for start in range(0, len(events), 1_500):
        for event in events[start : start + 1_500]:
            driver.send(PREDICTIONS_TOPIC, event.value, partition=xxh3_64_intdigest(event.value) % 3)
        driver.run()
        if start in {9_000, 15_000}:
            driver.crash()
    driver.end_of_stream()
    driver.run()
    told = fraud.told(driver.alerts)
    assert len(told) >= len(expected)
    assert {json.dumps(alert, sort_keys=True) for alert in told} == {
        json.dumps(alert, sort_keys=True) for alert in expected
    }


def test_a_snapshot_older_than_the_committed_offset_is_folded_on_from_where_it_stands(
    tmp_path: Path, expected: list[dict[str, Any]]
) -> None:
    """A member that was taken for dead wrote its state over its successor's, which transactions alone could prevent."""
    driver = TopologyDriver(topology(fraud.settings(tmp_path, WARM_UP)), partitions=3, keep_log=True)
    events = fraud.fraud_events()
    for event in events[:9_000]:
        driver.send(PREDICTIONS_TOPIC, event.value, partition=xxh3_64_intdigest(event.value) % 3)
    driver.run()
    driver.stop()
    old = copy.deepcopy(driver._compacted)
    for event in events[9_000:15_000]:
        driver.send(PREDICTIONS_TOPIC, event.value, partition=xxh3_64_intdigest(event.value) % 3)
    driver.run()
    driver.stop()
    driver._compacted = old
    driver.crash()
    for event in events[15_000:]:
        driver.send(PREDICTIONS_TOPIC, event.value, partition=xxh3_64_intdigest(event.value) % 3)
    driver.end_of_stream()
    driver.run()
    assert {json.dumps(alert, sort_keys=True) for alert in fraud.told(driver.alerts)} == {
        json.dumps(alert, sort_keys=True) for alert in expected
    }


def test_nothing_is_reported_while_nothing_drifts(tmp_path: Path) -> None:
    driver = TopologyDriver(topology(fraud.settings(tmp_path)), partitions=3)
    assert run(driver, fraud.fraud_events(48, incidents=False), partitions=3) == []


# ---- River ---------------------------------------------------------------------------------------------------------


def adwin_by_hand(events: Sequence[Message]) -> list[int]:
    """The ticks in which River's ADWIN, fed the scores in order, detects a drift: one entry a detection."""
    ticks: dict[int, list[tuple[int, int, float]]] = defaultdict(list)
    for event in events:
        document = json.loads(event.value)
        time_us = round(datetime.fromisoformat(document["timestamp"]).timestamp() * 1e6)
        identity = xxh3_64_intdigest(document["prediction_id"].encode())
        ticks[time_us // TICK_US].append((time_us, identity, document["prediction"]["score"]))
    detector, detected = drift.ADWIN(delta=0.002), []  # type: ignore[no-untyped-call]  # River has no types here
    for tick, values in sorted(ticks.items()):
        for _, _, score in sorted(values):
            detector.update(score)  # type: ignore[no-untyped-call]  # likewise
            if detector.drift_detected:
                detected.append(tick)
    return detected


@pytest.mark.parametrize("partitions", [1, 8])
@pytest.mark.parametrize("watched", ["with a baseline", "without a baseline"])
def test_river_detects_what_it_detects_when_run_by_hand_on_the_sorted_series(
    tmp_path: Path, partitions: int, watched: str
) -> None:
    events = fraud.fraud_events()
    by_hand, baseline = adwin_by_hand(events), watched == "with a baseline"
    learns_later = {"defaults.warm_up.events": 2 * len(events)}
    driver = TopologyDriver(topology(fraud.settings(tmp_path, learns_later, baseline=baseline)), partitions=partitions)
    alerts = run(driver, events, partitions=partitions)
    (model,) = driver.detect.models.values()
    (river,) = model.river
    assert by_hand, "the traffic should make ADWIN detect something"
    assert river.detections == len(by_hand)
    assert river.last_detection_us == (by_hand[-1] + 1) * TICK_US
    if not baseline:
        assert alerts == [], "an uncalibrated detection alone wakes nobody"


def test_a_river_detector_with_alarm_opens_an_incident_at_its_first_detection(tmp_path: Path) -> None:
    events = fraud.fraud_events()
    river = [{"class": "drift.ADWIN", "delta": 0.002, "alarm": True}]
    driver = TopologyDriver(topology(fraud.settings(tmp_path, {"defaults.river": river}, baseline=False)), partitions=3)
    alerts = run(driver, events, partitions=3)
    first = datetime.fromisoformat(next(a for a in alerts if a["phase"] == "started")["event_time"])
    assert first.timestamp() * 1e6 == (adwin_by_hand(events)[0] + 1) * TICK_US


# ---- nothing is lost without a count -------------------------------------------------------------------------------

_MESSAGES = st.one_of(
    st.integers(0, 5_999).map(lambda i: fraud.fraud_events()[i].value),
    st.sampled_from(
        [b"", b"{", b"[]", b"null", b'{"model_id": "fraud"}', b"\xff\xfe", b'{"model_id": 1, "prediction": {}}']
    ),
    st.integers(0, 30).map(
        lambda i: json.dumps(
            {"model_id": f"unknown-{i}", "timestamp": 1_793_000_000 + i, "prediction": {"score": 0.5}}
        ).encode()
    ),
    st.just(json.dumps({"model_id": "m", "timestamp": "2300-01-01T00:00:00Z", "prediction": {"score": 1}}).encode()),
)


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 2), _MESSAGES), max_size=60),
    st.integers(1, 50),
    st.lists(st.integers(0, 60), max_size=3),
)
def test_every_record_is_summarised_late_dead_over_bound_or_control(
    tmp_path: Path, messages: list[tuple[int, bytes]], batch_size: int, runs: list[int]
) -> None:
    configuration = fraud.settings(tmp_path, {"bounds.models": 5, "time.tick": "10s"})
    driver = TopologyDriver(topology(configuration), partitions=3, batch_size=batch_size)
    for i, (partition, value) in enumerate(messages):
        driver.send(PREDICTIONS_TOPIC, value, partition=partition)
        if i in runs:
            driver.run()
    driver.end_of_stream()
    driver.run()
    (source,) = driver.summarise.status()
    dead = sum(source.dead.values())
    assert source.consumed == len(messages) + 3
    assert source.control == 3
    assert source.consumed == source.summarised + source.late + dead + source.over_bound + source.control
    assert len(driver.read("dead-letters")) == dead
    closed = sum(model.events for model in driver.detect.models.values())
    counts = driver.detect.counts
    assert source.summarised == closed + counts.late + counts.over_bound + counts.other_grid


# ---- time ----------------------------------------------------------------------------------------------------------


def tiny_baseline() -> Baseline:
    """A model of one feature, so that a million events are quick to read."""
    amounts = [float(i % 97) for i in range(5_000)]
    return baseline_from_columns({"amount": amounts}, model_id="tiny", model_version="1")


def test_a_million_events_of_one_time_are_alerted_within_two_minutes_of_silence(tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_bytes(tiny_baseline().to_json())
    configuration = fraud.settings(
        tmp_path,
        {
            "models": {"tiny": {"baselines": {"1": str(tmp_path / "tiny.json")}}},
            "sources": [{"topic": "predictions", "kind": "features"}],
            "time": {"tick": "10s", "idle": "advance"},
        },
        baseline=False,
    )
    now = datetime.fromisoformat("2026-11-03T02:00:00Z").timestamp()
    driver = TopologyDriver(topology(configuration), partitions=3, batch_size=4_096, now=now)
    dumped = [
        json.dumps(
            {
                "model_id": "tiny",
                "model_version": "1",
                "timestamp": "2026-11-03T01:59:30Z",
                "features": {"amount": 100.0 + i % 97},
            }
        ).encode()
        for i in range(1_000)
    ]
    for round_ in range(1_000):
        for i, value in enumerate(dumped):
            driver.send("predictions", value, partition=i % 3)
        if round_ % 20 == 19:
            driver.run()
    assert driver.alerts == []
    silence = 0.0
    while not driver.alerts and silence < 120:
        driver.advance(1.0)
        silence += 1.0
        driver.run()
    (alert,) = driver.alerts
    assert (alert["phase"], alert["kind"]) == ("started", "data_drift")
    assert alert["features"][0]["n_current"] == 1_000_000
    driver.advance(20 * 60)
    driver.run()
    assert [a["severity"] for a in driver.alerts] == ["info", "warning", "critical"]


def test_resident_memory_is_flat_from_the_second_to_the_seventh_day_at_a_tick_of_a_minute(tmp_path: Path) -> None:
    """In a process of its own: its resident set is that of the topology alone."""
    fraud.settings(tmp_path)
    result = subprocess.run(
        [sys.executable, "-m", "tests.support.week", str(tmp_path)], capture_output=True, text=True, check=True
    )
    measured = json.loads(result.stdout)
    second, seventh = measured["resident_bytes"]["2"], measured["resident_bytes"]["7"]
    assert measured["ticks"] >= 7 * 24 * 60 - 1
    assert seventh <= 1.05 * second + 10 * 2**20
    assert measured["cpu_seconds"] <= 180
