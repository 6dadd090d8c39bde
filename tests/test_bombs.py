"""Names without end: whatever arrives, memory has a bound, and the alerts of a legitimate model stay what they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from streamdrift.assembly import topology
from streamdrift.generator import MODEL_ID, MODEL_VERSION, PREDICTIONS_TOPIC
from streamdrift.topology import TopologyDriver
from tests.support import fraud

HOURS = 14
"""The unit bug of the first hours, from its start to its height."""
A_MESSAGE = 2
"""Messages of the bomb beside each legitimate one."""

Bomb = Callable[[int, float], dict[str, Any]]


def event(time: float, **changes: object) -> dict[str, Any]:
    return {
        "model_id": "unknown",
        "model_version": "1",
        "timestamp": time,
        "features": {"x": 1.5},
        "prediction": {"score": 0.5},
        **changes,
    }


BOMBS: dict[str, Bomb] = {
    "models": lambda i, time: event(time, model_id=f"model-{i}"),
    "versions of a configured model": lambda i, time: event(time, model_id=MODEL_ID, model_version=f"v{i}"),
    "features": lambda i, time: event(time, features={f"feature-{i}-{k}": k for k in range(5)}),
    "categories": lambda i, time: event(time, features={"category": f"name-{i}"}),
    "ticks": lambda i, _: event(-1e9 + i * 7_919 % 1_000_000 * 2_700),
}


def run(directory: Path, bomb: Bomb | None) -> TopologyDriver:
    bounds = {"bounds.models": 50, "topics.partitions": 2}
    driver = TopologyDriver(topology(fraud.settings(directory, bounds)), batch_size=2_048)
    numbers = count()
    for start, message in enumerate(fraud.fraud_events(HOURS)):
        driver.send(PREDICTIONS_TOPIC, message.value)
        for value in _pieces(bomb, numbers, message.value):
            driver.send(PREDICTIONS_TOPIC, value, partition=0)
        if start % 1_000 == 999:
            driver.run()
    driver.end_of_stream()
    driver.run()
    driver.stop()
    return driver


def _pieces(bomb: Bomb | None, numbers: Iterator[int], beside: bytes) -> Iterator[bytes]:
    if bomb is not None:
        time = json.loads(beside)["timestamp"]
        for _ in range(A_MESSAGE):
            yield json.dumps(bomb(next(numbers), time)).encode()


def alerts_of_the_model(driver: TopologyDriver) -> list[dict[str, Any]]:
    return [a for a in fraud.told(driver.alerts) if (a["model_id"], a["model_version"]) == (MODEL_ID, MODEL_VERSION)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    alerts = alerts_of_the_model(run(tmp_path_factory.mktemp("undisturbed"), None))
    assert alerts
    return alerts


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_of_names_changes_no_alert_of_another_model_and_is_held_to_the_bounds(
    name: str, tmp_path: Path, undisturbed: list[dict[str, Any]]
) -> None:
    driver = run(tmp_path, BOMBS[name])
    assert alerts_of_the_model(driver) == undisturbed
    assert len(driver.detect.models) <= 2 * 50 + 16 + 1
    [source] = driver.summarise.status()
    assert source.consumed == source.summarised + source.late + source.over_bound + source.control
    assert source.summarised + source.late + source.over_bound == (1 + A_MESSAGE) * len(fraud.fraud_events(HOURS))
