"""Mutes over the whole way of an event: decided by event time, and the same however the events are read."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from streamdrift.assembly import topology
from streamdrift.generator import MODEL_ID, MODEL_VERSION
from streamdrift.settings import Settings
from streamdrift.status import MUTED, ModelStatus
from streamdrift.topology import TopologyDriver
from tests.support import fraud
from tests.test_topology import run

MODEL = (MODEL_ID, MODEL_VERSION)


def muted(directory: Path, until: timedelta) -> Settings:
    """The unit bug of 8:00 lasts until 17:00; nobody is told of amounts from 7:00 on for some hours."""
    times = [(fraud.START + hours).isoformat() for hours in (timedelta(hours=7), until)]
    mute = {"model": MODEL_ID, "features": ["am*"], "from": times[0], "to": times[1], "reason": "known bug"}
    return fraud.settings(directory, {"mute": [mute], "defaults.warm_up": {"events": 5_000}})


def told(
    directory: Path, until: timedelta, partitions: int = 1, restart_after: int | None = None
) -> tuple[list[dict[str, Any]], ModelStatus]:
    driver = TopologyDriver(topology(muted(directory, until)), partitions=partitions)
    alerts = run(driver, fraud.fraud_events(), partitions=partitions, restart_after=restart_after)
    return alerts, driver.detect.models[MODEL]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return told(tmp_path_factory.mktemp("expected"), timedelta(hours=12))[0]


def of_amount(alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [alert for alert in alerts if "amount" in {feature["feature"] for feature in alert["features"]}]


def test_a_bug_that_outlasts_the_mute_is_told_of_when_that_ends(expected: list[dict[str, Any]]) -> None:
    first, *_, last = of_amount(expected)
    assert first["phase"] == "started"
    assert first["event_time"] == (fraud.START + timedelta(hours=12, minutes=5)).isoformat().replace("+00:00", "Z")
    assert first["features"][0]["onset"] < first["event_time"]
    assert last["phase"] == "resolved"


@pytest.mark.parametrize(("partitions", "restart_after"), [(3, None), (1, 9_000), (3, 15_000)])
def test_the_same_is_muted_for_any_partitions_and_restarts(
    tmp_path: Path, expected: list[dict[str, Any]], partitions: int, restart_after: int | None
) -> None:
    assert told(tmp_path, timedelta(hours=12), partitions, restart_after)[0] == expected


def test_a_bug_within_the_mute_is_in_no_alert_and_in_the_history_with_the_reason(tmp_path: Path) -> None:
    alerts, model = told(tmp_path, timedelta(hours=48))
    assert of_amount(alerts) == []
    [incident] = [incident for incident in model.incidents if "amount" in incident.features]
    assert incident.phase == MUTED
    assert incident.resolved_us is not None
    assert incident.muted["amount"] == "known bug"
