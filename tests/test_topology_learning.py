"""A model without a baseline, all the way in memory: it learns the same however its events are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_64_intdigest

from streamdrift.assembly import topology
from streamdrift.generator import MODEL_ID, MODEL_VERSION, PREDICTIONS_TOPIC, Message
from streamdrift.generator.script import EVENTS_PER_HOUR
from streamdrift.status import ModelState
from streamdrift.topology import TopologyDriver
from tests.support import fraud

MODEL = (MODEL_ID, MODEL_VERSION)
WARM_UP = {"defaults.warm_up": {"events": 5_000, "at_most": "7d", "at_least": 200}}


def driver(directory: Path, changes: Mapping[str, Any] | None = None, **options: Any) -> TopologyDriver:  # noqa: ANN401 — of the driver
    return TopologyDriver(
        topology(fraud.settings(directory, {**WARM_UP, **(changes or {})}, baseline=False)), **options
    )


def send(subject: TopologyDriver, events: Sequence[Message], partitions: int) -> None:
    for event in events:
        subject.send(
            PREDICTIONS_TOPIC, event.value, key=event.key, partition=xxh3_64_intdigest(event.value) % partitions
        )


def run(subject: TopologyDriver, events: Sequence[Message], *, partitions: int, chunk: int) -> tuple[str | None, Any]:
    """The id of the baseline that is learned, and the alerts."""
    for start in range(0, len(events), chunk):
        send(subject, events[start : start + chunk], partitions)
        subject.run()
    subject.end_of_stream()
    subject.run()
    return subject.detect.models[MODEL].baseline_id, fraud.told(subject.alerts)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[str | None, Any]:
    """Everything is read before anything is learned: detect counts all events of the warm-up itself."""
    subject = driver(tmp_path_factory.mktemp("expected"), batch_size=4_096)
    events = fraud.fraud_events()
    return run(subject, events, partitions=1, chunk=len(events))


def test_drift_is_found_against_what_was_learned(expected: tuple[str | None, Any]) -> None:
    baseline_id, alerts = expected
    assert baseline_id is not None
    bug = [alert for alert in alerts if alert["kind"] == "data_drift"]
    features = [{feature["feature"] for feature in alert["features"]} for alert in bug]
    assert (bug[0]["phase"], features[0]) == ("started", {"amount"})
    assert "amount" not in features[-1], "what is left is the hour of the day, of which the baseline covers five"
    assert {alert["baseline_id"] for alert in alerts} == {baseline_id}
    assert {alert["model_state"] for alert in alerts} == {"calibrating", "watching"}
    assert {alert["severity"] for alert in alerts if alert["model_state"] == "calibrating"} == {"info"}
    assert "critical" in {alert["severity"] for alert in bug}


@pytest.mark.parametrize("partitions", [1, 3, 8])
@pytest.mark.parametrize(("batch_size", "chunk"), [(137, 701), (4_096, 6_000)])
def test_baseline_and_alerts_are_the_same_for_any_partitions_and_poll_sizes(
    tmp_path: Path, expected: tuple[str | None, Any], partitions: int, batch_size: int, chunk: int
) -> None:
    subject = driver(tmp_path, partitions=partitions, batch_size=batch_size)
    assert run(subject, fraud.fraud_events(), partitions=partitions, chunk=chunk) == expected


@pytest.mark.parametrize("stop", [TopologyDriver.restart, TopologyDriver.crash], ids=["restart", "crash"])
@pytest.mark.parametrize("every", [1, 3])
def test_baseline_and_alerts_are_the_same_after_restarts_and_crashes(
    tmp_path: Path, expected: tuple[str | None, Any], stop: Callable[[TopologyDriver], None], every: int
) -> None:
    subject = driver(tmp_path, partitions=3)
    events = fraud.fraud_events()
    for i, start in enumerate(range(0, len(events), 900)):
        send(subject, events[start : start + 900], 3)
        subject.run()
        if i % every == 0:
            stop(subject)
    subject.end_of_stream()
    subject.run()
    baseline_id, alerts = expected
    assert subject.detect.models[MODEL].baseline_id == baseline_id
    told = {json.dumps(alert, sort_keys=True) for alert in fraud.told(subject.alerts)}
    assert told == {json.dumps(alert, sort_keys=True) for alert in alerts}


def test_nothing_is_reported_while_nothing_drifts_but_with_the_hour_of_the_day(tmp_path: Path) -> None:
    a_day = {"defaults.warm_up.events": 24 * EVENTS_PER_HOUR}
    subject = driver(tmp_path, a_day, partitions=3)
    baseline_id, alerts = run(subject, fraud.fraud_events(72, incidents=False), partitions=3, chunk=2_000)
    assert baseline_id is not None
    assert alerts == []


def test_summarise_counts_on_the_grid_as_soon_as_it_is_cut(tmp_path: Path) -> None:
    subject = driver(tmp_path)
    events = fraud.fraud_events()
    assert subject._topology.baselines == {}
    send(subject, events[:4_000], 1)
    subject.run()
    assert subject.detect.models[MODEL].state is ModelState.CALIBRATING
    subject.summarise.take(subject.now, final=True)
    grid = subject.summarise._grids.grid_of(*MODEL)
    assert grid is not None
    assert {column.name for column in grid.columns} >= {"amount", "country", "prediction.score"}


def test_a_baseline_that_is_configured_no_more_stays_in_effect(tmp_path: Path) -> None:
    events = fraud.fraud_events()
    subject = TopologyDriver(topology(fraud.settings(tmp_path)))
    send(subject, events[:6_000], 1)
    subject.run()
    before = subject.detect.models[MODEL]
    subject.reconfigure(topology(fraud.settings(tmp_path, baseline=False)))
    send(subject, events[6_000:], 1)
    subject.end_of_stream()
    subject.run()
    after = subject.detect.models[MODEL]
    assert (after.state, after.baseline_id) == (ModelState.WATCHING, before.baseline_id)
    assert subject.detect.counts.other_grid == 0
    assert {alert["kind"] for alert in subject.alerts} >= {"data_drift"}


def test_a_baseline_that_is_configured_takes_the_place_of_learning(tmp_path: Path) -> None:
    events = fraud.fraud_events()
    subject = driver(tmp_path)
    send(subject, events[:1_500], 1)
    subject.run()
    assert subject.detect.models[MODEL].state is ModelState.LEARNING
    configured = topology(fraud.settings(tmp_path))
    subject.reconfigure(configured)
    send(subject, events[1_500:3_000], 1)
    subject.end_of_stream()
    subject.run()
    [baseline] = configured.baselines.values()
    model = subject.detect.models[MODEL]
    assert (model.state, model.baseline_id) == (ModelState.CALIBRATING, baseline.id)
    assert subject.detect.counts.other_grid == 0
