"""The loop that keeps a model alive, in memory: predictions and late labels in, a training asked for and fulfilled."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from zlib import crc32

import numpy as np
import pytest

from streamdrift.assembly import topology
from streamdrift.settings import Settings
from streamdrift.summaries.coverage import Fate
from streamdrift.topology import TopologyDriver
from tests.support import fraud

DAY_S: Final = 86_400
START_S: Final = 20_000 * DAY_S
DAYS, A_DAY, DECAYS_ON, TRAINED_ON = 12, 500, 4, 8
ALERTS, REQUESTS = "drift-alerts", "retraining-requests"


def settings(**changes: Any) -> Settings:  # noqa: ANN401 — values of the configuration
    """A configuration as a user would write it, with labels."""
    document: dict[str, Any] = {
        "kafka": {"bootstrap_servers": "localhost:9092", "start_from": "earliest"},
        "sources": [
            {"topic": "predictions", "kind": "predictions", "end_of_stream": True, "allowed_lateness": "1h"},
            {"topic": "labels", "kind": "labels", "end_of_stream": True},
        ],
        "time": {"tick": "30m", "idle": "hold"},
        "join": {"wait": "3d", "wait_for_prediction": "1d"},
        "defaults": {"warm_up": {"events": 500, "at_most": "1d", "at_least": 200}},
        "models": {
            "fraud": {
                "outcome": {"positive": "fraud", "negative": "legit"},
                "performance": {
                    "window": "1d",
                    "min_labels": 100,
                    "label_delay": "1d",
                    "metrics": {"accuracy": {"benchmark": 0.9, "tolerance": 0.05}},
                },
                "retraining": {
                    "policies": {"decay": {"when": "accuracy below benchmark", "windows": 2, "min_labels": 500}}
                },
            }
        },
        "topics": {"partitions": 2},
    }
    return Settings.model_validate(document | changes)


class Message(NamedTuple):
    """A record of an input topic."""

    milliseconds: int
    topic: str
    key: str
    value: bytes


@dataclass
class Traffic:
    """Predictions and labels of twelve days in every disorder, or all labels of a night at once."""

    nightly: bool = False

    def __post_init__(self) -> None:
        rng = np.random.default_rng(4)
        self.messages: list[Message] = []
        self.joined = 0
        for i in range(DAYS * A_DAY):
            day = i / A_DAY
            new = day >= TRAINED_ON
            wrong = rng.random() < (0.35 if day >= DECAYS_ON and not new else 0.1)
            true = rng.random() < 0.5
            score = float(rng.uniform(0.5, 1) if true ^ wrong else rng.uniform(0, 0.5))
            self._send(i, day * DAY_S, "8" if new else "7", true, score, rng)
        self.messages.sort()

    def _send(self, i: int, at: float, version: str, true: bool, score: float, rng: np.random.Generator) -> None:  # noqa: FBT001
        name, truth = f"p{i}", "fraud" if true else "legit"
        labelled = at + rng.uniform(60, 0.9 * DAY_S)
        if self.nightly:
            labelled = (at // DAY_S + 1) * DAY_S + 3_600
        kind = "plain" if self.nightly else rng.choice(KINDS, p=SHARES)
        prediction = {"prediction": {"score": score}, "features": {"amount": 1.0 + score}}
        arrives = at
        match kind:
            case "early":  # the label overtakes its prediction
                labelled, arrives = at + 60, at + 600
            case "revised":
                self._label(name, labelled, "legit" if true else "fraud")
                labelled += 3_600
            case "repeated":
                self._label(name, labelled + 1_800, truth)
                self._predict(name, arrives + 60, at, version, prediction)
            case "orphan":
                self._label(f"nobody{i}", labelled, truth)
                return
            case "pending":
                self._predict(name, arrives, at, version, prediction)
                return
        self.joined += 1
        self._predict(name, arrives, at, version, prediction)
        self._label(name, labelled, truth, revision=int(kind == "revised"), outcome_timestamp=START_S + at)

    def _predict(self, name: str, arrives: float, at: float, version: str, said: Mapping[str, Any]) -> None:
        body = {"prediction_id": name, "model_id": "fraud", "model_version": version, "timestamp": START_S + at, **said}
        self._add(arrives, "predictions", name, body)

    def _label(self, name: str, at: float, says: str, **more: Any) -> None:  # noqa: ANN401
        self._add(at, "labels", name, {"prediction_id": name, "model_id": "fraud", "label": says, **more})

    def _add(self, at: float, topic: str, name: str, body: Mapping[str, Any]) -> None:
        self.messages.append(Message(int((START_S + at) * 1_000), topic, name, json.dumps(body).encode()))


KINDS: Final = ("plain", "early", "revised", "repeated", "orphan", "pending")
SHARES: Final = (0.7, 0.05, 0.08, 0.07, 0.05, 0.05)


@functools.cache
def traffic(nightly: bool = False) -> Traffic:  # noqa: FBT001, FBT002 — a choice
    return Traffic(nightly)


class Story(NamedTuple):
    """What subscribers hear."""

    alerts: list[dict[str, Any]]
    requests: list[dict[str, Any]]

    def short(self) -> list[tuple[str, str, str]]:
        started = [(str(a["kind"]), str(a["phase"]), str(a["model_version"])) for a in self.alerts]
        return [each for each in started if each[1] != "updated"]


def run(
    messages: list[Message],
    *,
    partitions: int = 1,
    batch_size: int = 500,
    chunk: int = 2_500,
    restart_after: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> tuple[Story, TopologyDriver]:
    """Send everything in the order of its arrival, end the streams, and listen."""
    driver = TopologyDriver(topology(settings(**(changes or {}))), partitions=partitions, batch_size=batch_size)
    for start in range(0, len(messages), chunk):
        for message in messages[start : start + chunk]:
            number = crc32(message.key.encode()) % partitions
            key = message.key.encode()
            driver.send(message.topic, message.value, key=key, partition=number, timestamp=message.milliseconds)
        driver.run()
        if restart_after is not None and start <= restart_after < start + chunk:
            driver.restart()
    driver.end_of_stream()
    driver.run()
    driver.run()
    requests = [json.loads(record.value or b"") for record in driver.read(REQUESTS)]
    for request in requests:
        del request["provenance"]
    return Story(fraud.told(driver.alerts), requests), driver


@pytest.fixture(scope="module")
def expected() -> Story:
    """What is said of one partition that is read in one go."""
    story, _ = run(traffic().messages, batch_size=4_096, chunk=len(traffic().messages))
    return story


def test_drift_labels_incident_request_new_version_resolved(expected: Story) -> None:
    kinds = {"performance", "concept_drift"}
    assert {each for each in expected.short() if each[0] in kinds} == {
        (kind, phase, "7") for kind in kinds for phase in ("started", "resolved")
    }
    performance = next(a for a in expected.alerts if a["kind"] == "performance")
    assert performance["severity"] == "critical"
    [metric] = performance["metrics"]
    assert 0.6 < metric["value"] < 0.7
    assert 0.9 < metric["coverage"] < 1
    requested, fulfilled, compared = expected.requests
    assert requested["phase"] == "requested"
    assert requested["incident_ids"] == [performance["incident_id"]]
    assert (fulfilled["phase"], fulfilled["new_version"]) == ("fulfilled", "8")
    assert compared["comparison"][0]["metric"] == "accuracy"
    assert {each["request_id"] for each in expected.requests} == {requested["request_id"]}


@pytest.mark.parametrize(
    ("partitions", "batch_size", "chunk", "restart_after"),
    [(1, 137, 1_501, None), (3, 500, 2_500, 4_000), (8, 61, 3_001, 9_000)],
)
def test_partitions_poll_sizes_and_restarts_change_nothing(
    expected: Story, partitions: int, batch_size: int, chunk: int, restart_after: int | None
) -> None:
    story, _ = run(
        traffic().messages, partitions=partitions, batch_size=batch_size, chunk=chunk, restart_after=restart_after
    )
    assert story == expected


def test_a_nightly_dump_of_labels_with_old_times_is_judged_by_the_windows_of_its_predictions() -> None:
    story, driver = run(traffic(nightly=True).messages, partitions=3)
    windows = [metric["window"]["from"] for a in story.alerts for metric in a.get("metrics", ())]
    assert windows[0] == "2024-10-08T00:00:00Z", "the fifth day"
    assert [request["phase"] for request in story.requests] == ["requested", "fulfilled", "fulfilled"]
    status = driver.detect.outcomes["fraud", "8"]
    assert status.late == 0
    again, _ = run(traffic(nightly=True).messages, batch_size=77, chunk=3_333)
    assert again == story


def test_a_model_of_which_nothing_is_said_is_learned_from_its_labels(expected: Story) -> None:
    models = settings().model_dump(mode="json", exclude_unset=True, by_alias=True)["models"]
    del models["fraud"]["outcome"]
    story, driver = run(traffic().messages, partitions=3, changes={"models": models})
    assert story == expected
    grid = driver.detect.outcomes["fraud", "8"].grid
    assert grid is not None
    assert grid.classes == ("legit", "fraud")


def test_every_prediction_is_labelled_pending_or_expired() -> None:
    """In the join's own counts, and in what detect shows of a version."""
    _, driver = run(traffic().messages, partitions=3)
    assert driver.join is not None
    [joined] = driver.join.joins()
    assert joined.fates["labelled"] == traffic().joined
    assert joined.fates["predicted"] == joined.fates["labelled"] + joined.pending + joined.fates["expired"]
    of_version = driver.detect.outcomes["fraud", "8"].coverage
    assert of_version[Fate.PREDICTED] == of_version[Fate.LABELLED] + of_version.pending + of_version[Fate.EXPIRED]
    assert of_version[Fate.LABELLED] > 1_000
    assert driver.detect.outcomes["fraud", ""].coverage[Fate.ORPHAN] == joined.fates["orphan"] > 0
